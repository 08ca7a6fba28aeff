"""Structure search: equations for a table without a model and without an equation to begin with.

    power laws        a line through logarithms, perhaps with functions of columns as factors
    sums of products  of powers, for functions of the target
    sums of atoms     every triple of some 1,400, then exchanges up to six

What these stages find is polished by the fit engine; the best of every size are proposed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import numpy as np

from llmsr.expression.canonical import canonical_hash, canonicalize
from llmsr.expression.graph import Expression, complexity, evaluate, linear_params
from llmsr.expression.printing import to_numpy_body
from llmsr.fitting.multistart import Search
from llmsr.fitting.residuals import Dataset, lay_out
from llmsr.problem.loading import Problem
from llmsr.problem.split import Split
from llmsr.refinement.floor import ABOVE, Floor
from llmsr.refinement.linearization import Candidate, Proposal, penalised_loss
from llmsr.refinement.powers import CLEAR, Task, exponentials, power_laws, products_of_functions, sides
from llmsr.refinement.rows import NumberedGraph, Rows, probes
from llmsr.refinement.sums import Dictionary, Sums, weighted_sum
from llmsr.refinement.symmetry import reduced
from llmsr.refinement.unshared import Unshared

log = logging.getLogger(__name__)

MOST_COLUMNS = 8  # beyond power laws, which take all
POLISH_STEPS = 60
POLISHED = 24  # sums of a stage that are polished
FEW = 3  # the same for one function of what is left of a target
SURE = 3  # constants with which an equation at the floor is hardly one by chance
LONGER = 12.0  # CPU seconds that a search goes on at the floor for smaller equations
EXTRA = 12  # equations of a stage that are still looked at once one is at the floor
MANY_ROWS = 1200  # on which symmetries are sought, since a surrogate needs more rows than a law
CLEARLY = 0.98  # share of a logarithm's variance that a power law of what is left explains, at least
NEAR, EXACT = 100.0, 1e-12  # times the error of a stage's best sum, and error, up to which sums are polished
LEVEL = 10.0  # times the floor of the target alone up to which errors of sums are equal
NEARLY = 1e8  # times the floor up to which constants are fitted to all rows
PROMISING = 1e-3  # NMSE below which an equation is looked at as if it might be the law
WIDTHS = (1, 4, 16, 64)  # of sums of atoms, one after the other as long as there is time
REDUCTIONS, FURTHER = (5, 3, 2, 1), (12, 6, 3, 2)  # followed from a task, from each of these, and so on
ALGEBRAIC, ROOTS = ("y", "1/y", "y^2", "1/y^2"), ("y", "root y")


@dataclass
class Structures:
    """What structure search has found for a table: polished candidates by canonical form."""

    problem: Problem
    seconds: float
    found: dict[str, Candidate] = field(default_factory=dict)
    fits: int = 0

    def __post_init__(self) -> None:
        self.rows = Rows.spread(self.problem.train)
        self.data: Dataset = lay_out(Split(self.rows.inputs, self.rows.target))
        self.began = time.process_time()
        self.floor = Floor.of(self.problem.train)
        self.at_floor: set[str] = set()
        self.sure = False
        self.probes = probes(self.problem.train.inputs)

    @property
    def done(self) -> bool:
        """Whether the data's floor is reached by an equation that is no chance, or the time is over."""
        return self.sure or self.over()

    def over(self) -> bool:
        """Whether the time is over."""
        return time.process_time() - self.began > self.seconds

    def _note_floor(self, form: str, constants: int) -> None:
        """Note an equation at the floor; what time is left is for smaller ones."""
        if not self.at_floor:
            spent = time.process_time() - self.began
            self.seconds = min(self.seconds, spent + LONGER)
        self.at_floor.add(form)
        self.sure = self.sure or constants <= SURE

    def task(self, rows: Rows) -> Task:
        """The table's columns and its target on some rows."""
        g = NumberedGraph(rows, max_nodes=1_000_000)
        columns = [g.column(i) for i in range(rows.inputs.shape[1])]
        varying = tuple(u for u in columns if np.ptp(g.values[u]) > 0)
        return Task(g, varying, rows.target, lambda u: u)

    def offer(self, task: Task, root: int, move: str) -> float:
        """Polish an equation on the graph and note it; its NMSE."""
        g = task.graph
        expression = g.expression(root, self.problem.spec.columns)
        if not expression.inputs or len(expression.params) > self.problem.spec.max_params:
            return np.inf
        if self.problem.refused(expression):
            return np.inf
        form = canonicalize(expression)
        known = self.found.get(form.hash)
        if known is not None:
            return known.predicted_nmse
        start = {new: g.start[old] for new, old in enumerate(form.params)}
        error, start = _polished(form.expression, start, self.data)
        self.fits += 1
        constants = [start[p] for p in form.expression.params]  # 0, 1, ... in the canonical form
        if np.isfinite(error) and not self.problem.misshapen(form.expression, constants):
            times = self._times_floor(form.expression, start) if error < PROMISING else np.inf
            if ABOVE < times < NEARLY:
                start = self._by_rounding(form.expression, start)
                times = self._times_floor(form.expression, start)
            self.found[form.hash] = Candidate(form.expression, start, error, move)
            if times <= ABOVE:
                self._note_floor(form.hash, len(start))
        return error

    def _by_rounding(self, expression: Expression, start: dict[int, float]) -> dict[int, float]:
        """The constants fitted to all rows, each by how little rounding moves it.

        Few rows may not tell constants to the floor, and near a pole a few have most of the error.
        """
        floor = self.floor
        expected = floor.expected(expression, np.array([start[p] for p in expression.params]))
        rows = Split(floor.inputs, floor.target)
        return _polished(expression, start, lay_out(rows, expected.mean() / expected))[1]

    def _times_floor(self, expression: Expression, start: dict[int, float]) -> float:
        return self.floor.times(expression, np.array([start[p] for p in expression.params]))

    def run(self) -> None:
        """Stage by stage, wider and wider, until the data's floor is reached or the time is over."""
        with np.errstate(all="ignore"):
            task = self.task(self.rows)
            for stage in self._stages(task) if task.columns else ():
                if self.done:
                    return
                try:
                    stage()
                except np.linalg.LinAlgError as error:  # of overflowing numbers: the next stage has others
                    log.warning("a stage of structure search ended early: %s", error)

    def _stages(self, task: Task) -> Iterator[Callable[[], None]]:
        """What is tried one after the other, first what is cheap."""
        few = _of_strongest(task)
        many = _of_strongest(self.task(Rows.spread(self.problem.train, MANY_ROWS)))
        sums: dict[bool, Sums] = {}

        def of_atoms(constants: bool, width: int) -> None:
            if constants not in sums:
                sums[constants] = Sums(few, constants, self.over)
            self.sums_of_atoms(few, sums[constants], width)

        yield from (partial(self.products, task), partial(self.sums, few))
        yield partial(self.symmetries, many, REDUCTIONS)
        for width in WIDTHS:
            # plain atoms first, of which more can be tried
            yield from (partial(of_atoms, constants, width) for constants in (False, True))
            if self.at_floor:
                return
            if width == 1:
                yield from (partial(self.symmetries, many, FURTHER), partial(self.small_sums, few))

    def products(self, task: Task, clear: float = CLEAR) -> None:
        """Products of powers and functions by lines through logarithms that explain a share, at least."""
        found = {
            "power law": power_laws(task, clear),
            "exponential": exponentials(task, clear),
            "factors": products_of_functions(task),
        }
        for move, roots in found.items():
            for root in roots if not self.done else ():
                self.offer(task, root, move)

    def sums(self, task: Task) -> None:
        g, own, d = task.graph, task.columns, len(task.columns)
        waves = [*own, *(g.add("cos", u) for u in own)]
        tries = [
            (ALGEBRAIC, own, (-2, -1, 1, 2), min(d, 3)), (ALGEBRAIC, own, (-1, 1), min(d, 5)),
            (ALGEBRAIC, own, (-2, -1, 1, 2), min(d, 4)), (ALGEBRAIC, own, (-1, -0.5, 0.5, 1), min(d, 3)),
            (ROOTS, waves, (0.5, 1), 2), (ALGEBRAIC, waves, (-1, 1), 3),
            (ALGEBRAIC, waves, (-1, 1, 2), min(d, 3)),
        ]  # fmt: skip
        for names, units, exponents, most in tries:
            products = Dictionary.of_products(g, units, exponents, most)
            if products is None:
                continue
            for one in sides(task, names):
                for root in products.sums(one):
                    self.offer(task, root, "sum of products")
                if self.done:
                    return

    def symmetries(self, task: Task, tried: Sequence[int]) -> None:
        """The same with groups of columns in their place, again and again.

        `tried` is how many reductions are followed, and how many of each of these, and so on.
        """
        if len(task.columns) < 2 or not tried:
            return
        for one in islice(reduced(task, tried[0]), tried[0]):
            self.products(one, CLEARLY)
            if not self.done and len(one.columns) <= 3:
                self.sums(one)
            if not self.done and len(one.columns) <= 2:
                self.small_sums(one)
            if not self.done:
                self.symmetries(one, tried[1:])
            if self.done:
                return

    def small_sums(self, task: Task) -> None:
        """Sums of plain atoms for functions of the target."""
        for one in sides(task):
            self.sums_of_atoms(one, Sums(one, False, self.over), few=True)
            if self.done:
                return

    def sums_of_atoms(self, task: Task, sums: Sums, width: int = 1, few: bool = False) -> None:
        """Polish the best sums of atoms; once one is at the floor, a few others that may be smaller."""
        g, level = task.graph, LEVEL * self.floor.least
        for ranked in sums.stages(width, few):
            least = ranked[0][0] if ranked else 0.0
            near = [(e, chosen) for e, chosen in ranked if e <= max(NEAR * least, EXACT)]
            # errors that rounding may explain are equal, so that the smaller sum comes first
            near.sort(
                key=lambda entry: penalised_loss(max(entry[0], level), sum(a.size(g) for a in entry[1]))
            )
            left = EXTRA
            for _, chosen in near[: FEW if few else POLISHED]:
                root = weighted_sum(g, [a.planted(g) for a in chosen], task.target)
                self.offer(task, task.wrap(root), "subset")
                left -= bool(self.at_floor)
                if not left:
                    break
            if self.done:
                return

    def ranked(self) -> list[Candidate]:
        """What was found: at the floor the smallest first, then by what error and size are worth.

        At the floor, what is not finite somewhere among the rows comes behind what is.
        """

        def order(item: tuple[str, Candidate]) -> tuple[bool, bool, float]:
            form, found = item
            if form not in self.at_floor:
                return True, True, found.penalised_loss
            params = np.array([found.start[p] for p in found.expression.params])
            hole = not np.isfinite(evaluate(found.expression, self.probes, params)).all()
            return False, hole, complexity(found.expression)

        with np.errstate(all="ignore"):
            return [found for _, found in sorted(self.found.items(), key=order)]


def _of_strongest(task: Task) -> Task:
    """The task without the columns whose simple functions go least with the target, beyond `MOST_COLUMNS`."""
    if len(task.columns) <= MOST_COLUMNS:
        return task
    goal = task.target - task.target.mean()

    def strength(u: int) -> float:
        v = task.graph.values[u]
        along = [
            np.abs(goal @ (f - f.mean())) / np.linalg.norm(f - f.mean()) for f in (v, v * v, np.sin(v), 1 / v)
        ]
        return float(np.nanmax([a if np.isfinite(a) else 0.0 for a in along]))

    strongest = sorted(task.columns, key=strength, reverse=True)[:MOST_COLUMNS]
    return replace(task, columns=tuple(u for u in task.columns if u in strongest))


def _polished(
    expression: Expression, start: dict[int, float], data: Dataset
) -> tuple[float, dict[int, float]]:
    """The NMSE with constants moved to where it is least, and these."""
    search = Search(expression, data, np.inf)
    theta = np.array([start[p] for p in search.tape.params])
    search.polish(theta, POLISH_STEPS, 1e-12) if len(theta) else search.evaluate(theta)
    best = search.best
    if best is None:
        return np.inf, start
    return best.squares / data.power, dict(zip(search.tape.params, map(float, best.theta), strict=True))


def structures(problem: Problem, seconds: float, count: int) -> list[Proposal]:
    """At most `count` bodies of the most promising equations, found in so many CPU seconds: a worker's task.

    None for a target whose squares are no numbers. An equation whose constants a fit from scratch may miss
    stands there again with its inner constants written out, one at the floor with all of them.
    """
    problem = problem.by_group[0]
    if not 0 < Rows.of(problem.train).power < np.inf or not problem.spec.least_squares:
        return []
    search = Structures(problem, seconds)
    search.run()
    params_name = problem.spec.params_name
    found: dict[str, Proposal] = {}
    for candidate in search.ranked()[:count]:
        linear = set(linear_params(candidate.expression))
        inner = {p: v for p, v in candidate.start.items() if p not in linear}
        tree = Unshared.of(candidate.expression)
        reached = canonical_hash(candidate.expression) in search.at_floor
        # a fit to rows near a pole may lose what brought the equation to the floor
        kept = (inner, candidate.start if reached else {})
        written = [tree.with_numbers(numbers) for numbers in kept if numbers] if tree is not None else []
        for made in map(canonicalize, (candidate.expression, *written)):
            body = to_numpy_body(made.expression, params_name)
            found.setdefault(made.hash, Proposal(body, made.hash, candidate.move))
    return list(found.values())
