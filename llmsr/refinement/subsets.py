"""Small subsets of many atoms whose best linear combination comes near a target: every pair, every triple.

Atoms that resemble each other on the rows hide from a search that adds one at a time, and from a beam; so
all pairs behind a prefix are looked at. With the prefix projected out of unit atoms p_j and of the target's
rest r, b = P'r and G = P'P, the pair j, k explains of the square of r

    (b_j^2 l_k + b_k^2 l_j - 2 b_j b_k g_jk) / (l_j l_k - g_jk^2)      with l_j = g_jj
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from llmsr.expression.engine import NAME, jit

NOTHING_LEFT = 1e-13  # square of what is left of a unit atom behind its prefix, at least
INDEPENDENT = 1e-11  # sine squared of the angle between two atoms, at least, for them to be a pair
OF_A_PREFIX = 4  # pairs of one prefix that are kept
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
    """Subsets of atoms, columns of shape (rows, atoms), for a target (rows,).

    A subset is a sorted tuple of positions; its error is the square that its best combination leaves, as a
    share of the target's square.
    """

    def __init__(self, atoms: np.ndarray, target: np.ndarray) -> None:
        self.unit = atoms / np.linalg.norm(atoms, axis=0)
        self.target = target / np.linalg.norm(target)
        self.gram = self.unit.T @ self.unit

    def error(self, chosen: Subset) -> float:
        """The share of the target's square that is left, exact to rounding."""
        _, rest = self._behind(chosen)
        return float(rest @ rest)

    def coefficients(self, chosen: Subset) -> np.ndarray:
        """The best coefficients of the chosen unit atoms for the unit target."""
        return np.linalg.lstsq(self.unit[:, list(chosen)], self.target, rcond=1e-13)[0]

    def singles(self, chosen: Subset, count: int) -> list[tuple[float, Subset]]:
        """The chosen atoms with one more: the best, least error first."""
        _, along, left, square = self._projected(chosen)
        gain = np.where(left > NOTHING_LEFT, along**2 / np.where(left > NOTHING_LEFT, left, 1.0), 0.0)
        best = np.argsort(-gain, kind="stable")[:count]
        return [(square - float(gain[j]), _with(chosen, int(j))) for j in best if gain[j] > 0]

    def pairs(self, chosen: Subset, count: int = OF_A_PREFIX, first: int = 0) -> list[tuple[float, Subset]]:
        """The chosen atoms with two more, those of least error, of one first atom only the best."""
        shadows, along, left, square = self._projected(chosen)
        n = len(along)
        gains, partners = np.empty(n), np.empty(n, dtype=np.int64)
        search = _best_partners if NAME == "numba" else _best_partners_in_numpy
        search(self.gram, along, left, shadows, first, gains, partners)
        best = np.argpartition(-gains, min(count, n - 1))[:count]
        found = [
            (square - float(gains[j]), _with(chosen, int(j), int(partners[j]))) for j in best if gains[j] > 0
        ]
        return sorted(found)

    def triples(self, count: int) -> list[tuple[float, Subset]]:
        """The best of all sets of three, by the first of which each prefix keeps `OF_A_PREFIX`."""
        n = len(self.gram)
        firsts: Iterable[int] = range(n - 2)
        if NAME != "numba":
            firsts = sorted(int(s[0]) for _, s in self.singles((), FIRST_IN_NUMPY))
        found: list[tuple[float, Subset]] = []
        for i in firsts:
            found += self.pairs((i,), first=i + 1 if NAME == "numba" else 0)
            if len(found) > 8 * count:
                found = sorted(found)[:count]
        return sorted(dict.fromkeys(found))[:count]

    def exchanged(self, chosen: Subset, most: int) -> list[tuple[float, Subset]]:
        """The subset with none, one or two atoms less and the best pairs more, at most `most` atoms."""
        found: list[tuple[float, Subset]] = []
        n = len(chosen)
        dropped: list[Sequence[int]] = [()] if n + 2 <= most else []
        dropped += [(i,) for i in range(n) if n + 1 <= most]
        dropped += [(i, j) for i in range(n) for j in range(i) if n > 2]
        for out in dropped:
            found += self.pairs(tuple(a for k, a in enumerate(chosen) if k not in out), 2)
        return sorted(found)

    def _behind(self, chosen: Subset) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal basis of the chosen atoms, and the target without its part along it."""
        basis, _ = np.linalg.qr(self.unit[:, list(chosen)])
        rest = self.target - basis @ (basis.T @ self.target)
        return basis, rest - basis @ (basis.T @ rest)

    def _projected(self, chosen: Subset) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        basis, rest = self._behind(chosen)
        shadows = np.ascontiguousarray(basis.T @ self.unit)
        left = 1.0 - np.einsum("ij,ij->j", shadows, shadows)
        return shadows, self.unit.T @ rest, left, float(rest @ rest)


def _with(chosen: Subset, *more: int) -> Subset:
    return tuple(sorted((*chosen, *more)))
