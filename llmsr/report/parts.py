"""What an equation is worth, its description length, and shorter equations made out of its parts.

The length, in nats, is what it takes to write down the training targets with an equation's help: what it
leaves unexplained (half the rows times the logarithm of the error), every operator and column, every number
by how simple it is, every fitted constant by what the rows can tell of it. A term that fits noise does not
pay for itself (Rissanen, 1978), and an exponent of 1.99 is longer than a 2 that the rows allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmsr.expression import Refusal
from llmsr.expression.canonical import Canonical, canonicalize
from llmsr.expression.graph import Expression, complexity, evaluate
from llmsr.expression.printing import to_latex, to_numpy_body, to_text
from llmsr.fitting import split_nmse
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.refinement.floor import ABOVE, Floor
from llmsr.refinement.rows import Rows, node_values, probes
from llmsr.refinement.unshared import Unshared, as_param, as_part
from llmsr.sample import REFINE, REFINEMENT, Sample

if TYPE_CHECKING:
    from llmsr.fitting.multistart import Search
    from llmsr.fitting.residuals import Dataset

NODE = 1.5  # nats of an operator, a column, a number or a constant: that it stands there
CONSTANT = 2.0  # of a fitted constant, beside half the logarithm of the rows
EXPONENT = 3.0  # of a fitted exponent beside that, since the exponents of laws are simple
OFFSET = 2.0  # times the result of a sum that a part of it may be before its digits cost
HOLE = 60.0  # of an equation that is not finite somewhere in the box of the rows
FEW = 20  # rows below which a warning is due
SURE = 4.0  # standard errors within which a constant may be a simple number
STEPS = 40  # of Levenberg-Marquardt after a change
SOME_ROWS = 1000  # on which parts compete; the best are fitted to all
OPENED, APART = 8, 40.0  # equations whose parts are tried, and the nats that they may be behind the shortest
BEAM, SLACK = 3, 1.0  # shorter forms that are followed, while they lose no more nats than this
KEPT = 24  # parts that are fitted to all rows
MOST_NODES, MOST_TERMS = 120, 60  # of an equation whose parts are tried, and of its parts


def _simple_numbers() -> dict[float, float]:
    """The simple numbers above zero and what each costs in nats, of equal spellings the cheapest."""
    found: dict[float, float] = {}
    for q, further in {1: 0.0, 2: 1.0, 3: 2.0, 4: 2.0}.items():
        for p in range(1, 13):
            found.setdefault(p / q, further + math.log(1 + p))
    found |= {10.0**k: 1.0 + abs(k) for k in range(-3, 4) if k}
    # in lowest terms, so that pi is no 4*pi/4
    return found | {math.pi * 2.0**k: 2.0 + abs(k) * math.log(2) for k in range(-2, 3)} | {1.0: 0.5}


SIMPLE = _simple_numbers()
_VALUES = np.array(sorted(SIMPLE))


def price(number: float) -> float:
    """Nats of a number that is written out; infinite for one that is not simple."""
    if number == 0:
        return 0.0
    near = float(_VALUES[np.argmin(np.abs(_VALUES - abs(number)))])
    return SIMPLE[near] if math.isclose(near, abs(number), rel_tol=1e-9) else math.inf


def most_constants(rows: int) -> int:
    """The fitted constants that so many rows bear."""
    return max(3, rows // 4)


def numbers_of(
    expression: Expression, params: Sequence[float] | np.ndarray, ops: Sequence[str] = ("const", "param")
) -> list[tuple[float, bool]]:
    """The numbers and the constants of an equation, and whether each is an exponent."""
    nodes = expression.nodes
    exponents = {node.args[1] for node in nodes if node.op == "pow"}
    return [
        (float(params[int(node.value or 0)] if node.op == "param" else node.value or 0.0), i in exponents)
        for i, node in enumerate(nodes)
        if node.op in ops
    ]


def fitted_constants(expression: Expression, params: Sequence[float] | np.ndarray) -> int:
    """How many of an equation's numbers and constants are not simple, so that the rows had to tell them."""
    return sum(math.isinf(price(number)) for number, _ in numbers_of(expression, params))


def description_length(
    expression: Expression,
    params: Sequence[float] | np.ndarray,
    error: float,
    rows: int,
    groups: int = 1,
) -> float:
    """Nats of targets and equation, `error` being proportional to the mean square of what is left.

    Infinite for more constants than so many rows bear. Lengths compare equations of the same rows. Constants
    of several groups stand behind one another in `params`, and all count.
    """
    numbers = numbers_of(expression, params)
    for own in np.asarray(params, dtype=float).reshape(groups, -1)[1:]:
        numbers += numbers_of(expression, own, ("param",))
    fitted = [exponent for number, exponent in numbers if math.isinf(price(number))]
    free = len(fitted)
    left = rows - free - 1
    if free > most_constants(rows) or left <= 0:
        return math.inf
    # k constants gain k/2 by chance of many rows, and more where they are not few (Hurvich and Tsai, 1989)
    chance = free * rows / left - free
    return (
        0.5 * rows * math.log(error)
        + NODE * complexity(expression)
        + sum(p for number, _ in numbers if (p := price(number)) < math.inf)
        + free * (CONSTANT + 0.5 * math.log(rows))
        + sum(fitted) * EXPONENT
        + chance
    )


def lost_digits(expression: Expression, start: Mapping[int, float], inputs: np.ndarray) -> float:
    """Nats of the digits that cancel in sums, of parts over `OFFSET` times their sum by root mean square.

    The difference of two large functions imitates most laws, by constants that must be known to many digits.
    """
    values = node_values(expression.nodes, inputs, start)
    sizes = [float(np.sqrt(np.mean(value**2))) for value in values]
    lost = 0.0
    for size, node in zip(sizes, expression.nodes, strict=True):
        largest = max((sizes[a] for a in node.args), default=0.0)
        if node.op in ("add", "sub") and 0 < OFFSET * size < largest < math.inf:
            lost += math.log(largest / (OFFSET * size))
    return lost


@dataclass(frozen=True)
class _Move:
    """An equation that may be fitted: `start` maps its parameters to the values from which they are.

    Those in `fixed` are simple numbers that are not fitted. They stay parameters, so that the form can be
    fitted to other rows; an exponent that is simple is part of the form.
    """

    expression: Expression
    start: Mapping[int, float]
    fixed: frozenset[int]

    @cached_property
    def form(self) -> Canonical:
        """The canonical form, which is most of the work of trying an equation."""
        return canonicalize(self.expression)

    @cached_property
    def name(self) -> tuple[object, ...]:
        """Equal for equations that are equal up to spelling and fitted constants."""
        form = self.form
        return form.hash, *(self.start[p] if p in self.fixed else None for p in form.params)

    def renamed(self) -> _Move:
        """The same in canonical form."""
        form = self.form
        start = {new: self.start[old] for new, old in enumerate(form.params)}
        fixed = frozenset(new for new, old in enumerate(form.params) if old in self.fixed)
        return _Move(form.expression, start, fixed)


@dataclass(frozen=True)
class Part(_Move):
    """A fitted equation: `start` are its constants, `length` is its description length."""

    error: float
    length: float


class Parts:
    """Makes shorter equations out of the parts of fitted ones, and tells how long each is.

    What was made of an equation is remembered, so that a front can be asked for again and again.
    """

    def __init__(self, problem: Problem) -> None:
        from llmsr.fitting.residuals import dataset_of  # late: it waits for a compiler

        self.problem = problem
        self.rows = len(problem.train)
        self.floor = Floor.of(problem.train)
        self.probes = probes(problem.train.inputs)
        # noise of repeated rows is noise like any other: only rounding makes errors equal
        self._rounding = replace(self.floor, repeats=0.0)
        self.level = ABOVE * self._rounding.least
        self._all = dataset_of(problem.train)
        self._some = self._all.part(SOME_ROWS)
        self._inputs = Rows.of(problem.train).inputs
        self._made: dict[str, list[Part]] = {}

    def length(self, sample: Sample) -> float:
        """The description length of a valid sample of a problem of least squares."""
        expression = read_body(self.problem.spec, sample.evaluation.body)
        error = sample.evaluation.nmse.get("train")
        if isinstance(expression, Refusal) or error is None:
            return math.inf
        params = np.asarray(sample.evaluation.params or (), float)
        groups = len(self.problem.groups) or 1
        if error <= self.level or (groups == 1 and self._rounding.reached(expression, params)):
            error = self.level  # what is left is not to be told from rounding
        length = description_length(expression, params, error, self.rows, groups)
        with np.errstate(all="ignore"):
            length += lost_digits(expression, dict(enumerate(params)), self._inputs) if groups == 1 else 0.0
            whole = groups > 1 or np.isfinite(evaluate(expression, self.probes, params)).all()
        return length if whole else length + HOLE

    def shorter(self, members: Sequence[Sample]) -> list[Sample]:
        """The shortest equations that parts of the members make, as refinements of these.

        None where the loss is no sum of squares, which is fitted in rounds. Units are held to. None of a
        template, which may be what is cut off, and of groups, each of which would have a part of its own.
        """
        problem = self.problem
        if not problem.train.loss.squares or problem.spec.template or problem.groups:
            return []
        opened = [(part, member) for member in members if (part := self._opened(member)) is not None]
        opened.sort(key=lambda entry: entry[0].length)
        found: dict[tuple[object, ...], tuple[Part, Sample]] = {}
        for part, member in opened[:OPENED]:
            if part.length <= opened[0][0].length + APART:
                for made in self._reduced(part, member.evaluation.canonical):
                    if self.problem.misshapen(made.expression, _listed(made.start)):
                        continue
                    if made.name not in found or made.length < found[made.name][0].length:
                        found[made.name] = made, member
        known = {member.evaluation.canonical for member in members}
        new = (entry for name, entry in found.items() if name[0] not in known or entry[0].fixed)
        ranked = sorted(new, key=lambda entry: entry[0].length)
        return [self._sample(part, member) for part, member in ranked[:KEPT]]

    def _opened(self, member: Sample) -> Part | None:
        """A member with parameters for all its numbers that are not simple."""
        expression = read_body(self.problem.spec, member.evaluation.body)
        if isinstance(expression, Refusal) or complexity(expression) > MOST_NODES:
            return None
        params = member.evaluation.params or ()
        return self._fitted(_freed(expression, params, self.problem.spec.max_params), self._some)

    def _fitted(self, move: _Move, data: Dataset) -> Part | None:
        """The equation with its constants fitted from where they are; None where nothing is finite."""
        expression = _filled(move)
        with np.errstate(all="ignore"):
            search = _search(expression, data)
            theta = np.array([move.start[p] for p in search.tape.params])
            if len(theta):
                search.polish(theta, STEPS, 1e-9)
            search.evaluate(theta)
        best = search.best
        if best is None:
            return None
        start = {**move.start, **dict(zip(search.tape.params, map(float, best.theta), strict=True))}
        error, rows = best.squares / data.power, data.full.rows
        length = description_length(move.expression, _listed(start), max(error, self.level), rows)
        with np.errstate(all="ignore"):
            length += lost_digits(move.expression, start, self._inputs)
        return Part(move.expression, start, move.fixed, error, length)

    def _reduced(self, part: Part, name: str) -> list[Part]:
        """The equation and what is made of it, one change after the other while the length falls."""
        if name in self._made:
            return self._made[name]
        found, seen, beam = [part], {part.name}, [part]
        while beam:
            bar = min(one.length for one in beam) + SLACK
            new: list[Part] = []
            for asked in (move for one in beam for move in self._moves(one)):
                if asked.name in seen or not asked.form.expression.inputs:
                    continue
                seen.add(asked.name)
                move = asked.renamed()
                if self.problem.refused(move.expression) is None:
                    made = self._fitted(move, self._some)
                    new += [made] if made is not None else []
            found += new
            beam = [made for made in sorted(new, key=lambda made: made.length)[:BEAM] if made.length < bar]
        self._made[name] = sorted(found, key=lambda made: made.length)[:KEPT]
        return self._made[name]

    def _moves(self, part: Part) -> Iterator[_Move]:
        """Each part left out in turn; each constant as a simple number that it may be."""
        tree = _tree(part.expression)
        for shorter in (*tree.cancelled(), *leaving_one_out(tree)):
            yield _Move(shorter, part.start, part.fixed)
        above = [tree.nodes[n.args[1]] for n in tree.nodes if n.op == "pow"]
        exponents = {n.value for n in above if n.op == "param"}
        for p, error in self._standard_errors(part).items():
            for number in _simple_near(part.start[p], SURE * error):
                if p in exponents:
                    yield _Move(tree.with_numbers({p: number}), part.start, part.fixed)
                else:
                    yield _Move(part.expression, {**part.start, p: number}, part.fixed | {p})

    def _standard_errors(self, part: Part) -> dict[int, float]:
        """Those of an equation's constants, each with all others free; none where they are not finite."""
        with np.errstate(all="ignore"):
            search = _search(_filled(part), self._some)
            gram = search.full.gram(np.array([part.start[p] for p in search.tape.params]))
        k = len(search.tape.params)
        if not k or not np.isfinite(gram).all():
            return {}
        size = np.sqrt(np.maximum(np.diag(gram)[:k], 1e-300))
        # the ridge keeps constants that say the same apart: each may then be any number
        inverse = np.linalg.inv(gram[:k, :k] / np.outer(size, size) + 1e-12 * np.eye(k))
        noise = max(part.error, self.level) * self._some.power / max(1, self._some.full.rows - k)
        spread = np.sqrt(np.abs(np.diag(inverse)) * noise) / size
        return dict(zip(search.tape.params, map(float, spread), strict=True))

    def _sample(self, part: Part, parent: Sample) -> Sample:
        """The equation as a refinement, with its constants fitted to all rows."""
        spec = self.problem.spec
        if self._some.full.rows < self.rows:
            part = self._fitted(part, self._all) or part
        expression, constants = part.expression, tuple(_listed(part.start, spec.max_params).tolist())
        nmse = split_nmse(expression, constants, self.problem)
        mse = (nmse["train"] or 0.0) * self.problem.train.spread
        evaluation = replace(
            parent.evaluation,
            body=to_numpy_body(expression, spec.params_name),
            repaired=(),
            expression=to_text(expression, constants),
            latex=to_latex(expression, constants),
            canonical=canonicalize(expression).hash,
            complexity=complexity(expression),
            params=constants,
            score=-mse,
            train_mse=mse,
            nmse=nmse,
        )
        made = replace(parent, evaluation=evaluation, proposer=REFINE, kind=REFINEMENT)
        return replace(made, parents=(parent.number,))


def _tree(expression: Expression) -> Unshared:
    tree = Unshared.of(expression)
    assert tree is not None, "what is opened is small, and its parts are smaller"
    return tree


def _filled(move: _Move) -> Expression:
    """The equation with its simple numbers written out."""
    return _tree(move.expression).with_numbers({p: move.start[p] for p in move.fixed})


def leaving_one_out(equation: Unshared) -> Iterator[Expression]:
    """The equation with each summand, factor or function left out in turn, largest first."""
    found = sorted(
        ((equation.size(i) - equation.size(a), i, a) for i, a in equation.omissions()), reverse=True
    )
    return (equation.edited({i: as_part(a)}) for _, i, a in found[:MOST_TERMS])


def _search(expression: Expression, data: Dataset) -> Search:
    from llmsr.fitting.multistart import Search  # late: it waits for a compiler

    return Search(expression, data, math.inf)


def _simple_near(value: float, within: float) -> list[float]:
    """The simplest numbers that are so near a value, at most two."""
    sign = -1.0 if value < 0 else 1.0
    close = _VALUES[np.abs(_VALUES - abs(value)) <= within].tolist()
    return [sign * number for number in sorted(close, key=SIMPLE.__getitem__)[:2]]


def _listed(start: Mapping[int, float], count: int = 0) -> np.ndarray:
    """The constants by the numbers of their parameters, 1 where there is none."""
    values = np.ones(max(count, 1 + max(start, default=0)))
    values[list(start)] = list(start.values())
    return values


def _freed(expression: Expression, params: Sequence[float], most: int) -> _Move:
    """The expression with parameters for its numbers that are not simple, at most `most` in all."""
    start = {p: float(params[p]) for p in expression.params}
    unused = iter(sorted(set(range(most)) - set(start)))
    tree, edits = _tree(expression), {}
    for i, node in enumerate(tree.nodes):
        number = float(node.value or 0.0)
        if node.op == "const" and math.isinf(price(number)) and (p := next(unused, None)) is not None:
            edits[i], start[p] = as_param(p), number
    return _Move(tree.edited(edits), start, frozenset())
