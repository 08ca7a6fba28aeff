"""Moves that need no new term: leaving out, freeing and fixing constants, bounds.

What an edit promises is judged to first order, the other constants following; `drop`, which changes much, is
judged again where the edited equation stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

import numpy as np

from llmsr.refinement.linearization import NEW, Candidate, Linearization
from llmsr.refinement.rows import orthonormal, project_out
from llmsr.refinement.unshared import Edit, Editor, as_number, as_param, as_part

DEPTH = 4  # parts left out at once
JUDGED = 8  # drops that are looked at more closely
HARMLESS = 2.0  # times the loss that an edit may promise to be done together with others
NEAR = 0.1  # distance from a round number, relative where that is above 1, at which a constant is tried as it
NICE = (0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 4.0, -4.0, 5.0, 6.0)
REDUNDANT = 1e-7  # share of a constant's effect that is its own, at most, for it to be given up
EQUAL = 0.01  # relative difference at which two constants are tried as one
OWN = 1e-9  # share of a freed constant's effect that the others cannot have, at least
SLOPES = np.linspace(0.02, 0.98, 25)  # quantiles of target over column at which a bound is tried
LEAST_ROWS = 5  # on either side of a bound
ALIKE = 0.02  # relative difference of slopes that are tried as one


def best_first(candidates: Iterable[Candidate | None]) -> list[Candidate]:
    """The candidates that there are, by what they promise and their size."""
    return sorted((c for c in candidates if c is not None), key=lambda c: c.penalised_loss)


def drop(at: Linearization) -> list[Candidate]:
    """The equation with one part less, then the most harmless way with two, three, ... less.

    A part is left out by putting an operand in its operation's place, or a constant in a part's place.
    """
    found: list[Candidate] = []
    current: Linearization | None = at
    for _ in range(DEPTH):
        assert current is not None
        shorter = _shorter(current)
        found += shorter
        if not shorter or shorter[0].predicted_nmse > HARMLESS * at.nmse:
            break
        current = current.moved_to(shorter[0])
        if current is None:
            break
    return best_first(found)


def _shorter(at: Linearization) -> list[Candidate]:
    equation = at.equation
    edits: list[tuple[float, int, Edit]] = []
    for i, a in equation.omissions():
        if equation.varies[a]:
            lost = equation.own_params(i) - equation.own_params(a)
            promised = at.predicted_nmse(at.slopes[i] * (at.values[a] - at.values[i]), lost)
            edits.append((promised, i, as_part(a)))
    for i, node in enumerate(equation.nodes[:-1]):
        own = equation.own_params(i) if node.args and equation.varies[i] else ()
        if own:
            p = min(own)
            promised = at.predicted_nmse(at.slopes[i] * (at.start[p] - at.values[i]), own - {p})
            edits.append((promised, i, as_param(p)))
    edits.sort(key=lambda entry: entry[0])
    return best_first(at.candidate({i: edit}, "drop") for _, i, edit in edits[:JUDGED])


def free(at: Linearization) -> list[Candidate]:
    """The equation with one of its numbers as a new parameter.

    A power of a base that is negative somewhere becomes one of its size, with the base's sign where the
    exponent was odd.
    """
    equation = at.equation
    if at.free < 1:
        return []
    exponents = {node.args[1]: i for i, node in enumerate(equation.nodes) if node.op == "pow"}
    residual = project_out(at.reach(), at.residual)
    found: list[Candidate | None] = []
    for i, node in enumerate(equation.nodes):
        if node.op != "const" or not np.isfinite(node.value or 0.0):
            continue
        value, place, edit = float(node.value or 0.0), i, as_param(NEW)
        if i in exponents:
            place = exponents[i]
            if place not in at.slopes:
                continue
            base = equation.nodes[place].args[0]
            size = np.abs(at.values[base])
            direction = at.slopes[place] * at.values[place] * np.log(np.where(size > 0, size, 1.0))
            edit, value = _free_power(base, value, bool(at.values[base].min() >= 0))
        else:
            direction = at.slopes[i]
        gained = project_out(at.reach(), direction)
        length = float(np.linalg.norm(gained))
        if np.isfinite(length) and length > OWN * float(np.linalg.norm(direction)):
            left = residual - gained * float(gained @ residual) / length**2
            found.append(at.candidate({place: edit}, "free", at.nmse_of(left), {NEW: value}))
    return best_first(found)


def _free_power(base: int, exponent: float, positive: bool) -> tuple[Edit, float]:
    """The power with a free exponent, and where that begins."""
    if positive:
        return (lambda g: g.add("pow", g.part(base), g.param(NEW))), exponent
    if exponent % 2 == 0:
        return (lambda g: g.add("pow", g.add("abs", g.part(base)), g.param(NEW))), exponent

    def signed(g: Editor) -> int:
        size = g.add("pow", g.add("abs", g.part(base)), g.param(NEW))
        return g.add("mul", g.part(base), size)

    return signed, exponent - 1


def fix(at: Linearization) -> list[Candidate]:
    """The equation with a constant near a round number fixed there, with all that bear it, or two tied."""
    found: list[Candidate | None] = []
    together: dict[int, Edit] = {}
    params = at.equation.params
    for p in params:
        value = at.start[p]
        nice = [n for n in NICE if abs(value - n) <= NEAR * max(1.0, abs(n))]
        if not nice and _redundant(at, p):
            nice = [1.0]
        for n in nice:
            edits = _everywhere(at, p, as_number(n))
            made = at.candidate(edits, "fix")
            found.append(made)
            if made is not None and made.predicted_nmse <= HARMLESS * at.nmse:
                together |= edits
        for q in params:
            close = abs(abs(value) - abs(at.start[q])) <= EQUAL * abs(value)
            if q < p and abs(value) > NEAR and close:
                found.append(_tied(at, p, q))
    if len(together) > 1:
        found.append(at.candidate(together, "fix"))
    return best_first(found)


def _everywhere(at: Linearization, p: int, edit: Edit) -> dict[int, Edit]:
    """The edit at every appearance of a parameter."""
    return {i: edit for i, n in enumerate(at.equation.nodes) if n.op == "param" and n.value == p}


def _tied(at: Linearization, p: int, q: int) -> Candidate | None:
    sign = 1.0 if at.start[p] * at.start[q] > 0 else -1.0
    kept = [column for r, column in at.jacobian.items() if r not in (p, q)]
    basis = orthonormal([*kept, at.jacobian[q] + sign * at.jacobian[p]], len(at.residual))
    shifted = at.residual - at.jacobian[p] * (sign * at.start[q] - at.start[p])
    edits = _everywhere(at, p, as_param(q, negative=sign < 0))
    return at.candidate(edits, "tie", at.nmse_of(project_out(basis, shifted)))


def _redundant(at: Linearization, p: int) -> bool:
    """Whether the other constants can do all that this one does."""
    column = at.jacobian[p]
    length = float(np.linalg.norm(column))
    own = float(np.linalg.norm(project_out(at.reach(frozenset({p})), column)))
    return bool(np.isfinite(length) and own <= REDUNDANT * length)


def bound(at: Linearization) -> list[Candidate]:
    """The minimum or maximum of the equation and a line in one column, through the origin or not.

    What yields, saturates or sets in follows one law up to a limit and another beyond it. A smooth step
    between them costs as many constants and fits worse where the change is sharp. What a bound promises: its
    own line on the rows that it takes, the equation's constants following to first order on the others.
    """
    found: list[Candidate | None] = []
    ops = {"minimum": 1.0, "maximum": -1.0}
    for column, (op, sign) in product(range(at.rows.inputs.shape[1]), ops.items()):
        for constants in range(1, min(at.free, 2) + 1):
            best = min(_lines(at, column, sign, constants), key=lambda line: line[0], default=None)
            if best is not None:
                found.append(_bounded(at, column, op, *best))
    return best_first(found)


def _lines(
    at: Linearization, column: int, sign: float, constants: int
) -> Iterator[tuple[float, dict[int, float]]]:
    """(NMSE, coefficients) of bounds that take some rows and leave some."""
    x, y, value = at.rows.inputs[:, column], at.rows.target, at.values[-1]
    line = np.column_stack([x, np.ones_like(x)][:constants])
    ratio = y[x != 0] / x[x != 0]
    tried = 0.0
    for slope in np.quantile(ratio, SLOPES) if len(ratio) else ():
        taken = sign * slope * x < sign * value
        if abs(slope - tried) <= ALIKE * abs(tried) or not LEAST_ROWS <= taken.sum() <= len(y) - LEAST_ROWS:
            continue
        tried = float(slope)
        fitted, *_ = np.linalg.lstsq(line[taken], y[taken], rcond=None)
        under = y[taken] - line[taken] @ fitted
        kept = [c[~taken] for c in at.jacobian.values()]
        left = project_out(orthonormal(kept, int((~taken).sum())), at.residual[~taken])
        square = float(under @ under + left @ left) / at.rows.power
        if np.isfinite(square):
            yield square, {NEW + k: float(c) for k, c in enumerate(fitted)}


def _bounded(
    at: Linearization, column: int, op: str, promised: float, line: Mapping[int, float]
) -> Candidate | None:
    def edit(g: Editor) -> int:
        made = g.add("mul", g.param(NEW), g.column(column))
        if len(line) > 1:
            made = g.add("add", made, g.param(NEW + 1))
        return g.add(op, made, g.part(at.equation.root))

    return at.candidate({at.equation.root: edit}, "bound", promised, line)
