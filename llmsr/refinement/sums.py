"""Sums of atoms that come nearest to a target, stage by stage: from pairs to six, inner constants moved.

A stage ends with sums whose inner constants have been moved to where the whole sum fits best, so that near
laws, which differ by less than a grid of constants can tell, stand in their true order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np

from llmsr.refinement.atoms import Atom, atoms_of
from llmsr.refinement.inner_constants import move_constants
from llmsr.refinement.powers import Task
from llmsr.refinement.subsets import Subset, Subsets

PLAIN = 500  # sums without inner constants whose errors are computed exactly
PAIRS, TRIPLES, BEHIND = 20_000, 4000, 400  # sums with inner constants that are moved, and of a polynomial
SAME_NAMES = 2  # sums that differ in inner constants alone
BEAM = 16  # sums that are exchanged
MOST_TERMS = 6
ROUNDS = 8  # of exchanges
MOVED_A_ROUND = 96

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
        self._known: dict[Atom, np.ndarray] = dict(zip(self.atoms, self.subsets.unit.T, strict=True))

    def stages(self, few: bool = False) -> Iterator[Ranked]:
        """Pairs, triples, polynomials with two atoms more, exchanges; the first two alone where `few` do."""
        n = len(self.atoms)
        if n < 4:
            return
        subsets = self.subsets
        singles = [(e, s) for e, s in subsets.singles(subsets.nothing, 8)]
        yield self._moved([*singles, *subsets.all_pairs(self.kinds)], PAIRS if self.free else PLAIN)
        if self.over():
            return
        triples = self._moved(subsets.triples(8 * TRIPLES), TRIPLES if self.free else PLAIN)
        yield triples
        if few:
            return
        polynomials: Ranked = []
        for prefix in self._polynomials():
            columns = self._matrix(prefix)
            behind = [*subsets.singles(columns, BEHIND // 4), *subsets.pairs(columns, BEHIND)]
            polynomials += self._moved(behind, BEHIND, prefix)
            if self.over():
                return
        polynomials = sorted(polynomials, key=lambda entry: entry[0])
        yield polynomials
        yield from self._exchanges(_merged([*triples[:200], *polynomials[:200]]))

    def _polynomials(self) -> Iterator[Sum]:
        """Powers of one column that are atoms: two and three of them."""
        roots = {atom.root: atom for atom in self.atoms if not atom.free}
        g = self.graph
        for u in self.columns[:4]:
            powers = [u, *(g.add("pow", u, g.const(e)) for e in (2.0, 3.0))]
            found = [roots[root] for root in powers if root in roots]
            yield from (tuple(found[:k]) for k in (2, 3) if len(found) >= k)

    def _exchanges(self, beam: Ranked) -> Iterator[Ranked]:
        """The best sums with none, one or two atoms less and two more, as long as that pays."""
        best, seen = np.inf, set()
        beam = beam[:BEAM]
        for _ in range(ROUNDS):
            further: Ranked = []
            for _, chosen in beam:
                for kept in _shorter(chosen):
                    found = self.subsets.pairs(self._matrix(kept), 4)
                    further += [(e, (*kept, *(self.atoms[a] for a in s))) for e, s in found]
                if self.over():
                    return
            fresh = [entry for entry in _merged(further) if _names(entry[1]) not in seen]
            beam = self._all_moved(fresh[:MOVED_A_ROUND])
            seen |= {_names(chosen) for _, chosen in beam}
            if not beam or beam[0][0] > 0.9 * best or self.over():
                return
            best, beam = beam[0][0], beam[:BEAM]
            yield beam

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
        return sorted(exact, key=lambda entry: entry[0])

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


def _shorter(chosen: Sum) -> Iterator[Sum]:
    """The sum without none, each one and each two of its atoms, where two more stay within `MOST_TERMS`."""
    for dropped in range(3):
        if len(chosen) - dropped + 2 <= MOST_TERMS and (dropped < 2 or len(chosen) > 2):
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
