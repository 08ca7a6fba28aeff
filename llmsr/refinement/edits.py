"""Edits of an equation that need no new term: leaving out, swapping functions, freeing and fixing constants.

What an edit promises is judged to first order, the other constants following; `drops` and `swaps`, which
change much, are judged again where their edited equation stands.
"""

from __future__ import annotations

import numpy as np

from llmsr.expression.complexity import complexity
from llmsr.expression.graph import Expression
from llmsr.refinement.candidate import Candidate
from llmsr.refinement.library import UNARY, Numbers, Unary
from llmsr.refinement.point import Point, basis, off, reachable
from llmsr.refinement.tree import Build, Grafting, Tree, as_number, as_param, as_part

DEPTH = 4  # parts left out at once
JUDGED = 8  # drops, and swaps, that are looked at more closely
HARMLESS = 2.0  # times the loss that an edit may promise to be done together with others
NEAR = 0.1  # distance from a round number, relative where that is above 1, at which a constant is tried as it
NICE = (0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 4.0, -4.0, 5.0, 6.0)
REDUNDANT = 1e-7  # share of a constant's effect that is its own, at most, for it to be given up
EQUAL = 0.01  # relative difference at which two constants are tried as one

NEIGHBOURS = {
    "sin": ("cos", "tanh", "identity", "arctan"),
    "cos": ("sin", "bell", "lorentz", "identity"),
    "tanh": ("sin", "arctan", "saturation", "identity", "logistic"),
    "arctan": ("tanh", "saturation", "identity"),
    "expit": ("tanh", "exp", "saturation"),
    "exp": ("square", "inverse", "logistic", "ramp", "identity"),
    "log": ("root", "identity", "saturation"),
    "log1p": ("root", "identity", "saturation"),
    "sqrt": ("log", "identity", "tanh"),
    "abs": ("square", "identity", "ramp", "root"),
    "maximum": ("identity", "abs"),
    "minimum": ("identity", "abs"),
    "pow": ("square", "cube", "signed square", "abs", "exp", "quartic"),
}


def drops(point: Point) -> list[Candidate]:
    """The equation with one part less, then the most harmless way with two, three, ... less; best first.

    A part is left out by putting an operand in its operation's place, or a constant in a subtree's place.
    """
    found: list[Candidate] = []
    current: Point | None = point
    for _ in range(DEPTH):
        assert current is not None
        shorter = _shorter(current)
        found += shorter
        best = shorter[0] if shorter else None
        tree = best.tree() if best and best.promised <= HARMLESS * point.nmse else None
        if tree is None:
            break
        current = Point(tree, point.rows)
        if not np.isfinite(current.residual).all():
            break
    return sorted(found, key=lambda c: c.rank)


def _shorter(point: Point) -> list[Candidate]:
    tree = point.tree
    edits: list[tuple[float, dict[int, Build]]] = []
    for i, node in enumerate(tree.nodes):
        if not tree.varies[i] or not node.args:
            continue
        own, slope, value = tree.own_params(i), point.slopes[i], point.values[i]
        for a in node.args:
            if tree.varies[a]:
                lost = own - tree.own_params(a)
                promised = point.promise(slope * (point.values[a] - value), lost)
                edits.append((promised, {i: as_part(a)}))
        if own and i != tree.root:
            p = min(own)
            promised = point.promise(slope * (tree.start[p] - value), own - {p})
            edits.append((promised, {i: as_param(p)}))
    return _judged(point, edits, "drop")


def swaps(point: Point) -> list[Candidate]:
    """The equation with one function exchanged for one that looks like it somewhere; best first."""
    tree = point.tree
    kernels = Numbers(point.rows)
    edits: list[tuple[float, dict[int, Build]]] = []
    for i, node in enumerate(tree.nodes):
        if node.op not in NEIGHBOURS or not tree.varies[i]:
            continue
        argument = next(a for a in node.args if tree.varies[a])
        for name in NEIGHBOURS[node.op]:
            instead = UNARY[name](kernels, point.values[argument])
            promised = point.promise(point.slopes[i] * (instead - point.values[i]))
            edits.append((promised, {i: _function(UNARY[name], argument)}))
    return _judged(point, edits, "swap")


def _function(f: Unary, argument: int) -> Build:
    return lambda g, _: f(g, g.part(argument))


def _judged(
    point: Point, edits: list[tuple[float, dict[int, Build]]], move: str, count: int = JUDGED
) -> list[Candidate]:
    """The `count` best edits with what they promise from where they stand, best first."""
    found: list[Candidate] = []
    order = sorted(range(len(edits)), key=lambda k: edits[k][0])
    for k in order[:count]:
        expression = point.tree.replaced(edits[k][1])
        edited = Tree.of(expression, point.tree.start) if expression.inputs else None
        promised = reachable(edited, point.rows) if edited else np.inf
        if np.isfinite(promised):
            found.append(Candidate(expression, point.tree.start, promised, complexity(expression), move))
    return sorted(found, key=lambda c: c.rank)


def freed(point: Point, first: int, max_params: int) -> list[Candidate]:
    """The equation with one of its numbers as parameter `first`; best first.

    A power of a base that is negative somewhere becomes one of its size, with the base's sign where the
    exponent was odd.
    """
    tree = point.tree
    found: list[Candidate] = []
    if len(tree.params) >= max_params:
        return found
    exponents = {node.args[1]: i for i, node in enumerate(tree.nodes) if node.op == "pow"}
    for i, node in enumerate(tree.nodes):
        if node.op != "const" or not np.isfinite(node.value or 0.0):
            continue
        value = float(node.value or 0.0)
        if i not in exponents:
            direction, place = point.slopes[i], i
            build = as_param(first)
        else:
            place = exponents[i]
            base = tree.nodes[place].args[0]
            if place not in point.slopes:
                continue
            size = np.abs(point.values[base])
            direction = point.slopes[place] * point.values[place] * np.log(np.where(size > 0, size, 1.0))
            build, value = _free_power(point, base, value, first)
        gained = off(point.tangent(), direction)
        length = float(np.linalg.norm(gained))
        if not np.isfinite(length) or length <= 1e-9 * float(np.linalg.norm(direction)):
            continue
        left = off(point.tangent(), point.residual)
        left = left - gained * float(gained @ left) / length**2
        expression = tree.replaced({place: build})
        start = (*tree.start, *(1.0,) * (first - len(tree.start)), value)
        promised = float(left @ left) / point.rows.power
        found.append(Candidate(expression, start, promised, complexity(expression), "free"))
    return sorted(found, key=lambda c: c.rank)


def _free_power(point: Point, base: int, exponent: float, first: int) -> tuple[Build, float]:
    """The power with a free exponent, and where that begins."""
    if point.values[base].min() >= 0:
        return (lambda g, _: g.add("pow", g.part(base), g.param(first))), exponent
    if exponent % 2 == 0:
        return (lambda g, _: g.add("pow", g.add("abs", g.part(base)), g.param(first))), exponent

    def signed(g: Grafting, _: int) -> int:
        size = g.add("pow", g.add("abs", g.part(base)), g.param(first))
        return g.add("mul", g.part(base), size)

    return signed, exponent - 1


def fixed(point: Point) -> list[Candidate]:
    """The equation with a constant near a round number fixed there, with all that bear it, or with two
    equal constants tied; best first."""
    tree = point.tree
    found: list[Candidate] = []
    together: dict[int, Build] = {}
    for p in tree.params:
        value = tree.start[p]
        places = [i for i, n in enumerate(tree.nodes) if n.op == "param" and n.value == p]
        nice = [n for n in NICE if abs(value - n) <= NEAR * max(1.0, abs(n))]
        if not nice and _redundant(point, p):
            nice = [1.0]
        for n in nice:
            builds = dict.fromkeys(places, as_number(n))
            made = _judged(point, [(0.0, builds)], "fix")
            found += made
            if made and made[0].promised <= HARMLESS * point.nmse:
                together |= builds
        for q in tree.params:
            other = tree.start[q]
            if q < p and abs(value) > NEAR and abs(abs(value) - abs(other)) <= EQUAL * abs(value):
                found += _tied(point, p, q, places)
    if len(together) > 1:
        found += _judged(point, [(0.0, together)], "fix")
    return sorted(found, key=lambda c: c.rank)


def _tied(point: Point, p: int, q: int, places: list[int]) -> list[Candidate]:
    tree = point.tree
    sign = 1.0 if tree.start[p] * tree.start[q] > 0 else -1.0
    kept = [column for r, column in point.by_param.items() if r not in (p, q)]
    tangent = basis([*kept, point.by_param[q] + sign * point.by_param[p]], len(point.residual))
    left = off(tangent, point.residual - point.by_param[p] * (sign * tree.start[q] - tree.start[p]))
    builds = dict.fromkeys(places, as_param(q, negative=sign < 0))
    return _with(tree, builds, float(left @ left) / point.rows.power, "tie")


def _with(tree: Tree, builds: dict[int, Build], promised: float, move: str) -> list[Candidate]:
    expression: Expression = tree.replaced(builds)
    if not expression.inputs or not np.isfinite(promised):
        return []
    return [Candidate(expression, tree.start, promised, complexity(expression), move)]


def _redundant(point: Point, p: int) -> bool:
    """Whether the other constants can do all that this one does."""
    column = point.by_param[p]
    length = float(np.linalg.norm(column))
    own = float(np.linalg.norm(off(point.tangent(frozenset({p})), column)))
    return np.isfinite(length) and own <= REDUNDANT * length
