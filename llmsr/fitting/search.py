"""The search for the best constants of one expression: several descents, each improving on what is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from llmsr.expression.derive import derivatives, linear_params
from llmsr.expression.engine import chosen as engine
from llmsr.expression.engine.tape import Tape, compile_tape
from llmsr.expression.graph import Expression, Graph, Node
from llmsr.fitting.dataset import Dataset, lay_out, strided
from llmsr.fitting.descent import CAPPED, descend
from llmsr.fitting.quasi_newton import minimise
from llmsr.fitting.race import heat, kick
from llmsr.fitting.starts import Starts
from llmsr.problem.loading import Split

FLOOR = 1e-26  # NMSE below which nothing is left to gain in float64
TIE = 5e-4  # losses closer than this are equal, and the smaller parameters win
GOOD = 1e-2  # NMSE on the subset below which no dense grid of frequencies is tried
HUGE = 1e4
MANY_NONLINEAR, POOR = 5, 0.05  # from so many on, an NMSE above POOR is worth more chains of kicks
KICK_ROUNDS = 4
HOPELESS = 10.0  # times a rival's loss; of 1,268 skeletons the rest of a fit gained a factor of 2.4 at most
MANY_ROWS, PART_ROWS = 65536, 16384
MANY_FEATURES = 2**23  # numbers in precomputed column-only results, 64 MB


@dataclass(frozen=True)
class Candidate:
    """Parameters in tape order and their sum of squared residuals on all rows."""

    squares: float
    theta: np.ndarray


class Search:
    """One expression on one data set: programs for all rows and the subset, and what was found so far."""

    def __init__(self, expression: Expression, data: Dataset, deadline: float, rival: float = 0.0) -> None:
        self.expression, self.data, self.deadline, self.rival = expression, data, deadline, rival
        self.screened = False
        per_row = max(4, MANY_FEATURES // max(1, data.full.rows))
        derived = derivatives(expression, prune=False)
        self.tape: Tape = compile_tape(derived, per_row)
        # thresholds: the equation depends on them, but its derivative is zero wherever it has one
        self.steps = np.array([derived.nodes[p] == Node("const", (), 0.0) for p in derived.partials], bool)
        linear = linear_params(expression)
        self.starts = Starts(expression, linear, data.sample.columns)
        self.linear = np.array([p in linear for p in self.tape.params], bool)
        self.high = np.where(self.linear, 1e14, 1e9)
        self.candidates: list[Candidate] = []
        self.borrowed = 0.0  # evaluations of a search on part of the rows, in passes over all

    @cached_property
    def features(self) -> np.ndarray:
        """The tape's features on all rows."""
        return self.tape.features(self.data.full.columns)

    @cached_property
    def full(self):
        return engine.bind(self.tape, self.features, self.data.full.target, self.deadline)

    @cached_property
    def subset(self):
        subset = self.data.subset
        if subset is self.data.full:
            return self.full
        features = strided(self.features, subset.rows)
        return engine.bind(self.tape, features, subset.target, self.deadline)

    @property
    def n_nonlinear(self) -> int:
        return int(np.count_nonzero(~self.linear))

    @property
    def late(self) -> bool:
        return bool(engine.expired(self.full.handle))

    @property
    def evaluations(self) -> int:
        """Passes over all rows, those over the subset counted by their share."""
        share = self.data.subset.rows / self.data.full.rows
        small = 0 if self.subset is self.full else int(self.subset.counters[0])
        return int(self.full.counters[0]) + int(np.ceil(small * share + self.borrowed))

    @property
    def best(self) -> Candidate | None:
        return min(self.candidates, key=lambda c: c.squares, default=None)

    @property
    def solved(self) -> bool:
        best = self.best
        return best is not None and best.squares <= FLOOR * self.data.power

    @property
    def hopeless(self) -> bool:
        """Whether what is known is no better than `HOPELESS` times the rival; noted in `screened`.

        A loss above the target's power says only that no start was any good.
        """
        best = self.best
        if best is not None and HOPELESS * self.rival < best.squares < 2.0 * self.data.power:
            self.screened = self.rival > 0.0
        return self.screened

    def _keep(self, theta: np.ndarray, squares: float) -> None:
        if np.isfinite(squares) and np.isfinite(theta).all():
            self.candidates.append(Candidate(float(squares), theta.copy()))

    def evaluate(self, theta: np.ndarray) -> None:
        """Notes `theta` as it is."""
        k = len(theta)
        g = np.empty((k + 1, k + 1))
        engine.gram(self.full.handle, theta, g)
        self._keep(theta, g[k, k])

    def polish(self, theta: np.ndarray, iterations: int, tolerance: float = 1e-5) -> bool:
        """Levenberg-Marquardt on all rows from `theta`; whether it was stopped on its way."""
        k = len(theta)
        theta = theta.copy()
        g = np.empty((k + 1, k + 1))
        g[k, k] = np.inf
        floor = 1e-3 * FLOOR * self.data.power
        high = self.high
        ended = descend(
            self.full.handle, theta, self.linear, -high, high, floor, np.inf, tolerance, iterations, g
        )
        self._keep(theta, g[k, k])
        return ended == CAPPED

    def bfgs(self) -> np.ndarray:
        """BFGS from ones on all rows; notes and returns where it stops."""
        theta = np.ones(self.tape.n_params)
        value = minimise(self.full.handle, theta)
        self._keep(theta, value * self.data.full.rows)
        return theta

    @property
    def subset_power(self) -> float:
        return self.data.power * self.data.subset.rows / self.data.full.rows

    @property
    def subset_floor(self) -> float:
        return 1e-3 * FLOOR * self.subset_power

    def _heat(
        self, thetas: np.ndarray, low: np.ndarray, high: np.ndarray, iterations: int, tolerance: float
    ) -> list[Candidate]:
        """Where the starts end on the subset, best first; those without a finite end are left out."""
        squares = np.empty(len(thetas))
        heat(
            self.subset.handle,
            thetas,
            self.linear,
            low,
            high,
            self.subset_floor,
            tolerance,
            iterations,
            squares,
        )
        order = np.argsort(squares, kind="stable")
        return [Candidate(float(squares[i]), thetas[i]) for i in order if np.isfinite(squares[i])]

    def race(self, count: int) -> list[Candidate]:
        """Where all ones and the best of `count` fixed starts end on the subset, best first.

        The winner is kicked: each parameter in turn is moved to each of its candidates, until a whole round
        improves it by less than 1%.
        """
        bank = self.starts.bank(count)
        thetas = np.vstack([np.ones(self.tape.n_params), bank.starts])
        high = np.vstack([self.high, bank.high])
        low = np.vstack([-self.high, bank.low])
        first = self._heat(thetas, low, high, 6, 1e-3)[: max(6, len(thetas) // 4)]
        if not first:
            return []
        ends = self.continued([c.theta for c in first]) or first
        best, reached = self._chain(ends[0])
        for end in ends[1:3] if self.n_nonlinear >= MANY_NONLINEAR else []:
            if reached <= POOR * self.subset_power:
                break
            other, there = self._chain(end)
            if there < reached:
                best, reached = other, there
        reached = self._stepped(self.subset, best, reached, 0.1)
        for end in self.continued([best], 100, 1e-7):
            best, reached = end.theta, end.squares
        return [Candidate(reached, best), *ends] if reached < ends[0].squares else ends

    def _chain(self, start: Candidate) -> tuple[np.ndarray, float]:
        """Rounds of kicks on the subset from one end, the last one through a dense grid of frequencies."""
        best, reached = start.theta.copy(), start.squares
        if self.n_nonlinear == 1 and reached <= GOOD * self.subset_power:
            # the bank has been at all candidates of the only parameter
            return best, reached
        grid, dense = self.starts.around(best)
        for _ in range(KICK_ROUNDS if self.n_nonlinear > 1 else 0):
            before = reached
            reached = self._kicked(self.subset, best, reached, grid, 8)
            if reached > 0.99 * before or reached <= self.subset_floor:
                break
            if reached < 0.5 * before:
                grid, dense = self.starts.around(best)
        if dense is not None and reached > GOOD * self.subset_power:
            reached = self._kicked(self.subset, best, reached, dense, 2)
        return best, reached

    def _kicked(self, program, theta: np.ndarray, squares: float, grid: np.ndarray, iterations: int) -> float:
        if self.late:
            return squares
        high, floor = self.high, self.subset_floor
        return float(
            kick(program.handle, theta, squares, grid, self.linear, -high, high, floor, 1e-3, iterations)
        )

    def _stepped(self, program, theta: np.ndarray, squares: float, share: float) -> float:
        """Narrows thresholds in ever finer grids around where they are, moving `theta` in place.

        The first grid spans `share` of the range of what is compared to either side.
        """
        if not self.steps.any() or self.late:
            return squares
        grid, _ = self.starts.around(theta)
        span = np.where(self.steps, grid.max(axis=1) - grid.min(axis=1), np.nan)
        for _ in range(3):
            around = theta[:, None] + share * span[:, None] * np.linspace(-1.0, 1.0, 12)
            squares = self._kicked(program, theta, squares, around, 3)
            share /= 5.0
        return squares

    def step(self) -> None:
        """Narrows thresholds of the best candidate on all rows."""
        best = self.best
        if best is not None and self.steps.any() and not self.solved:
            theta = best.theta.copy()
            squares = self._stepped(self.full, theta, best.squares, 0.02)
            self._keep(theta, squares)

    def continued(
        self, thetas: list[np.ndarray], iterations: int = 30, tolerance: float = 1e-5
    ) -> list[Candidate]:
        """Where longer descents on the subset, free of the bank's boxes, lead; best first."""
        wide = np.tile(self.high, (len(thetas), 1))
        return self._heat(np.vstack(thetas), -wide, wide, iterations, tolerance)

    def promising(self, end: Candidate, polished: list[float]) -> bool:
        """Whether an end on the subset may beat what is known on all rows; `polished`: ends tried so far.

        An end that passes a pole between two rows of the subset is excellent there and useless on all rows,
        so rivals are measured by the subset's loss of what is best on all rows too.
        """
        if any(abs(end.squares - other) <= 1e-3 * other for other in polished):
            return False
        best = self.best
        if best is None or not polished:
            return True
        k = len(best.theta)
        g = np.empty((k + 1, k + 1))
        engine.gram(self.subset.handle, best.theta, g)
        return bool(end.squares < max(1.2 * polished[0], g[k, k]))

    def shrink(self) -> None:
        """Where the best parameters are huge, looks for smaller ones whose loss is equal to `TIE`.

        Along directions in which the loss is flat, parameters run away on train and extrapolate badly. Each
        round takes the Gauss-Newton step under a ridge worth `TIE` of the loss, as far as the tie allows.
        """
        best = self.best
        if best is None or self.solved or not np.abs(best.theta).max() > HUGE:
            return
        limit, theta, k = best.squares * (1.0 + TIE), best.theta.copy(), len(best.theta)
        g = np.empty((k + 1, k + 1))
        for _ in range(6):
            engine.gram(self.full.handle, theta, g)
            size = np.sqrt(np.maximum(np.diag(g)[:k], 1e-300))
            ridge = np.where(np.abs(theta) > 1.0, TIE * best.squares / np.maximum(theta * theta, 1.0), 0.0)
            matrix = g[:k, :k] / np.outer(size, size) + np.diag(ridge / size / size + 1e-14)
            right = (g[k, :k] - ridge * theta) / size
            if not (np.isfinite(matrix).all() and np.isfinite(right).all()):
                return
            step = np.linalg.lstsq(matrix, right, rcond=1e-15)[0] / size
            for share in (1.0, 0.9999, 0.99, 0.9, 0.5, 0.2):
                trial = theta + share * step
                engine.gram(self.full.handle, trial, g)
                if g[k, k] <= limit and np.linalg.norm(trial) < np.linalg.norm(theta):
                    break
            else:
                return
            theta = trial
            self._keep(theta, g[k, k])
            if not np.abs(theta).max() > HUGE or self.late:
                return

    def choose(self) -> Candidate | None:
        """The lowest loss; among losses equal to 0.05% the smallest parameters."""
        best = self.best
        if best is None:
            return None
        ties = [c for c in self.candidates if c.squares <= best.squares * (1.0 + TIE)]
        return min(ties, key=lambda c: (float(np.linalg.norm(c.theta)), c.squares))


@lru_cache(maxsize=1)
def warm_up() -> str:
    """Compiles the engine, or loads it from its on-disk cache, by a fit of nothing; returns the engine's
    name.

    Seconds on a machine that never ran it, a fraction of a second afterwards. Call it once per worker, so
    that no fit's deadline pays for it.
    """
    graph = Graph()
    x = graph.column(0)
    inner = graph.add("add", graph.add("mul", graph.param(1), x), graph.param(2))
    root = graph.add("mul", graph.param(0), graph.add("exp", inner))
    columns = np.linspace(-1.0, 1.0, 300)[None, :]
    data = lay_out(Split(columns.T.copy(), np.abs(columns[0])))
    with engine.first_use(), np.errstate(all="ignore"):
        search_best(Search(graph.expression(root, ("x",)), data, np.inf))
    return engine.NAME


def search_bfgs(search: Search) -> None:
    """BFGS from ones, nothing else."""
    search.bfgs()


def search_best(search: Search) -> None:
    """The bank and its kicks, BFGS from ones, each polished by Levenberg-Marquardt; stops when solved.

    All ones is one of the starts. Where there are more than `MANY_ROWS` rows all this happens on a strided
    part of them, and its best ends are polished on all rows; only where none of them is finite there does
    the whole search run on all rows.
    """
    if search.data.full.rows > MANY_ROWS:
        part = Search(search.expression, search.data.part(PART_ROWS), search.deadline)
        search_best(part)
        search.borrowed += part.evaluations * PART_ROWS / search.data.full.rows
        ends = sorted(part.candidates, key=lambda c: c.squares)
        for end in [c for c in (part.choose(), *ends[:2]) if c is not None]:
            if search.best is None or not search.late:
                search.polish(end.theta, 20)
        if search.best is not None:
            search.shrink()
            return
    ones = np.ones(search.tape.n_params)
    if not search.tape.n_params:
        search.evaluate(ones)
        return
    if not search.n_nonlinear:
        search.polish(ones, 20)
        if search.best is None:
            search.bfgs()
        return
    m = search.n_nonlinear
    ends = search.race(count=10 if m == 1 else 14 if m == 2 else 20)
    polished: list[float] = []
    for end in ends:
        if search.late or search.solved or len(polished) == 3:
            break
        if search.promising(end, polished):
            search.polish(end.theta, 40)
            polished.append(end.squares)
    if search.late and search.best is None:
        search.evaluate(ends[0].theta if ends else ones)
    if search.late or search.solved or search.hopeless:
        return
    for end in search.continued([search.bfgs()]):
        if search.promising(end, polished):
            search.polish(end.theta, 40)
    search.step()
    best = search.best
    if best is None or search.solved or search.late:
        return
    if search.polish(best.theta, 20, 1e-10):
        # a long valley: most of the way is gone on the subset, where steps are cheap
        for end in search.continued([min(search.candidates, key=lambda c: c.squares).theta], 200, 1e-9):
            search.polish(end.theta, 30, 1e-10)
    search.shrink()
