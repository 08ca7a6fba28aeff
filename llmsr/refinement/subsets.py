"""Small subsets of many atoms whose best linear combination comes near a target: every pair, every triple.

Atoms that resemble each other on the rows hide from a search that adds one at a time, and from a beam; so
all pairs behind a prefix are looked at. With the prefix projected out of unit atoms p_j and of the target's
rest r, b = P'r and G = P'P, the pair j, k explains of the square of r

    (b_j^2 l_k + b_k^2 l_j - 2 b_j b_k g_jk) / (l_j l_k - g_jk^2)      with l_j = g_jj

Inner constants of a set are moved to where it comes nearest, by Gauss-Newton with the coefficients projected
out (Golub and Pereyra, 1973; Kaufman's step). That takes some 0.2 ms, where a fit takes thirty: it ranks
sets, of which the best are fitted.
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"
from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from llmsr.expression.engine import NAME, jit

NOTHING_LEFT = 1e-13  # square of what is left of a unit atom behind its prefix, at least
INDEPENDENT = 1e-11  # sine squared of the angle between two atoms, at least, for them to be a pair
OF_A_PREFIX = 8  # pairs of one prefix that are kept
FEW, MANY, WIDE = 600, 2000, 8000  # atoms: with all triples, with some, for which a beam is narrow
WIDTH, NARROW = 12, 6  # of a beam, for each of its sets
EXACT = 3  # sets of a size that are compared without shortcuts
WORTH = 0.8  # times the share that a smaller set leaves, at most, for an atom more
ENOUGH = 1e-14  # share of the target's square at which no other atom is needed
FIRST = 60  # atoms, or pairs, of which larger sets are made where not all are
STEPS = 12  # of inner constants
DIFFERENCE = 1e-6  # relative, by which derivatives are taken
CLOSE = 1e-26  # share of the target's square that is left, at which constants stay
SAME = 1e-8  # length of a unit column behind the others, at least
FARTHEST = 2.0  # times its size that a constant moves in a step, at most
TWO_CONSTANTS = 10  # the function from which on there is a middle c beside the scale k

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
    gain = np.triu(_gain(gram - shadows.T @ shadows, along[:, None], along, left[:, None], left), 1)
    gain[:first] = 0.0
    partners[:] = gain.argmax(1)
    gains[:] = gain[np.arange(len(along)), partners]
    partners[gains <= 0] = -1


def _gain(g, a, b, own, other):
    """What pairs explain, element by element: 0 where nothing is left of an atom, or both are the same."""
    independent = own * other - g * g
    usable = (independent > INDEPENDENT * own * other) & (own > NOTHING_LEFT) & (other > NOTHING_LEFT)
    gain = a * a * other - 2.0 * a * b * g + b * b * own
    return np.where(usable, gain / np.where(usable, independent, 1.0), 0.0)


@jit
def function_values(number, u, k, c):
    """The function of that number, by its place in `atoms.FAMILIES`, at the values u."""
    if number == 0:
        return np.exp(-k * u)
    if number == 1:
        return np.sin(k * u)
    if number == 2:
        return np.cos(k * u)
    if number == 3:
        return np.tanh(k * u)
    if number == 4:
        return 1.0 / (1.0 + k * u)
    if number == 5:
        return 1.0 / (1.0 + k * u * u)
    if number == 6:
        return 1.0 / (1.0 + k * u * u * u * u)
    if number == 7:
        return np.log(np.abs(1.0 + k * u))
    if number == 8:
        return np.exp(-k * u * u)
    if number == 9:
        return np.abs(u) ** k
    if number == 10:
        return 1.0 / (1.0 + np.exp(-k * (u - c)))
    if number == 11:
        return np.exp(-((k * (u - c)) ** 2))
    return np.exp(-np.abs(k * (u - c)))


@jit
def _orthogonal(columns, count, basis, upper):
    """Columns made orthonormal, rows of `basis`, by Gram and Schmidt taken twice; `upper` holds the rest.

    A column that is nothing beside those before it becomes zero.
    """
    for j in range(count):
        v = columns[j].copy()
        length = np.sqrt(v @ v)
        upper[:, j] = 0.0
        for _ in range(2):
            for i in range(j):
                shadow = basis[i] @ v
                upper[i, j] += shadow
                v -= shadow * basis[i]
        left = np.sqrt(v @ v)
        if left > SAME * length:
            upper[j, j] = left
            basis[j] = v / left
        else:
            basis[j] = 0.0


@jit
def _solved(upper, along, count):
    """The coefficients behind `_orthogonal`; 0 for a column that is nothing beside the others."""
    found = np.zeros(count)
    for j in range(count - 1, -1, -1):
        if upper[j, j] > 0.0:
            total = along[j]
            for i in range(j + 1, count):
                total -= upper[j, i] * found[i]
            found[j] = total / upper[j, j]
    return found


@jit
def _left(plain, factors, arguments, numbers, constants, goal, columns, basis, upper):
    """What the best sum leaves of the goal; fills the columns, their basis and the coefficients' triangle."""
    fixed, free = len(plain), len(factors)
    for i in range(fixed):
        columns[i] = plain[i]
    for i in range(free):
        value = function_values(numbers[i], arguments[i], constants[i, 0], constants[i, 1])
        columns[fixed + i] = factors[i] * value
    _orthogonal(columns, fixed + free, basis, upper)
    rest = goal.copy()
    for _ in range(2):
        for i in range(fixed + free):
            rest -= (basis[i] @ rest) * basis[i]
    return rest


@jit
def move_constants(plain, factors, arguments, numbers, constants, goal):
    """Move the inner constants of a sum; the share of the goal's square that is left.

    The sum has the terms `plain` (terms, rows) and those with constants, `factors` * f(`arguments`), both
    (free terms, rows), where `numbers` tells f and `constants` (free terms, 2) begins; these are changed in
    place. The goal has length 1.
    """
    fixed, free, rows = len(plain), len(factors), len(goal)
    count = fixed + free
    columns, basis, upper = np.zeros((count, rows)), np.zeros((count, rows)), np.zeros((count, count))
    slopes, own = np.zeros((2 * free, rows)), np.zeros((2 * free, rows))
    triangle = np.zeros((2 * free, 2 * free))
    rest = _left(plain, factors, arguments, numbers, constants, goal, columns, basis, upper)
    error = rest @ rest
    for _ in range(STEPS):
        if not error > CLOSE:
            break
        weights = _solved(upper, basis @ goal, count)
        m = 0
        for i in range(free):
            for which in range(2 if numbers[i] >= TWO_CONSTANTS else 1):
                moved = constants[i].copy()
                step = DIFFERENCE * (abs(moved[which]) if moved[which] != 0.0 else 1.0)
                moved[which] += step
                value = factors[i] * function_values(numbers[i], arguments[i], moved[0], moved[1])
                slopes[m] = weights[fixed + i] / step * (value - columns[fixed + i])
                for j in range(count):
                    slopes[m] -= (basis[j] @ slopes[m]) * basis[j]
                m += 1
        _orthogonal(slopes, m, own, triangle)
        step_to = _solved(triangle[:m, :m], own[:m] @ rest, m)
        if not np.isfinite(step_to).all():
            break
        better = False
        for share in (1.0, 0.3, 0.05):
            trial, m = constants.copy(), 0
            for i in range(free):
                for which in range(2 if numbers[i] >= TWO_CONSTANTS else 1):
                    most = FARTHEST * abs(constants[i, which])
                    trial[i, which] += min(max(share * step_to[m], -most), most)
                    m += 1
            left = _left(plain, factors, arguments, numbers, trial, goal, columns, basis, upper)
            if left @ left < error:
                better = True
                break
        if not better:
            break
        gained = error / max(left @ left, 1e-300)
        constants[:], rest, error = trial, left, left @ left
        if gained < 1.001:
            break
    return error


class Subsets:
    """Small sets of atoms, unit columns of shape (rows, atoms), behind a prefix of other columns (rows, any).

    Atoms are told by their positions. The error of a set is the square that the best combination of it and of
    the prefix leaves of the target, as a share of the target's square.
    """

    def __init__(self, atoms: np.ndarray, target: np.ndarray) -> None:
        self.unit = atoms / np.linalg.norm(atoms, axis=0)
        self.target = target / np.linalg.norm(target)
        self.nothing = np.empty((len(target), 0))

    @cached_property
    def gram(self) -> np.ndarray:
        """The cosine between every two atoms; of many that are looked at one by one it is not needed."""
        return self.unit.T @ self.unit

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

    def all_pairs(
        self, kinds: np.ndarray, count: int, prefix: np.ndarray | None = None
    ) -> list[tuple[float, Subset]]:
        """The best `count` pairs behind a prefix; of those whose atoms are of the same two kinds the best.

        `kinds` are numbers from 0 on, one an atom.
        """
        shadows, along, left, square = self._projected(self.nothing if prefix is None else prefix)
        usable = np.flatnonzero(left > NOTHING_LEFT)
        first, second = (usable[k] for k in np.triu_indices(len(usable), 1))
        g = (self.gram - shadows.T @ shadows)[first, second]
        gain = _gain(g, along[first], along[second], left[first], left[second])
        order = np.argsort(-gain, kind="stable")
        i, j = kinds[first], kinds[second]
        two = np.minimum(i, j) * len(kinds) + np.maximum(i, j)
        _, at = np.unique(two[order], return_index=True)
        best = order[np.sort(at)[:count]]
        return [(square - float(gain[k]), (int(first[k]), int(second[k]))) for k in best]

    def triples(self, count: int, exhaustive: bool = True) -> list[tuple[float, Subset]]:
        """The best of all sets of three, of `FIRST` first atoms unless `exhaustive`.

        Of each first atom `OF_A_PREFIX` are kept.
        """
        if exhaustive and NAME == "numba":
            return self.larger([(i,) for i in range(len(self.gram) - 2)], count, ordered=True)
        return self.larger([s for _, s in self.singles(self.nothing, FIRST)], count)

    def larger(self, sets: Iterable[Subset], count: int, ordered: bool = False) -> list[tuple[float, Subset]]:
        """The best sets of two atoms more; where `ordered`, these come behind a set's last one."""
        found: list[tuple[float, Subset]] = []
        for s in sets:
            behind = self.pairs(self.unit[:, s], OF_A_PREFIX, first=s[-1] + 1 if ordered else 0)
            found += [(error, tuple(sorted((*s, *more)))) for error, more in behind]
            if len(found) > 8 * count:
                found = sorted(found)[:count]
        return sorted(dict.fromkeys(found))[:count]

    def best(self, most: int) -> tuple[float, Subset]:
        """The set of at most `most` atoms that leaves least, and the share that it leaves.

        Every pair is looked at, and pairs behind the best atoms, of few atoms all, and behind the best pairs;
        of very many atoms a beam.
        """
        n = self.unit.shape[1]
        best: tuple[float, Subset] = (1.0, (int(np.abs(self.unit.T @ self.target).argmax()),))
        sizes: list[list[Subset]] = [[()]]
        for size in range(1, most + 1):
            if size < 2 or n > MANY:
                found = self._one_more(sizes[-1], NARROW if n > WIDE else WIDTH)
            elif size == 3:
                found = self.triples(FIRST, n <= FEW)
            else:
                found = self.larger(sizes[-2], FIRST)
            sizes.append([s for _, s in found])
            # what shortcuts promise is exact to rounding only behind a basis of the set's own
            error, chosen = min((self.error(self.unit[:, s]), s) for s in sizes[-1][:EXACT])
            if error < WORTH * best[0]:
                best = error, chosen
            if error < ENOUGH:
                break
        return best

    def _one_more(self, sets: Sequence[Subset], width: int) -> list[tuple[float, Subset]]:
        """The best sets of one atom more."""
        found = {
            tuple(sorted((*s, *more))): error
            for s in sets
            for error, more in self.singles(self.unit[:, s], width)
        }
        return sorted((error, s) for s, error in found.items())[:width]

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
