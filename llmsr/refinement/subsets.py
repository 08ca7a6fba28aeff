"""Small subsets of many atoms whose best linear combination comes near a target: every pair, every triple.

Atoms that resemble each other on the rows hide from a search that adds one at a time, and from a beam; so
all pairs behind a prefix are looked at. With the prefix projected out of unit atoms p_j and of the target's
rest r, b = P'r and G = P'P, the pair j, k explains of the square of r

    (b_j^2 l_k + b_k^2 l_j - 2 b_j b_k g_jk) / (l_j l_k - g_jk^2)      with l_j = g_jj
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from llmsr.expression.engine import NAME, jit

NOTHING_LEFT = 1e-13  # square of what is left of a unit atom behind its prefix, at least
INDEPENDENT = 1e-11  # sine squared of the angle between two atoms, at least, for them to be a pair
OF_A_PREFIX = 8  # pairs of one prefix that are kept
FIRST_IN_NUMPY = 60  # first atoms of triples where nothing is compiled

Subset = tuple[int, ...]


@jit
def _best_partners(gram, along, left, shadows, first, gains, partners):
    """For every atom j from `first` on the atom k > j with which it explains most, and how much."""
    m, n = shadows.shape
    row = np.empty(n)
    for j in range(n):
        best, partner, own, b = 0.0, -1, left[j], along[j]
        if j >= first and own > NOTHING_LEFT:
            # loops without branches, which the compiler turns into vector instructions
            for k in range(j + 1, n):
                row[k] = gram[j, k]
            for c in range(m):
                shadow = shadows[c, j]
                for k in range(j + 1, n):
                    row[k] -= shadow * shadows[c, k]
            for k in range(j + 1, n):
                g, other = row[k], left[k]
                independent = own * other - g * g
                gain = b * b * other + along[k] * (along[k] * own - 2.0 * b * g)
                enough = independent > INDEPENDENT * own * other and other > NOTHING_LEFT
                row[k] = gain / independent if enough else 0.0
            for k in range(j + 1, n):
                if row[k] > best:
                    best, partner = row[k], k
        gains[j], partners[j] = best, partner


def _best_partners_in_numpy(gram, along, left, shadows, first, gains, partners):
    """The same by numpy, in memory of the square of the number of atoms."""
    g = gram - shadows.T @ shadows
    room = np.outer(left, left)
    independent = room - g * g
    gain = np.add.outer(along**2, np.zeros(len(along))) * left
    gain = gain + gain.T - 2.0 * np.outer(along, along) * g
    usable = (independent > INDEPENDENT * room) & np.outer(left > NOTHING_LEFT, left > NOTHING_LEFT)
    gain = np.triu(np.where(usable, gain / np.where(usable, independent, 1.0), 0.0), 1)
    gain[:first] = 0.0
    partners[:] = gain.argmax(1)
    gains[:] = gain[np.arange(len(along)), partners]
    partners[gains <= 0] = -1


class Subsets:
    """Small sets of atoms, unit columns of shape (rows, atoms), behind a prefix of other columns (rows, any).

    Atoms are told by their positions. The error of a set is the square that the best combination of it and of
    the prefix leaves of the target, as a share of the target's square.
    """

    def __init__(self, atoms: np.ndarray, target: np.ndarray, compared: bool = True) -> None:
        self.unit = atoms / np.linalg.norm(atoms, axis=0)
        self.target = target / np.linalg.norm(target)
        # of many atoms that are looked at one by one no two need be compared
        self.gram = self.unit.T @ self.unit if compared else np.empty((0, 0))
        self.nothing = np.empty((len(target), 0))

    def error(self, columns: np.ndarray) -> float:
        """The share of the target's square that columns leave, exact to rounding."""
        _, rest = self._behind(columns)
        return float(rest @ rest)

    def singles(self, prefix: np.ndarray, count: int) -> list[tuple[float, Subset]]:
        """The best atoms behind a prefix, least error first."""
        _, along, left, square = self._projected(prefix)
        gain = np.where(left > NOTHING_LEFT, along**2 / np.where(left > NOTHING_LEFT, left, 1.0), 0.0)
        best = np.argpartition(-gain, min(count, len(gain) - 1))[:count]
        return sorted((square - float(gain[j]), (int(j),)) for j in best if gain[j] > 0)

    def pairs(self, prefix: np.ndarray, count: int, first: int = 0) -> list[tuple[float, Subset]]:
        """The best pairs behind a prefix, those of least error, of one first atom only the best.

        Atoms before `first` are no first atoms.
        """
        shadows, along, left, square = self._projected(prefix)
        n = len(along)
        gains, partners = np.empty(n), np.empty(n, dtype=np.int64)
        search = _best_partners if NAME == "numba" else _best_partners_in_numpy
        search(self.gram, along, left, shadows, first, gains, partners)
        best = np.argpartition(-gains, min(count, n - 1))[:count]
        found = [(square - float(gains[j]), (int(j), int(partners[j]))) for j in best if gains[j] > 0]
        return sorted((error, (min(s), max(s))) for error, s in found)

    def all_pairs(self, kinds: np.ndarray) -> list[tuple[float, Subset]]:
        """Of all pairs whose atoms are of the same two kinds the best one.

        `kinds` are numbers from 0 on, one an atom.
        """
        along = self.unit.T @ self.target
        first, second = np.triu_indices(len(along), 1)
        g, a, b = self.gram[first, second], along[first], along[second]
        left = 1.0 - g * g
        gain = (a * a - 2.0 * a * b * g + b * b) / np.maximum(left, INDEPENDENT)
        gain[left <= INDEPENDENT] = 0.0
        order = np.argsort(-gain, kind="stable")
        i, j = kinds[first], kinds[second]
        two = np.minimum(i, j) * len(kinds) + np.maximum(i, j)
        _, at = np.unique(two[order], return_index=True)
        best = order[np.sort(at)]
        return [(1.0 - float(gain[k]), (int(first[k]), int(second[k]))) for k in best]

    def triples(self, count: int) -> list[tuple[float, Subset]]:
        """The best of all sets of three, by the first of which each prefix keeps `OF_A_PREFIX`."""
        n = len(self.gram)
        firsts: Iterable[int] = range(n - 2)
        if NAME != "numba":
            firsts = sorted(s[0] for _, s in self.singles(self.nothing, FIRST_IN_NUMPY))
        found: list[tuple[float, Subset]] = []
        for i in firsts:
            behind = self.pairs(self.unit[:, [i]], OF_A_PREFIX, first=i + 1 if NAME == "numba" else 0)
            found += [(error, tuple(sorted((i, *s)))) for error, s in behind]
            if len(found) > 8 * count:
                found = sorted(found)[:count]
        return sorted(dict.fromkeys(found))[:count]

    def _behind(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal basis of the columns, and the target without its part along it."""
        basis, _ = np.linalg.qr(columns)
        rest = self.target - basis @ (basis.T @ self.target)
        return basis, rest - basis @ (basis.T @ rest)

    def _projected(self, prefix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        basis, rest = self._behind(prefix)
        shadows = np.ascontiguousarray(basis.T @ self.unit)
        left = 1.0 - np.einsum("ij,ij->j", shadows, shadows)
        return shadows, self.unit.T @ rest, left, float(rest @ rest)
