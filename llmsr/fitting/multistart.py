"""The search for the best constants of one expression: descents from many guesses, perturbed and polished."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from llmsr.expression.engine.tape import compile_tape, derivatives
from llmsr.expression.graph import Expression, Node, evaluate, linear_params
from llmsr.fitting.initial_guesses import InitialGuesses
from llmsr.fitting.residuals import FLOOR, Candidate, Dataset, Residuals, lay_out, strided
from llmsr.problem.split import Split

TIE = 5e-4  # losses closer than this are equal, and the smaller parameters win
GOOD = 1e-2  # NMSE on the subset below which no dense grid of frequencies is tried
HUGE = 1e4
LONG = 300  # iterations of BFGS; 168 of 1,268 skeletons need more, and then three quarters of all evaluations
MANY_NONLINEAR, POOR = 5, 0.05  # from so many on, an NMSE above POOR is worth more chains of perturbations
MORE_GUESSES = 200  # that descend by a step where many parameters need one; the best of them join the others
ROUNDS = 4  # of perturbations
MANY_ROWS, PART_ROWS = 65536, 16384
MANY_FEATURES = 2**23  # numbers in precomputed column-only results, 64 MB

# of other losses than squares
FOLLOWED = 3  # least-squares ends
REWEIGHTINGS = 100
SHRINK = 0.6  # of the size up to which residuals count as one size, from round to round
SMALLEST = 1e-6  # of the first such size: where it no longer rounds the corner of a loss
GAIN = 1e-9  # share of the loss below which a round gains nothing


def search_best(search: Search) -> None:
    """Initial guesses and perturbations, BFGS from ones, each polished by Levenberg-Marquardt.

    Stops when solved. All ones is one of the starts. Where there are more than `MANY_ROWS` rows all this
    happens on a strided part of them, and its best ends are polished on all rows; only where none of them is
    finite there does the whole search run on all rows.
    """
    if search.data.full.rows > MANY_ROWS:
        part = Search(search.expression, search.data.part(PART_ROWS), search.deadline)
        search_best(part)
        search.borrowed += part.evaluations * PART_ROWS / search.data.full.rows
        ends = sorted(part.found, key=lambda c: c.squares)
        for end in [c for c in (part.choose(), *ends[:2]) if c is not None]:
            if search.best is None or not search.late:
                search.polish(end.theta, 20)
        if search.best is not None:
            search.shrink()
            return
    if not search.tape.n_params:
        search.evaluate(search.ones)
        return
    # a linear problem has one minimum, which the first step finds
    if not search.n_nonlinear:
        search.polish(search.ones, 20)
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
        search.evaluate(ends[0].theta if ends else search.ones)
    if search.late or search.solved:
        return
    # a long way of BFGS leads along a valley, where Levenberg-Marquardt gets on faster
    end_of_bfgs = search.bfgs(LONG)
    search.polish(end_of_bfgs, 60, 1e-6)
    for end in search.subset.descend_all([end_of_bfgs]):
        if search.promising(end, polished):
            search.polish(end.theta, 40)
    search.narrow()
    best = search.best
    if best is None or search.solved or search.late:
        return
    if search.polish(best.theta, 20, 1e-10):
        # a long valley: most of the way is gone on the subset, where steps are cheap
        for end in search.subset.descend_all([min(search.found, key=lambda c: c.squares).theta], 200, 1e-9):
            search.polish(end.theta, 30, 1e-10)
    search.shrink()


class Search:
    """One expression on one data set: its residuals on all rows and on the subset, and what was found."""

    def __init__(self, expression: Expression, data: Dataset, deadline: float) -> None:
        self.expression, self.data, self.deadline = expression, data, deadline
        per_row = max(4, MANY_FEATURES // max(1, data.full.rows))
        rooted = data.rooted(expression)
        derived = derivatives(rooted, prune=False)
        self.tape = compile_tape(derived, per_row)
        # thresholds: the equation depends on them, but its derivative is zero wherever it has one
        self.steps = np.array([derived.nodes[p] == Node("const", (), 0.0) for p in derived.partials], bool)
        linear = linear_params(rooted)
        self.guesses = InitialGuesses(expression, linear, data.sample.columns)
        self.linear = np.array([p in linear for p in self.tape.params], bool)
        self.ones = np.ones(self.tape.n_params)
        self.found: list[Candidate] = []
        self.borrowed = 0.0  # evaluations of a search on part of the rows, in passes over all

    @cached_property
    def full(self) -> Residuals:
        """The residuals on all rows."""
        return self.residuals(self.data)

    def residuals(self, data: Dataset) -> Residuals:
        """The residuals on all rows of data whose weights may be others."""
        features = self.tape.features(data.full.columns)
        return Residuals(self.tape, features, data.full.target, self.linear, data.power, self.deadline)

    @cached_property
    def subset(self) -> Residuals:
        """The residuals on the subset; those on all rows where there are no more."""
        subset = self.data.subset
        if subset is self.data.full:
            return self.full
        features, power = strided(self.full.features, subset.rows), self.data.power * self.share
        return Residuals(self.tape, features, subset.target, self.linear, power, self.deadline)

    @property
    def share(self) -> float:
        """The part of the rows that the subset is."""
        return self.data.subset.rows / self.data.full.rows

    @property
    def n_nonlinear(self) -> int:
        """The number of parameters that need initial guesses."""
        return int(np.count_nonzero(~self.linear))

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.full.late

    @property
    def evaluations(self) -> int:
        """Passes over all rows, those over the subset counted by their share."""
        small = 0 if self.subset is self.full else self.subset.evaluations
        return self.full.evaluations + int(np.ceil(small * self.share + self.borrowed))

    @property
    def best(self) -> Candidate | None:
        """The lowest loss on all rows so far."""
        return min(self.found, key=lambda c: c.squares, default=None)

    @property
    def solved(self) -> bool:
        """Whether nothing is left to gain in float64."""
        best = self.best
        return best is not None and best.squares <= FLOOR * self.data.power

    def keep(self, theta: np.ndarray, squares: float) -> None:
        """Notes parameters with their sum of squares on all rows, if both are finite."""
        if np.isfinite(squares) and np.isfinite(theta).all():
            self.found.append(Candidate(float(squares), theta.copy()))

    def evaluate(self, theta: np.ndarray) -> None:
        """Notes `theta` as it is."""
        self.keep(theta, self.full.squares(theta))

    def polish(self, theta: np.ndarray, iterations: int, tolerance: float = 1e-5) -> bool:
        """Levenberg-Marquardt on all rows from `theta`; whether it was stopped on its way."""
        end, capped = self.full.descend(theta, iterations, tolerance)
        self.keep(end.theta, end.squares)
        return capped

    def bfgs(self, long: int = 10**9) -> np.ndarray:
        """BFGS from ones on all rows, see `Residuals.bfgs`; notes and returns where it stops."""
        end = self.full.bfgs(self.ones, long)
        self.keep(end.theta, end.squares)
        return end.theta

    def race(self, count: int) -> list[Candidate]:
        """Where all ones and the best of `count` initial guesses end on the subset, best first.

        The winner is perturbed: each parameter in turn is moved to each of its candidates, until a whole
        round improves it by less than 1%.
        """
        wide = self.full.high
        guesses = self.guesses.spread(count)
        thetas = np.vstack([self.ones, guesses.starts])
        box = np.vstack([-wide, guesses.low]), np.vstack([wide, guesses.high])
        if self.n_nonlinear >= MANY_NONLINEAR:
            # few of many combinations are near an optimum: of two bumps both must be where they belong
            more = self.guesses.spread(MORE_GUESSES)
            near = self.subset.descend_all(list(more.starts), 1, 1e-3, (more.low, more.high))[:count]
            thetas = np.vstack([thetas, *(end.theta for end in near)])
            beyond = np.tile(wide, (len(near), 1))
            box = np.vstack([box[0], -beyond]), np.vstack([box[1], beyond])
        first = self.subset.descend_all(list(thetas), 6, 1e-3, box)[: max(6, len(thetas) // 4)]
        if not first:
            return []
        ends = self.subset.descend_all([c.theta for c in first]) or first
        best = self._chain(ends[0])
        for end in ends[1:3] if self.n_nonlinear >= MANY_NONLINEAR else []:
            if best.squares <= POOR * self.subset.power:
                break
            best = min(best, self._chain(end), key=lambda c: c.squares)
        best = self._narrowed(self.subset, best, 0.1)
        for end in self.subset.descend_all([best.theta], 100, 1e-7):
            best = end
        return [best, *ends] if best.squares < ends[0].squares else ends

    def _chain(self, best: Candidate) -> Candidate:
        """Rounds of perturbations on the subset, the last one through a dense grid of frequencies."""
        good = GOOD * self.subset.power
        if self.n_nonlinear == 1 and best.squares <= good:
            # the guesses have been at all candidates of the only parameter
            return best
        grid, dense = self.guesses.around(best.theta)
        for _ in range(ROUNDS if self.n_nonlinear > 1 else 0):
            before = best.squares
            best = self.subset.perturbed(best, grid, 8)
            if best.squares > 0.99 * before or best.squares <= self.subset.floor:
                break
            if best.squares < 0.5 * before:
                grid, dense = self.guesses.around(best.theta)
        if dense is not None and best.squares > good:
            best = self.subset.perturbed(best, dense, 2)
        return best

    def _narrowed(self, residuals: Residuals, best: Candidate, share: float) -> Candidate:
        """Thresholds sought in ever finer grids around where they are.

        The first grid spans `share` of the range of what is compared to either side.
        """
        if not self.steps.any() or self.late:
            return best
        grid, _ = self.guesses.around(best.theta)
        span = np.where(self.steps, grid.max(axis=1) - grid.min(axis=1), np.nan)
        for _ in range(3):
            around = best.theta[:, None] + share * span[:, None] * np.linspace(-1.0, 1.0, 12)
            best = residuals.perturbed(best, around, 3)
            share /= 5.0
        return best

    def narrow(self) -> None:
        """Narrows thresholds of the best candidate on all rows."""
        best = self.best
        if best is not None and self.steps.any() and not self.solved:
            end = self._narrowed(self.full, best, 0.02)
            self.keep(end.theta, end.squares)

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
        return bool(end.squares < max(1.2 * polished[0], self.subset.squares(best.theta)))

    def shrink(self) -> None:
        """Where the best parameters are huge, looks for smaller ones whose loss is equal to `TIE`.

        Along directions in which the loss is flat, parameters run away on train and extrapolate badly. Each
        round takes the Gauss-Newton step under a ridge worth `TIE` of the loss, as far as the tie allows.
        """
        best = self.best
        if best is None or self.solved or not np.abs(best.theta).max() > HUGE:
            return
        limit, theta, k = best.squares * (1.0 + TIE), best.theta.copy(), len(best.theta)
        for _ in range(6):
            g = self.full.gram(theta)
            size = np.sqrt(np.maximum(np.diag(g)[:k], 1e-300))
            ridge = np.where(np.abs(theta) > 1.0, TIE * best.squares / np.maximum(theta * theta, 1.0), 0.0)
            matrix = g[:k, :k] / np.outer(size, size) + np.diag(ridge / size / size + 1e-14)
            right = (g[k, :k] - ridge * theta) / size
            if not (np.isfinite(matrix).all() and np.isfinite(right).all()):
                return
            step = np.linalg.lstsq(matrix, right, rcond=1e-15)[0] / size
            for share in (1.0, 0.9999, 0.99, 0.9, 0.5, 0.2):
                trial = theta + share * step
                squares = self.full.squares(trial)
                if squares <= limit and np.linalg.norm(trial) < np.linalg.norm(theta):
                    break
            else:
                return
            theta = trial
            self.keep(theta, squares)
            if not np.abs(theta).max() > HUGE or self.late:
                return

    def choose(self) -> Candidate | None:
        """The lowest loss; of losses equal to 0.05% the lowest of those whose norm is the least, to 1%."""
        best = self.best
        if best is None:
            return None
        ties = [c for c in self.found if c.squares <= best.squares * (1.0 + TIE)]
        smallest = min(float(np.linalg.norm(c.theta)) for c in ties)
        # steps on one way to one minimum, of which the last has the digits
        return min((c for c in ties if np.linalg.norm(c.theta) <= 1.01 * smallest), key=lambda c: c.squares)

    # ---- another loss than squares, by iteratively reweighted least squares: each round minimises the sum
    # of squares whose weights let it touch the loss at the present residuals, and lie above it elsewhere, so
    # that the loss cannot rise (Beaton and Tukey, 1974; Hunter and Lange, 2004)

    def reweighted(self, train: Split) -> Candidate | None:
        """The best of what descents under the loss of `train` reach from the ends of the search.

        Its `squares` is the mean loss; None where nothing finite was found.
        """
        starts: list[Candidate] = []
        for end in sorted(self.found, key=lambda c: c.squares):
            if all(abs(end.squares - other.squares) > 1e-3 * other.squares for other in starts):
                starts.append(end)
        reached = [self.reweighted_from(start.theta, train) for start in starts[:FOLLOWED]]
        return min((c for c in reached if np.isfinite(c.squares)), key=lambda c: c.squares, default=None)

    def reweighted_from(self, theta: np.ndarray, train: Split) -> Candidate:
        """Where a descent under the loss of `train` leads from `theta`; its `squares` is the mean loss."""
        residual = self._residual(theta, train)
        best = Candidate(train.loss.mean(residual, train.weights), theta)
        first = least = float(np.median(np.abs(residual)))
        quiet = 0
        for _ in range(REWEIGHTINGS if self.tape.n_params else 0):
            once = train.loss.squares and quiet  # whose weights do not change
            ended = once or (quiet >= 3 and (train.loss.smooth or least < SMALLEST * first))
            if self.late or ended or not np.isfinite(best.squares):
                break
            residuals = self.residuals(lay_out(train, train.loss.quadratic(residual, train.weights, least)))
            # from where the last round ended, lower or not: what rounds the corner less leads to the optimum
            end, _ = residuals.descend(theta, 30, 1e-12)
            theta = end.theta
            residual = self._residual(theta, train)
            reached = replace(end, squares=train.loss.mean(residual, train.weights))
            quiet = 0 if reached.squares < (1.0 - GAIN) * best.squares else quiet + 1
            if reached.squares < best.squares:
                best = reached
            least *= SHRINK
        return best

    def _residual(self, theta: np.ndarray, train: Split) -> np.ndarray:
        params = np.ones(max(self.tape.params, default=-1) + 1)
        params[list(self.tape.params)] = theta
        residual: np.ndarray = train.target - evaluate(self.expression, train.inputs, params)
        return residual
