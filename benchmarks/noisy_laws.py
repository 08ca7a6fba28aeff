"""How many textbook laws the pick names where the target is noisy and rows are few.

    python benchmarks/noisy_laws.py --half tune [--noise 0 0.01 0.05 0.2] [--rows 20 80 1000] [--cells DIR]

Each cell is a law, a noise (normal, as a share of the target's spread) and a number of rows. What the search
without a model finds in it is kept below --cells, so that rules of choice are compared over the same
equations: only the choice is made again. A law is named where the pick says, on a box twice as wide as the
data's, what the law says with some constants: its skeleton, fitted to the predictions, leaves an NMSE of
1e-10. The half `report` is for figures: it was not looked at while the rule was chosen; `named` are eight
of its laws.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.laws import Kept, NoModel
from llmsr.evaluator import Evaluator
from llmsr.expression import Expression, Refusal, parse
from llmsr.expression.graph import evaluate
from llmsr.fitting.multistart import Search
from llmsr.fitting.residuals import lay_out
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.loading import Problem
from llmsr.problem.split import Split
from llmsr.report.front import Front, PickedFront
from llmsr.sample import Sample
from llmsr.search import search
from llmsr.settings import SearchSettings

SAME = 1e-10  # NMSE of the law's skeleton, fitted to the predictions of an equation that names it
BOX_ROWS, WIDER = 300, 2.0


@dataclass(frozen=True)
class Law:
    """A law: `text` in its columns and constants, the constants' values, and the columns' ranges."""

    name: str
    text: str
    constants: dict[str, float]
    ranges: dict[str, tuple[float, float]]

    def skeleton(self, fixed: bool = False) -> Expression:
        """The law with free constants, or with its own ones."""
        text = self.text
        for index, (name, value) in enumerate(self.constants.items()):
            text = re.sub(rf"\b{name}\b", repr(value) if fixed else f"params[{index}]", text)
        found = parse(f"return {text}", list(self.ranges))
        assert not isinstance(found, Refusal), (self.name, found)
        return found

    def problem(self, rows: int, noise: float, wider: float = 1.0, seed: int = 0) -> Problem:
        """Rows drawn evenly from the columns' ranges; a range that spans a decade at zero stays positive."""
        draw = np.random.default_rng([zlib.crc32(self.name.encode()), rows, seed])
        low, high = np.array(list(self.ranges.values())).T
        inputs = draw.uniform(low / wider, high * wider, (rows, len(low)))
        target = evaluate(self.skeleton(fixed=True), inputs, np.empty(0))
        target = target + noise * np.std(target) * draw.standard_normal(rows)
        return table_problem(inputs, target, Labels(tuple(self.ranges), "y_"))

    def named_by(self, expression: Expression, params: Sequence[float]) -> bool:
        """Whether the law with some constants says what an equation says, on the wider box."""
        box = self.problem(BOX_ROWS, 0.0, WIDER, seed=1).train
        told = evaluate(expression, box.inputs, np.asarray(params, float))
        if not np.isfinite(told).all() or not np.ptp(told):
            return False
        search = Search(self.skeleton(), lay_out(Split(box.inputs, told)), np.inf)
        search.polish(np.array(list(self.constants.values())), 200, 1e-12)
        return search.best is not None and search.best.squares <= SAME * search.data.power


def _law(name: str, text: str, constants: dict[str, float], **ranges: tuple[float, float]) -> Law:
    return Law(name, text, constants, ranges)


NAMED = (
    _law("kepler", "k*a**1.5", {"k": 1.0}, a=(0.3, 30)),
    _law("coulomb", "k*q1*q2/r**2", {"k": 8.99}, q1=(0.5, 3), q2=(0.5, 3), r=(0.5, 3)),
    _law("michaelis_menten", "v*s/(k + s)", {"v": 4.2, "k": 1.7}, s=(0.1, 10)),
    _law("arrhenius", "a*np.exp(-e/T)", {"a": 50.0, "e": 900.0}, T=(250, 500)),
    _law("ideal_gas", "R*n*T/V", {"R": 8.314}, n=(0.5, 3), T=(250, 400), V=(1, 10)),
    _law("decay_to_plateau", "a*np.exp(-k*t) + c", {"a": 3.0, "k": 0.8, "c": 1.2}, t=(0, 6)),
    _law("kinetic_energy", "h*m*v**2", {"h": 0.5}, m=(1, 10), v=(0.5, 8)),
    _law("thin_lens", "f*d/(d - f)", {"f": 0.8}, d=(1.2, 6)),
)  # fmt: skip
REPORT = (
    *NAMED,
    _law("torricelli", "c*np.sqrt(h)", {"c": 4.43}, h=(0.1, 5)),
    _law("beer_lambert", "i*np.exp(-e*c*x)", {"i": 2.0, "e": 0.9}, c=(0.1, 2), x=(0.1, 2)),
    _law("parallel_resistors", "c*r1*r2/(r1 + r2)", {"c": 1.0}, r1=(1, 20), r2=(1, 20)),
    _law("stefan_boltzmann", "s*A*(T**4 - T0**4)", {"s": 5.67}, A=(0.5, 2), T=(3, 6), T0=(2, 3)),
    _law("stopping_distance", "r*v + b*v**2", {"r": 1.1, "b": 0.07}, v=(2, 40)),
    _law("manning", "c*R**(2/3)*np.sqrt(S)/n", {"c": 1.0}, R=(0.2, 4), S=(0.001, 0.02), n=(0.01, 0.05)),
    _law("lennard_jones", "a/r**12 - b/r**6", {"a": 4.0, "b": 4.0}, r=(0.98, 2)),
    _law("swinging_spring", "a*np.cos(w*t)", {"a": 1.4, "w": 2.1}, t=(0, 8)),
)  # fmt: skip
TUNE = (
    _law("kleiber", "c*m**0.75", {"c": 3.4}, m=(0.05, 50)),
    _law("poiseuille", "c*p*r**4/(m*l)", {"c": 0.39}, p=(1, 5), r=(0.5, 2), m=(0.5, 2), l=(1, 4)),
    _law("drag", "h*c*r*v**2", {"h": 0.5}, c=(0.3, 1.2), r=(0.9, 1.3), v=(5, 40)),
    _law("capacitor", "u*(1 - np.exp(-t/k))", {"u": 5.0, "k": 1.3}, t=(0.05, 6)),
    _law("langmuir", "q*k*p/(1 + k*p)", {"q": 2.6, "k": 0.4}, p=(0.1, 15)),
    _law("hill_two", "v*s**2/(k + s**2)", {"v": 3.0, "k": 4.0}, s=(0.1, 8)),
    _law("haldane", "v*s/(k + s + s**2/i)", {"v": 3.0, "k": 1.2, "i": 4.0}, s=(0.1, 12)),
    _law("cooling", "a + b*np.exp(-k*t)", {"a": 20.0, "b": 65.0, "k": 0.07}, t=(0, 60)),
    _law("logistic", "n/(1 + np.exp(-(t - h)/w))", {"n": 8.0, "h": 5.0, "w": 1.1}, t=(0, 10)),
    _law("gompertz", "a*np.exp(-b*np.exp(-c*t))", {"a": 6.0, "b": 4.0, "c": 0.6}, t=(0, 10)),
    _law("pendulum", "c*np.sqrt(l)", {"c": 2.006}, l=(0.1, 3)),
    _law("sound", "c*np.sqrt(T/M)", {"c": 3.4}, T=(200, 400), M=(2, 44)),
    _law("escape", "c*np.sqrt(M/R)", {"c": 1.41}, M=(0.1, 10), R=(0.3, 4)),
    _law("low_pass", "g/np.sqrt(1 + (w*c)**2)", {"g": 1.0, "c": 0.7}, w=(0.05, 8)),
    _law("free_fall", "h - g*t**2", {"h": 40.0, "g": 4.905}, t=(0, 2.8)),
    _law("throw", "h + v*t - g*t**2", {"h": 1.5, "v": 12.0, "g": 4.905}, t=(0, 2.4)),
    _law("lorentz_peak", "a/(1 + ((x - c)/w)**2)", {"a": 3.0, "c": 2.0, "w": 0.5}, x=(0, 4)),
    _law("gauss_peak", "a*np.exp(-((x - c)/w)**2)", {"a": 3.0, "c": 2.0, "w": 0.7}, x=(0, 4)),
    _law("van_der_waals", "R*T/(V - b) - a/V**2", {"R": 8.31, "b": 0.4, "a": 60.0}, T=(10, 30), V=(1, 6)),
    _law("tafel", "a + b*np.log(i)", {"a": 0.3, "b": 0.12}, i=(0.05, 20)),
    _law("rotor_power", "c*d**2*v**3", {"c": 0.3}, d=(1, 5), v=(3, 14)),
    _law("settling", "c*(p - f)*d**2/m", {"c": 0.545}, p=(2, 8), f=(0.8, 1.3), d=(0.1, 1), m=(0.5, 3)),
    _law("debye", "-a*z**2*np.sqrt(I)/(1 + np.sqrt(I))", {"a": 0.51}, z=(1, 3), I=(0.005, 0.5)),
    _law("damped", "a*np.exp(-b*t)*np.cos(w*t)", {"a": 2.0, "b": 0.3, "w": 2.5}, t=(0, 8)),
)  # fmt: skip
HALVES = {"tune": TUNE, "report": REPORT, "named": NAMED}


def found_in(
    law: Law, rows: int, noise: float, cells: Path, evaluator: Evaluator, seconds: float
) -> tuple[Problem, list[Sample]]:
    """The problem of a cell and what the search finds for it, from its file where that is there."""
    problem = law.problem(rows, noise)
    path = cells / f"{law.name}-{rows}-{noise:g}.jsonl"
    if not path.exists():
        kept = Kept()
        settings = SearchSettings(budget=4, structure_seconds=seconds)
        evaluator.take(problem)
        search.Search(problem, NoModel(), evaluator, kept, settings).run()
        path.write_text("".join(json.dumps(sample.to_record()) + "\n" for sample in kept))
    return problem, [Sample.from_record(json.loads(line)) for line in path.read_text().splitlines()]


def front_of(samples: Sequence[Sample]) -> Front:
    front = Front()
    for sample in samples:
        front.add(sample)
    return front


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=HALVES, default="tune")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.01, 0.05, 0.2])
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 80, 1000])
    parser.add_argument("--cells", type=Path, default=Path("cells"), help="what was searched already")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU seconds of structure search")
    parser.add_argument("--only", default="", help="regular expression that names of laws must contain")
    given = parser.parse_args()
    given.cells.mkdir(parents=True, exist_ok=True)
    named: dict[tuple[float, int], list[bool]] = defaultdict(list)
    laws = [law for law in HALVES[given.half] if re.search(given.only, law.name)]
    with Evaluator(laws[0].problem(20, 0.0), workers=1) as evaluator:
        for noise, rows, law in product(given.noise, given.rows, laws):
            problem, samples = found_in(law, rows, noise, given.cells, evaluator, given.seconds)
            pick = PickedFront.of(front_of(samples).members, problem).pick
            named[noise, rows].append(pick is not None and law.named_by(pick.expression, pick.params))
            told = pick.text()[:110] if pick else "none"
            print("LAW" if named[noise, rows][-1] else "   ", noise, rows, law.name, told, flush=True)
    for (noise, rows), cell in sorted(named.items()):
        print(f"noise {noise:4g}, {rows:5d} rows: {sum(cell)} of {len(cell)}")


if __name__ == "__main__":
    main()
