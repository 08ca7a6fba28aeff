"""Names, sentences and headers of random specs, in the manner of LLM-SR's file format."""

from __future__ import annotations

import keyword
import textwrap
from dataclasses import dataclass
from random import Random

# the sort of quantity by a word of its description, first match
_KIND_WORDS = (
    ("position", "position displacement coordinate state"),
    ("temperature", "temperature redshift"),
    ("acidity", "pH salinity"),
    ("velocity", "velocity speed"),
    ("angle", "angle phase elevation latitude"),
    ("time", "time age cycles"),
    ("concentration", "concentration dose humidity moisture mixing fraction"),
    ("population", "population biomass predators prey species"),
    ("light", "light luminosity rainfall leaf"),
    ("strain", "strain damage stress load"),
    ("rate", "rate flow Reynolds frequency price income"),
    (
        "size",
        "length mass radius distance height area volume thickness size depth density viscosity pressure",
    ),
    ("signal", "voltage current potential signal charge field force torque error"),
)
# words of a target that make a product of factors, or a sum of terms, the likelier form
_PRODUCT_WORDS = (
    "growth",
    "rate",
    "yield",
    "activity",
    "stress",
    "conductivity",
    "uptake",
    "mortality",
    "viscosity",
)
_SUM_WORDS = (
    "acceleration",
    "force",
    "torque",
    "velocity",
    "derivative",
    "signal",
    "price",
    "voltage",
    "energy",
)


def _kind(text: str) -> str:
    words = set(text.split())
    return next((kind for kind, known in _KIND_WORDS if words & set(known.split())), "")


def _product_share(target: str) -> float | None:
    words = set(target.split())
    if words & set(_SUM_WORDS):
        return 0.12
    return 0.45 if words & set(_PRODUCT_WORDS) else None


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", " ").split(";")]


# description | whether it can be negative | usual names
_TABLE = """
position|-|x pos position q displacement s_pos y
displacement|-|x u d disp displacement
velocity|-|v vel velocity x_dot dx u speed_x
angular velocity|-|omega w ang_vel theta_dot
angle|-|theta phi alpha angle a
acceleration|-|a acc accel g_x
force|-|F f force load
torque|-|tau torque M
voltage|-|V U volt voltage v_in
current|-|I i current amp
charge|-|q Q charge
temperature difference|-|dT delta_T dtemp
membrane potential|-|V Vm v_m potential
latitude|-|lat latitude
input signal|-|u x inp signal s
state of the system|-|x y z state x1 x2 x3
price change|-|dp r ret change
first coordinate|-|x x1 x0 q1
second coordinate|-|y x2 x1 q2
third coordinate|-|z x3 x2 q3
phase|-|phi phase psi
strain rate deviation|-|eps_dot e_dev dev
vertical position|-|z h y height
magnetic field|-|B b_field H
water potential|-|psi psi_w wp
net charge|-|z z_net net
error signal|-|e err error
slope|-|m_s slope grad
time|+|t time time_s tau hours
time since the start|+|t t_h time elapsed
temperature|+|T temp temperature temp_C T_c theta Temp
temperature in degrees Celsius|+|temp T temp_C Tc
absolute temperature|+|T T_K temp_K kelvin
pressure|+|p P pressure press p_kPa
density|+|rho density d dens
mass|+|m mass mass_kg M
body mass|+|m mass mass_kg W weight
length|+|L l length len_m
height|+|h height H z
radius|+|r R radius rad
distance|+|r d dist distance R
depth|+|z d depth h
area|+|A area S a_m2
volume|+|V vol volume
concentration|+|c C conc concentration c0
concentration of the substrate|+|s S substrate sub c_s
concentration of the nutrient|+|n N nutrient s
concentration of the inhibitor|+|i I inhib inhibitor c_i
concentration of the product|+|p P product prod
concentration of oxygen|+|o o2 O2 oxygen do
concentration of the reactant A|+|a A cA c_a ca
concentration of the reactant B|+|b B cB c_b cb
concentration of the enzyme|+|e E enzyme e0
concentration of the catalyst|+|k cat catalyst c_cat
population density|+|b n N pop density x
population size|+|N n pop population P
biomass|+|b x X biomass B
number of predators|+|y p pred predators P
number of prey|+|x n prey N
pH|+|pH ph acidity
salinity|+|S sal salinity
humidity|+|h rh RH humidity
light intensity|+|I light L par irradiance
wind speed|+|u w wind v_wind ws
flow rate|+|Q q flow flow_rate
frequency|+|f freq omega nu w
wavelength|+|lam wavelength wl
strain|+|e strain eps epsilon
strain rate|+|rate strain_rate edot eps_dot
stress|+|s stress sigma sig
grain size|+|d grain grain_size
porosity|+|n phi porosity por
moisture content|+|w moisture theta mc
dose|+|d dose D
age|+|a age age_y
energy|+|E energy e
power|+|P power pw
speed|+|v speed U vel
Reynolds number|+|Re re reynolds
stiffness|+|k K stiffness
resistance|+|R r res resistance
capacitance|+|C cap c_f
viscosity|+|mu eta visc viscosity
thickness|+|h t_mm thickness thick
price|+|p price P
income|+|y inc income
interest rate|+|r i rate
rainfall|+|r P rain rainfall
leaf area index|+|LAI lai L
soil temperature|+|Ts soil_temp T_soil
solar elevation|+|h elev solar
redshift|+|z redshift
luminosity|+|L lum
number of neurons|+|n N n_units
load|+|w load F_n
ratio of the two species|+|r ratio q
damage|+|D dmg damage
number of cycles|+|N cycles n_cyc
mixing ratio|+|x mix phi frac
volume fraction|+|phi f vf frac
"""
_QUANTITIES = [tuple(line.split("|")) for line in _TABLE.strip().splitlines()]
_TARGETS = _items(
    """
    acceleration; force; growth rate; stress; rate of the reaction; heat flux; velocity; population
    growth rate; torque; pressure drop; voltage; current; uptake rate; yield; energy; rate of change;
    flow rate; lift coefficient; drag; signal; power output; response; enzyme activity; stress response;
    firing rate; evaporation rate; damping force; photosynthesis rate; mortality; dose response;
    conductivity; viscosity; price; demand; density; metabolic rate; derivative of the state; angular
    acceleration; friction coefficient; decay rate; wear rate; torque ripple; efficiency
    """
)
_OBJECTS = _items(
    """
    oscillator; bacteria; population; pendulum; spring; rod; material; reactor; fluid; medium; circuit;
    plant; cell; neuron; beam; turbine; battery; star; particle; membrane; enzyme; soil; crop; forest;
    lake; glacier; engine; sensor; polymer; alloy; specimen; gas; liquid; catalyst; tissue; patient;
    market; vehicle; rotor; plasma; wire; column; bridge; colony; culture; yeast; algae; fish stock;
    insect; disease; drop; bubble; film; crystal; steel specimen; aluminium alloy; nonlinear oscillator;
    damped oscillator; driven oscillator; bacterial culture; chemical reaction; predator-prey system;
    system; process
    """
)
_ADJECTIVES = _items(
    """
    nonlinear; damped; driven; coupled; forced; stiff; slow; fast; stable; unstable; open; closed;
    ideal; real; small; large; wet; dry; warm; cold; saturated; porous; charged; rotating; elastic;
    viscous; turbulent; chaotic; synthetic; measured
    """
)
_SYLLABLES = _items(
    """
    ba; ce; di; fo; gu; ka; le; mi; no; pu; ra; se; ti; vo; xa; ze; lin; tor; mag; rho; eta; del; sig;
    bet; om; ne; va; q; z; w
    """
)
_GREEK = _items(
    """
    alpha; beta; gamma; delta; epsilon; zeta; eta; theta; kappa; lam; mu; nu; xi; rho; sigma; tau; phi;
    chi; psi; omega
    """
)
_UNITS = _items(
    """
    kg; m; s; K; C; mm; pa; kpa; mol; l; hz; rad; deg; 0; 1; 2; 3; in; out; max; eff; rel; norm; a; b
    """
)
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIKLMNPQRSTUVWXYZ"
_RESERVED = {"params", "np", "torch", "equation", "MAX_NPARAMS", "PRAMS_INIT", *keyword.kwlist}


@dataclass(frozen=True)
class Words:
    """What `llmsr.prompt.build_prompt` reads of a spec, and what the grammar needs to know."""

    preface: str
    function_name: str
    header: str
    docstring: str
    columns: tuple[str, ...]
    params_name: str
    max_params: int
    signed: frozenset[int]
    module: str
    kinds: tuple[str, ...]
    product: float | None


def random_name(rng: Random) -> str:
    """An identifier that no list holds."""
    draw = rng.random()
    if draw < 0.2:
        name = rng.choice(_LETTERS)
    elif draw < 0.35:
        name = f"{rng.choice('xxyuzqwvabc')}{rng.randrange(1, 10)}"
    elif draw < 0.45:
        name = rng.choice(_GREEK)
    elif draw < 0.55:
        name = f"{rng.choice(_GREEK + list(_LETTERS))}_{rng.choice(_UNITS)}"
    elif draw < 0.65:
        name = f"{rng.choice(_SYLLABLES)}{rng.choice(_SYLLABLES)}_{rng.choice(_UNITS)}"
    elif draw < 0.75:
        name = f"{rng.choice(_SYLLABLES)}{rng.choice(_SYLLABLES).title()}"
    elif draw < 0.8:
        name = "".join(rng.choice(_LETTERS) for _ in range(rng.choice((2, 3, 4))))
    else:
        name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3))))
    return name


def _columns(rng: Random) -> list[tuple[str, str, bool]]:
    """Name, description and sign of each input."""
    count = rng.choices((1, 2, 3, 4, 5, 6), (7, 33, 27, 22, 7, 4))[0]
    found: list[tuple[str, str, bool]] = []
    taken = set(_RESERVED)
    signed_share = rng.choice((0.1, 0.35, 0.7))
    anonymous = rng.random() < 0.12
    while len(found) < count:
        if anonymous:
            signed = rng.random() < 0.7
            text = rng.choice(("first input", "input", "feature", "variable", "predictor", "measured value"))
            name = f"x{len(found)}" if rng.random() < 0.3 else random_name(rng)
        else:
            text, sign, names = rng.choice(_QUANTITIES)
            signed = sign == "-"
            if signed != (rng.random() < signed_share):
                continue
            name = rng.choice(names.split()) if rng.random() < 0.72 else random_name(rng)
        if name in taken or (not anonymous and any(text == other for _, other, _ in found)):
            continue
        taken.add(name)
        found.append((name, text, signed))
    return found


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _thing(rng: Random) -> str:
    thing = rng.choice(_OBJECTS)
    return f"{rng.choice(_ADJECTIVES)} {thing}" if rng.random() < 0.3 else thing


def _task(rng: Random, target: str, thing: str, texts: list[str]) -> str:
    the = [f"the {text}" if rng.random() < 0.7 else text for text in texts]
    given = _listed(the)
    skeleton = "Find the mathematical function skeleton that represents"
    of = rng.choice((f" of the {thing}", f" of a {thing}", f" in a {thing}", f" in a {thing} system", ""))
    return rng.choice(
        (
            f"Find an equation for the {target}{of}, given {given}.",
            f"Find an equation for the {target}{of}, given its {_listed(texts)}.",
            f"Find an equation for {target}{of}, given {given}.",
            f"{skeleton} {target}{of}, given data on {_listed(texts)}.",
            f"{skeleton} the {target}{of}, given data on {given}.",
            f"Find a formula that predicts the {target}{of} from {given}.",
            f"Discover the law that governs the {target}{of} as a function of {given}.",
            f"The {target}{of} depends on {given}. Find an equation.",
            f"Symbolic regression: {target}{of} from {_listed(texts)}.",
            f"Model the {target}{of} with a closed-form expression of {given}.",
        )
    )


def _preface(rng: Random, task: str, most: int, torch: bool) -> str:
    width = rng.choice((80, 100, 112, 118, 200))
    task = textwrap.fill(task, width)
    if rng.random() < 0.12:
        task += "\n" + rng.choice(
            (
                "All quantities are in SI units.",
                "The data are measured.",
                "The constants are fitted to the data.",
                "Keep the equation short.",
                "Use at most ten constants.",
                "The data hold noise.",
                "Physical knowledge may be used.",
            )
        )
    quotes = rng.choice(('"""\n{}\n"""', '"""\n{}\n"""', '"""{}"""', '"""{}\n"""'))
    imports = ["import numpy as np"]
    if torch:
        imports.append("import torch")
    if not torch or rng.random() < 0.2:
        imports.append(
            rng.choice(("from scipy.optimize import minimize", "from scipy.optimize import minimize", ""))
        )
    if rng.random() < 0.1:
        imports.append(
            rng.choice(("import math", "import scipy", "import pandas as pd", "from typing import Any"))
        )
    comment = rng.choice(
        (
            "# the constants of an equation: at most MAX_NPARAMS, fitted from PRAMS_INIT",
            "# Initialize parameters",
            "#Initialize parameters",
            "# number of free constants",
            "",
            "",
        )
    )
    stars = " * " if rng.random() < 0.6 else "*"
    initial = rng.choice(
        (f"PRAMS_INIT = [1.0]{stars}MAX_NPARAMS",) * 4 + (f"PARAMS_INIT = [1.0]{stars}MAX_NPARAMS", "")
    )
    lines = [quotes.format(task), "", *(line for line in imports if line), ""]
    lines += [line for line in (comment, f"MAX_NPARAMS = {most}", initial) if line]
    text = "\n".join(lines)
    return (
        text
        if rng.random() < 0.97
        else quotes.format(task) + "\n\n" + "\n".join(line for line in imports if line)
    )


def _docstring(rng: Random, columns: list, target: str, thing: str, params: str) -> str:
    row = rng.choice((", one number per row", "", "", " (array)", ", shape (rows,)", ", in scaled units"))
    texts = [f"{text} of the {thing}" if rng.random() < 0.35 else text for _, text, _ in columns]
    first = rng.choice(
        (
            f"Equation for the {target} of the {thing}.",
            f"Equation for the {target}.",
            f"Mathematical function for {target} in a {thing}",
            f"The {target} of the {thing}.",
            f"{target.capitalize()} as a function of {_listed([name for name, _, _ in columns])}.",
            f"Return the {target}.",
        )
    )
    draw = rng.random()
    free = rng.choice(
        (
            "the free constants of the equation, fitted to the data.",
            "Array of numeric constants or parameters to be optimized",
            "free constants.",
            "constants to be fitted",
        )
    )
    if draw < 0.62:
        kind = rng.choice(("A numpy array representing observations of ", "", "", ""))
        stop = rng.choice((".", ""))
        args = [
            f"        {name}: {kind}{text}{row}{stop}"
            for (name, _, _), text in zip(columns, texts, strict=True)
        ]
        args.append(f"        {params}: {free}")
        end = rng.choice(("Return", "Returns", "Return"))
        result = rng.choice(
            (
                f"        {target} of the {thing}{row}{stop}",
                f"        {target}{row}{stop}",
                f"        A numpy array representing {target} as the result of the function.",
            )
        )
        gap = "\n" if rng.random() < 0.7 else ""
        args_text, close = "\n".join(args), rng.choice(("\n    ", "\n    ", ""))
        return f"{first}\n{gap}\n    Args:\n{args_text}\n{gap}\n    {end}:\n{result}{close}".replace(
            "\n\n\n", "\n\n"
        )
    if draw < 0.72:
        lines = "\n".join(f"    {name} : {text}" for (name, _, _), text in zip(columns, texts, strict=True))
        return f"{first}\n\n    Parameters\n    ----------\n{lines}\n    {params} : {free}\n    "
    if draw < 0.82:
        listed = "; ".join(f"{name}: {text}" for (name, _, _), text in zip(columns, texts, strict=True))
        return f"{first} {listed}."
    return first if draw < 0.96 else ""


def _header(rng: Random, names: list[str], function: str, params: str, torch: bool) -> str:
    kind = "torch.Tensor" if torch else "np.ndarray"
    draw = rng.random()
    if draw < 0.12:
        return f"def {function}({', '.join([*names, params])}):"
    typed = [f"{name}: {kind}" for name in (*names, params)]
    arrow = f" -> {kind}" if draw < 0.9 else ""
    line = f"def {function}({', '.join(typed)}){arrow}:"
    if len(line) > 112 and rng.random() < 0.5:
        return (
            f"def {function}(\n    {', '.join(typed)},\n){arrow}:"
            if draw < 0.5
            else (f"def {function}(\n" + "".join(f"    {item},\n" for item in typed) + f"){arrow}:")
        )
    return line


def random_words(rng: Random) -> Words:
    """The words of one random spec."""
    columns = _columns(rng)
    names = [name for name, _, _ in columns]
    target, thing = rng.choice(_TARGETS), _thing(rng)
    torch = rng.random() < 0.07
    most = 10 if rng.random() < 0.78 else rng.choice((3, 4, 5, 6, 7, 8, 8, 9, 12, 15, 20))
    params = "params" if rng.random() < 0.95 else rng.choice(("coef", "c_", "p_", "consts", "weights"))
    function = "equation" if rng.random() < 0.94 else rng.choice(("f", "model", "rate", "law", "func"))
    texts = [text for _, text, _ in columns]
    return Words(
        preface=_preface(rng, _task(rng, target, thing, texts), most, torch),
        function_name=function if function not in names else "equation",
        header=_header(rng, names, function if function not in names else "equation", params, torch),
        docstring=_docstring(rng, columns, target, thing, params),
        columns=tuple(names),
        params_name=params,
        max_params=most,
        signed=frozenset(i for i, (_, _, signed) in enumerate(columns) if signed),
        module="torch" if torch else "np",
        kinds=tuple(_kind(text) for text in texts),
        product=_product_share(target),
    )
