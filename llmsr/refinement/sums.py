"""Sums of products of powers, and of atoms, that come nearest to a target, and relations with it in them.

Sums of atoms are looked at stage by stage: from pairs to six, inner constants moved.

A stage ends with sums whose inner constants have been moved to where the whole sum fits best, so that near
laws, which differ by less than a grid of constants can tell, stand in their true order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations, product
from math import comb

import numpy as np

from llmsr.refinement.atoms import Atom, atoms_of
from llmsr.refinement.powers import Task
from llmsr.refinement.rows import NumberedGraph, coefficients, power_product
from llmsr.refinement.subsets import Subset, Subsets, move_constants

PLAIN = 500  # sums without inner constants whose errors are computed exactly
PAIRS, TRIPLES, BEHIND = 20_000, 4000, 2000  # sums with inner constants that are moved, and of a polynomial
SINGLES = 100  # atoms alone behind a polynomial
SAME_NAMES = 2  # sums that differ in inner constants alone
BEAM, MOST_TERMS = 16, 6  # sums that are exchanged, and their terms, for a width of 1
GROWN, OF_ONE = 50, 8  # sums of two and three that grow by two for a width of 1, and offers for each
ROUNDS = 8  # of exchanges
MOVED_A_ROUND = 96
KEPT = 2000  # sums that are remembered
MOST_NUMBERS = 12_000_000  # products times rows
TERMS = 3  # of a sum of products
RELATED = 1e-9  # share of the target's square that a relation leaves, at most

Sum = tuple[Atom, ...]
Ranked = list[tuple[float, Sum]]
"""Sums and the share of the target's square that each leaves, the least first."""


class Sums:
    """Sums of the atoms over a task's columns; `over` tells whether the time is.

    Without `constants` the atoms have no inner ones.
    """

    def __init__(self, task: Task, constants: bool, over: Callable[[], bool]) -> None:
        self.graph, self.columns, self.over = task.graph, task.columns, over
        self.atoms, values = atoms_of(task.graph, task.columns, constants)
        self.subsets = Subsets(values, task.target)
        self.goal = self.subsets.target
        self.free = any(atom.free for atom in self.atoms)
        _, self.kinds = np.unique([atom.name for atom in self.atoms], return_inverse=True)
        self.best: Ranked = []
        self._known: dict[Atom, np.ndarray] = dict(zip(self.atoms, self.subsets.unit.T, strict=True))

    def stages(self, width: int = 1, few: bool = False) -> Iterator[Ranked]:
        """Pairs, triples, polynomials with two atoms more, exchanges; the first two alone where `few` do.

        A larger `width` goes on where smaller ones ended: pairs and triples grow by two, of more sums more
        exchanges are looked at.
        """
        if len(self.atoms) < 4:
            return
        subsets = self.subsets
        if width == 1:
            most = PAIRS if self.free else PLAIN
            pairs = subsets.all_pairs(self.kinds, most)
            yield self._moved([*subsets.singles(subsets.nothing, 8), *pairs], most)
            if not self.over():
                yield self._moved(subsets.triples(8 * TRIPLES), TRIPLES if self.free else PLAIN)
            if few:
                return
            yield self._behind_polynomials()
        else:
            for size in (2, 3):
                grown = [s for _, s in self.best if len(s) == size][: GROWN * width]
                yield self._all_moved(self._extended(grown, OF_ONE)[: GROWN * width])
        yield from self._exchanges(width)

    def _behind_polynomials(self) -> Ranked:
        """Powers of one column, from one to three of them, with one and with two atoms more."""
        g, found = self.graph, []
        roots = {atom.root: atom for atom in self.atoms if not atom.free}
        for u in self.columns[:4]:
            powers = [u, *(g.add("pow", u, g.const(e)) for e in (2.0, 3.0))]
            known = [roots[root] for root in powers if root in roots]
            for prefix in (tuple(known[:k]) for k in range(1, len(known) + 1)):
                if self.over():
                    break
                columns = self._matrix(prefix)
                pairs = self.subsets.all_pairs(self.kinds, BEHIND, columns)
                found += self._moved([*self.subsets.singles(columns, SINGLES), *pairs], BEHIND, prefix)
        return sorted(found, key=lambda entry: entry[0])

    def _exchanges(self, width: int) -> Iterator[Ranked]:
        """The best sums with none, one or two atoms less and two more, as long as that pays."""
        beam, best, seen = self.best[: BEAM * width], np.inf, set()
        for _ in range(ROUNDS):
            kept = (k for _, chosen in beam for k in _shorter(chosen, MOST_TERMS + width.bit_length() // 2))
            fresh = [e for e in self._extended(kept, OF_ONE // 2) if _names(e[1]) not in seen]
            beam = self._all_moved(fresh[: MOVED_A_ROUND * width])[: BEAM * width]
            seen |= {_names(chosen) for _, chosen in beam}
            if not beam or beam[0][0] > 0.9 * best or self.over():
                return
            best = beam[0][0]
            yield beam

    def _extended(self, sums: Iterable[Sum], count: int) -> Ranked:
        """Sums with the best two atoms more, `count` for each."""
        found: Ranked = []
        for kept in sums:
            if self.over():
                break
            pairs = self.subsets.pairs(self._matrix(kept), count)
            found += [(e, (*kept, *(self.atoms[a] for a in s))) for e, s in pairs]
        return _merged(found)

    def _moved(self, ranked: Iterable[tuple[float, Subset]], most: int, prefix: Sum = ()) -> Ranked:
        """Sets of atoms behind a prefix as sums, the best `most` with their inner constants moved."""
        sums = ((error, (*prefix, *(self.atoms[a] for a in s))) for error, s in ranked)
        return self._all_moved(_merged(sums)[:most])

    def _all_moved(self, ranked: Ranked) -> Ranked:
        found: Ranked = []
        for k, (error, chosen) in enumerate(ranked):
            if k % 64 == 0 and self.over():
                break
            found.append(
                self._with_moved_constants(chosen) if any(a.free for a in chosen) else (error, chosen)
            )
        # what shortcuts promise is exact to rounding only behind a basis of the sum's own atoms
        exact = [(e if any(a.free for a in s) else self.subsets.error(self._matrix(s)), s) for e, s in found]
        found = sorted(exact, key=lambda entry: entry[0])
        self.best = _merged([*self.best, *found])[:KEPT]
        return found

    def _with_moved_constants(self, chosen: Sum) -> tuple[float, Sum]:
        g, rows = self.graph, len(self.goal)
        plain = [a for a in chosen if not a.free]
        free = [a for a in chosen if a.free]
        factors = np.array([np.ones(rows) if a.factor < 0 else g.values[a.factor] for a in free])
        arguments = np.array([g.values[a.of] for a in free])
        numbers = np.array([a.function for a in free])
        constants = np.array([a.constants for a in free])
        fixed = np.ascontiguousarray(self._matrix(plain).T)
        error = move_constants(fixed, factors, arguments, numbers, constants, self.goal)
        moved = [
            a._replace(constants=(float(k), float(c))) for a, (k, c) in zip(free, constants, strict=True)
        ]
        return error if np.isfinite(error) else np.inf, (*plain, *moved)

    def _matrix(self, chosen: Sequence[Atom]) -> np.ndarray:
        """The atoms' numbers as unit columns."""
        return np.column_stack([self.subsets.nothing, *map(self._unit, chosen)])

    def _unit(self, atom: Atom) -> np.ndarray:
        found = self._known.get(atom)
        if found is None:
            values = atom.values(self.graph)
            found = values / np.linalg.norm(values)
        return found


def _shorter(chosen: Sum, most: int) -> Iterator[Sum]:
    """The sum without none, each one and each two of its atoms, where two more stay within `most`."""
    for dropped in range(3):
        if len(chosen) - dropped + 2 <= most and (dropped < 2 or len(chosen) > 2):
            for out in combinations(range(len(chosen)), dropped):
                yield tuple(a for k, a in enumerate(chosen) if k not in out)


def _names(chosen: Sum) -> tuple[str, ...]:
    return tuple(sorted(atom.name for atom in chosen))


def _merged(ranked: Iterable[tuple[float, Sum]]) -> Ranked:
    """The sums, least error first; of those that differ in inner constants alone the first few."""
    kept: dict[tuple[str, ...], list[tuple[float, Sum]]] = {}
    for entry in sorted(ranked, key=lambda entry: entry[0]):
        same = kept.setdefault(_names(entry[1]), [])
        if len(same) < (SAME_NAMES if any(a.free for a in entry[1]) else 1):
            same.append(entry)
    return sorted((entry for same in kept.values() for entry in same), key=lambda entry: entry[0])


@dataclass(frozen=True)
class Dictionary:
    """Functions of columns: their numbers, shape (rows, functions), and `node`, the node of one of them.

    `constant` is the place of the number 1, -1 where it is not among them.
    """

    graph: NumberedGraph
    numbers: np.ndarray
    node: Callable[[int], int]
    constant: int

    @classmethod
    def of_products(
        cls, g: NumberedGraph, units: Sequence[int], exponents: Sequence[float], most: int
    ) -> Dictionary | None:
        """All products of powers of at most `most` of some nodes; None where they would be too many."""
        count = sum(comb(len(units), k) * len(exponents) ** k for k in range(most + 1))
        if count * len(g.rows.target) > MOST_NUMBERS:
            return None
        names = [
            tuple(zip(s, e, strict=True))
            for k in range(most + 1)
            for s in combinations(units, k)
            for e in product(exponents, repeat=k)
        ]
        powers = {
            (u, e): (g.values[u] if e == int(e) else np.abs(g.values[u])) ** e
            for u, e in product(units, exponents)
        }
        numbers = np.ones((len(g.rows.target), len(names)))
        for j, name in enumerate(names):
            for factor in name:
                numbers[:, j] *= powers[factor]
        lengths = np.linalg.norm(numbers, axis=0)
        kept = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))

        def node(j: int) -> int:
            name = names[kept[j]]
            return power_product(g, [u for u, _ in name], [e for _, e in name])

        return cls(g, numbers[:, kept], node, 0)

    def sums(self, task: Task) -> Iterator[int]:
        """Roots of the best sum of a few functions, and of exact relations with the target in them.

            y = A + B y       so that y = A/(1 - B)
            y^2 = A + B y     so that y = B/2 +- sqrt(B^2/4 + A)

        A and B are sums of functions. A relation is linear in its constants, as a sum is.
        """
        g, y, n = self.graph, task.target, self.numbers.shape[1]
        _, chosen = Subsets(self.numbers, y).best(TERMS)
        yield task.wrap(weighted_sum(g, [self.node(j) for j in chosen], y))
        for power in (1, 2):
            # the target is no sum of itself
            beside = [j for j in range(n) if power > 1 or j != self.constant]
            columns = np.column_stack([self.numbers, y[:, None] * self.numbers[:, beside]])
            error, chosen = Subsets(columns, y**power).best(TERMS + 1)
            plain, times = [j for j in chosen if j < n], [j - n for j in chosen if j >= n]
            if error < RELATED and plain and times:
                solved = coefficients(columns[:, [*plain, *(j + n for j in times)]], y**power)
                a = combined(g, [self.node(j) for j in plain], solved[: len(plain)])
                b = combined(g, [self.node(beside[j]) for j in times], solved[len(plain) :] / power)
                # the root of y^2 = a + 2 b y on the side of most of the targets
                root = "v + sqrt(v**2 + u)" if np.median(y - g.values[b]) >= 0 else "v - sqrt(v**2 + u)"
                yield task.wrap(g.made("u/(1 - v)" if power == 1 else root, u=a, v=b))


def weighted_sum(g: NumberedGraph, nodes: Sequence[int], target: np.ndarray) -> int:
    """The sum of nodes with the coefficients that fit a target best, each a new parameter."""
    return combined(g, nodes, coefficients(np.column_stack([g.values[u] for u in nodes]), target))


def combined(g: NumberedGraph, nodes: Sequence[int], weights: np.ndarray) -> int:
    """The sum of nodes with new parameters, which begin at the weights, as coefficients."""
    terms = zip(nodes, map(float, weights), strict=True)
    parts = (g.fresh(c) if g.nodes[u].op == "const" else g.add("mul", g.fresh(c), u) for u, c in terms)
    return reduce(partial(g.add, "add"), parts)
