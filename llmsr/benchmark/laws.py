"""Known laws: the four problems of the mission and twenty classic equations, with what their columns mean.

A law is a skeleton over `params` with its true constants, so that one text serves for making data and for
asking whether a found equation is the law with other constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Column:
    """An input: its meaning, unit, training range, and the wider range that test_ood is drawn from."""

    name: str
    meaning: str
    unit: str
    inside: Range
    outside: Range


@dataclass(frozen=True)
class Law:
    """`body` is a function body over the columns and `params`, whose true values are `constants`."""

    body: str
    constants: tuple[float, ...]


@dataclass(frozen=True)
class BenchProblem:
    """A classic equation as a problem: data are drawn uniformly from the columns' ranges."""

    name: str
    task: str
    target: str
    meaning: str
    unit: str
    columns: tuple[Column, ...]
    law: Law


MISSION: Mapping[str, Law] = {
    "oscillator1": Law(
        "return params[0]*np.sin(x) + params[1]*v**3 + params[2]*x**3 + params[3]*x*v + "
        "params[4]*x*np.cos(x)",
        (0.8, -0.5, -0.2, -0.5, -1.0),
    ),
    "oscillator2": Law(
        "return params[0]*np.sin(t) + params[1]*v**3 + params[2]*x*v + params[3]*x*np.exp(params[4]*x)",
        (0.3, -0.5, -1.0, -5.0, 0.5),
    ),
    "bactgrow": Law(
        "heat = np.tanh(params[2]*(temp - params[3])) / (1 + params[4]*(temp - params[5])**4)\n"
        "acid = np.exp(-np.abs(pH - params[6])) * np.sin(params[7]*(pH - params[8]))**2\n"
        "return params[0]*b * s/(params[1] + s) * heat * acid",
        (0.5, 1.0, 0.4, 20.0, 0.005, 35.0, 7.0, 0.3141592653589793, 2.0),
    ),
}

# only the stand-in has a law; measured rows have none that anybody knows
STAND_IN_LAWS: Mapping[str, Law] = {
    "stressstrain": Law(
        "warm = np.maximum(0, (temp - params[4]) / params[5])\n"
        "flow = (params[1] - params[2]*strain**params[3]) * (1 - warm**params[6])\n"
        "return np.minimum(params[0]*strain, flow)",
        (36.2476, 0.8921, 0.3041, 3.2557, 0.0667, 1.0703, 1.8185),
    ),
}


def _problem(name: str, task: str, target: tuple[str, str, str], columns: list[Column], body: str,
             *constants: float) -> BenchProblem:  # fmt: skip
    return BenchProblem(name, task, *target, tuple(columns), Law(f"return {body}", constants))


C = Column

BENCH: Mapping[str, BenchProblem] = {
    problem.name: problem
    for problem in (
        _problem(
            "beam_intensity", "A laser beam with a bell-shaped profile falls on a screen.",
            ("intensity", "intensity at the point", "W/mm^2"),
            [C("power", "power of the beam", "W", (0.5, 3), (0.5, 6)),
             C("r", "distance from the beam's axis", "mm", (0, 2), (0, 3)),
             C("w", "radius of the beam where it falls", "mm", (0.8, 2), (0.8, 3))],
            "params[0]*power/w**2 * np.exp(params[1]*r**2/w**2)", 0.6366197723675814, -2.0,
        ),
        _problem(
            "doppler_shift", "A source of light moves away from the observer at a speed near that of light.",
            ("observed", "observed frequency", "THz"),
            [C("emitted", "emitted frequency", "THz", (100, 600), (50, 900)),
             C("beta", "speed of the source over the speed of light", "", (0.05, 0.7), (0.05, 0.95))],
            "emitted * np.sqrt((params[0] - beta)/(params[0] + beta))", 1.0,
        ),
        _problem(
            "image_distance", "A thin lens throws the image of an object that stands beyond its focus.",
            ("image", "distance of the image from the lens", "cm"),
            [C("focal", "focal length", "cm", (2, 8), (1, 10)),
             C("object_distance", "distance of the object from the lens", "cm", (12, 40), (12, 80))],
            "params[0]*focal*object_distance/(object_distance - focal)", 1.0,
        ),
        _problem(
            "throw_range", "A ball is thrown over level ground; the air is neglected.",
            ("distance", "distance at which the ball lands", "m"),
            [C("speed", "speed of the throw", "m/s", (5, 20), (5, 35)),
             C("angle", "angle above the ground", "rad", (0.2, 1.2), (0.05, 1.5))],
            "params[0]*speed**2*np.sin(params[1]*angle)", 0.10197162129779283, 2.0,
        ),
        _problem(
            "oscillator_energy", "A quantum oscillator is in contact with a heat bath.",
            ("energy", "mean energy above the ground state, in units of k", "K"),
            [C("omega", "energy quantum of the oscillator over k", "K", (50, 600), (50, 1200)),
             C("temperature", "temperature of the bath", "K", (100, 500), (60, 900))],
            "omega/(np.exp(params[0]*omega/temperature) - params[1])", 1.0, 1.0,
        ),
        _problem(
            "spin_magnetisation", "Independent magnetic moments align with a field against the heat.",
            ("magnetisation", "magnetisation", "kA/m"),
            [C("density", "number density of the moments", "1e27/m^3", (0.5, 3), (0.5, 6)),
             C("field", "magnetic flux density", "T", (0.1, 5), (0.1, 9)),
             C("temperature", "temperature", "K", (1, 8), (0.5, 12))],
            "params[0]*density*np.tanh(params[1]*field/temperature)", 9.274, 0.6717,
        ),
        _problem(
            "dipole_field", "The field of a small bar magnet is measured far away from it.",
            ("field", "magnitude of the flux density", "uT"),
            [C("moment", "magnetic moment of the magnet", "A*m^2", (0.5, 5), (0.5, 10)),
             C("r", "distance from the magnet", "m", (0.2, 0.6), (0.15, 1)),
             C("theta", "angle between the axis and the direction to the point", "rad", (0, 1.5), (0, 3))],
            "params[0]*moment/r**3*np.sqrt(1 + params[1]*np.cos(theta)**2)", 0.1, 3.0,
        ),
        _problem(
            "driven_amplitude", "A damped spring is driven by a periodic force and has settled.",
            ("amplitude", "amplitude of the motion", "mm"),
            [C("force", "amplitude of the force over the mass", "mm/s^2", (1, 5), (1, 9)),
             C("omega", "angular frequency of the force", "1/s", (0.5, 4), (0.2, 6)),
             C("omega0", "angular frequency of the free spring", "1/s", (1, 3), (1, 4.5))],
            "force/np.sqrt((omega0**2 - omega**2)**2 + params[0]*omega**2)", 0.36,
        ),
        _problem(
            "plane_attraction", "Two bodies in a plane attract each other.",
            ("force", "magnitude of the attraction", "N"),
            [C("m1", "mass of the first body", "t", (1, 5), (1, 9)),
             C("m2", "mass of the second body", "t", (1, 5), (1, 9)),
             C("dx", "difference of the first coordinates", "mm", (1, 4), (0.5, 7)),
             C("dy", "difference of the second coordinates", "mm", (1, 4), (0.5, 7))],
            "params[0]*m1*m2/(dx**2 + dy**2)", 66.743,
        ),
        _problem(
            "two_beam_interference", "Two beams of coherent light meet.",
            ("intensity", "intensity where they meet", "mW/cm^2"),
            [C("i1", "intensity of the first beam alone", "mW/cm^2", (0.5, 4), (0.5, 8)),
             C("i2", "intensity of the second beam alone", "mW/cm^2", (0.5, 4), (0.5, 8)),
             C("phase", "difference of phase", "rad", (0, 4), (-3, 7))],
            "i1 + i2 + params[0]*np.sqrt(i1*i2)*np.cos(phase)", 2.0,
        ),
        _problem(
            "diode_current", "A diode lets current pass in one direction.",
            ("current", "current through the diode", "uA"),
            [C("voltage", "voltage over the diode", "V", (-0.1, 0.3), (-0.3, 0.38)),
             C("saturation", "saturation current", "uA", (0.01, 0.1), (0.01, 0.2))],
            "saturation*(np.exp(params[0]*voltage) - params[1])", 25.85, 1.0,
        ),
        _problem(
            "real_gas_pressure", "A real gas is kept in a vessel.",
            ("pressure", "pressure", "bar"),
            [C("n", "amount of gas", "mol", (0.5, 2), (0.5, 3)),
             C("temperature", "temperature", "K", (280, 450), (250, 600)),
             C("volume", "volume of the vessel", "l", (0.5, 3), (0.35, 5))],
            "params[0]*n*temperature/(volume - params[1]*n) - params[2]*n**2/volume**2",
            0.08314, 0.0427, 3.64,
        ),
        _problem(
            "inhibited_enzyme", "An enzyme works on a substrate while an inhibitor competes for it.",
            ("rate", "rate of the reaction", "umol/min"),
            [C("substrate", "concentration of the substrate", "mmol/l", (0.1, 10), (0.1, 25)),
             C("inhibitor", "concentration of the inhibitor", "mmol/l", (0, 5), (0, 12))],
            "params[0]*substrate/(params[1] + params[2]*inhibitor + substrate)", 7.5, 1.8, 0.9,
        ),
        _problem(
            "reaction_constant", "A reaction goes faster when it is warm.",
            ("rate", "rate constant", "1/s"),
            [C("energy", "activation energy", "kJ/mol", (20, 40), (15, 55)),
             C("temperature", "temperature", "K", (280, 400), (250, 500))],
            "params[0]*np.exp(params[1]*energy/temperature)", 5000.0, -120.27,
        ),
        _problem(
            "prey_growth", "Hares live with lynxes that eat them.",
            ("dx", "change of the number of hares", "1000/year"),
            [C("x", "number of hares", "1000", (0.5, 4), (0.2, 8)),
             C("y", "number of lynxes", "1000", (0.2, 3), (0.1, 6))],
            "params[0]*x + params[1]*x*y", 1.1, -0.4,
        ),
        _problem(
            "relaxation_oscillator", "A circuit with a valve swings by itself.",
            ("dv", "change of v", "1/s^2"),
            [C("x", "current in the circuit, scaled", "", (-2, 2), (-3.5, 3.5)),
             C("v", "change of the current, scaled", "1/s", (-3, 3), (-5, 5))],
            "params[0]*(1 - x**2)*v - x", 1.7,
        ),
        _problem(
            "nerve_potential", "A nerve cell is excited by a current.",
            ("dv", "change of the potential", "1/ms"),
            [C("v", "potential of the membrane, scaled", "", (-2, 2), (-3.5, 3.5)),
             C("w", "recovery variable", "", (-0.5, 1.5), (-1, 3)),
             C("current", "current put into the cell, scaled", "", (0, 1), (0, 2))],
            "params[0]*v + params[1]*v**3 - w + current", 1.0, -0.3333333333333333,
        ),
        _problem(
            "convection", "A fluid is heated from below and turns over in rolls.",
            ("dy", "change of y", "1/s"),
            [C("x", "strength of the flow", "", (-15, 15), (-25, 25)),
             C("y", "difference of temperature between rising and sinking flow", "", (-20, 20), (-35, 35)),
             C("z", "distortion of the vertical profile of temperature", "", (5, 40), (0, 60))],
            "x*(params[0] - z) - y", 28.0,
        ),
        _problem(
            "respiration", "Bacteria take up oxygen and a nutrient that hinders them when there is much "
            "of it.",
            ("dx", "change of the nutrient", "mmol/l/h"),
            [C("x", "concentration of the nutrient", "mmol/l", (0.1, 8), (0.1, 16)),
             C("y", "concentration of the oxygen", "mmol/l", (0.1, 10), (0.1, 20))],
            "params[0] - x - x*y/(1 + params[1]*x**2)", 12.0, 0.5,
        ),
        _problem(
            "budworm", "Insects multiply in a forest and are eaten by birds.",
            ("dn", "change of the density of insects", "1/month"),
            [C("n", "density of the insects, scaled", "", (0.1, 8), (0.1, 16)),
             C("k", "density that the leaves can feed, scaled", "", (5, 12), (4, 20))],
            "params[0]*n*(1 - n/k) - n**2/(params[1] + n**2)", 0.55, 1.0,
        ),
    )
}  # fmt: skip
