"""`SymbolicRegressor`: the search as a scikit-learn estimator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from llmsr.config import resolve
from llmsr.errors import UserError
from llmsr.estimator.forms import Forms, constant_front
from llmsr.estimator.given import PROPOSER_PARTS, GivenRows, Parameters, group_texts, raised_as
from llmsr.estimator.several import fit_each, for_each_target, number_of_targets, predict_each
from llmsr.estimator.warm import LOCAL, lent_evaluator, search_table
from llmsr.fitting.uncertainty import Uncertainty
from llmsr.problem.columns import Labels, Words, table_problem, units_by_name
from llmsr.problem.holes import guess_bodies
from llmsr.problem.split import codes_of, strongest_columns
from llmsr.problem.units import with_units
from llmsr.proposers.choice import chosen_proposer
from llmsr.proposers.proposer import Proposer
from llmsr.report.equation import Equation
from llmsr.report.front import Front, PickedFront, lengths
from llmsr.sample import Sample, is_llm_sample
from llmsr.settings import ProposerConfig, SearchSettings

# A round of a local model: prompts that are decoded together, and samples of each; the next round sees the
# results. Rounds of 3 x 8 take two thirds of the time of rounds of 8 x 4, and find as much.
PROMPTS, SAMPLES = 3, 8


class SymbolicRegressor(Forms, RegressorMixin, BaseEstimator):
    """Finds a closed-form equation for y by a language model's proposals and fitted constants.

    Without a word about models it uses the embedded one, offline, on the CPU. A larger `budget` finds better
    equations: the default is meant for first looks and cross-validation.

    Parameters
    ----------
    budget : int, default=48
        Completions to ask the model for in one `fit`; 48 take one to three CPU seconds.
    search : {"islands", "best_of_n", "sequential_best_of_n"}, default="islands"
        What the prompts show of earlier equations.
    selection : {"best", "accuracy"}, default="best"
        Which equation of the front predicts, see `llmsr.report.front.RULES`.
    fitter : {"best", "bfgs", "reference"}, default="best"
        How constants are fitted.
    fit_timeout : float, default=10.0
        Seconds that the fit of one equation may take. Only a fit that reaches it depends on the clock.
    check_units : {"words", "penalty", "strict"}, default="words"
        What becomes of equations whose units do not agree: nothing, they count as worse, they are refused.
    max_params : int or None, default=None
        Constants of an equation at most; None: 10, more for more than nine columns.
    max_columns : int, default=20
        Columns that the model is shown at most; of more, those that a random forest uses most are taken.
    guesses : sequence of str or None, default=None
        Equations to begin from, such as "a*exp(-b*x0)"; unknown names and decimal numbers are fitted.
    proposer : str or object, default="auto"
        Where completions come from, a name of `llmsr.proposers.proposer.PROPOSERS` or an object like
        `llmsr.proposers.proposer.Proposer`, with `name`, `parallel_prompts` and `propose(prompt, n, seed)`.
    proposer_options : dict or None, default=None
        Fields of `ProposerConfig`, such as model_path, api_base, api_model, temperature.
    search_options : dict or None, default=None
        Fields of `SearchSettings`, such as islands, samples_per_prompt, context.
    problem_options : dict or None, default=None
        Fields of `Declarations`, what is asked of equations, such as loss="huber".
    n_jobs : int or None, default=None
        Processes that fit equations; None is 1, -1 all cores. The result does not depend on it.
    random_state : int, RandomState or None, default=None
        Decides every draw. On one machine equal seeds give equal equations.
    warm_start : bool, default=False
        Go on from the last `fit`: on equal data as if the budget had been larger, on other data with its
        front as additional first equations.
    output_dir : str, path or None, default=None
        Write a run's files there: archive, result.json, equations.csv, report.html. None writes nothing.
        They are one fit's: another one is refused there, but for a warm start on equal data.
    verbose : int, default=0
        Above 0 progress is told on standard error.

    Attributes
    ----------
    equations_ : DataFrame
        The front of complexity against loss, ascending in complexity, the pick marked.
    best_index_ : int
        The row of `equations_` that predicts.
    expression_ : Expression
        Its graph, of the columns numbered by `columns_`.
    params_ : tuple of float
        Its fitted constants.
    columns_ : ndarray of int
        The columns of X that the model was shown.
    n_samples_ : int
        Completions asked for, those of earlier warm fits included.
    estimators_ : list of SymbolicRegressor
        Of a y of several columns alone: the model of each, which has the other attributes.

    Training rows are not kept. Workers and the model stay warm between fits; `llmsr.estimator.warm.release`
    ends them.
    """

    def __init__(
        self,
        budget: int = 48,
        *,
        search: str = "islands",
        selection: str = "best",
        fitter: str = "best",
        fit_timeout: float = 10.0,
        check_units: str = "words",
        max_params: int | None = None,
        max_columns: int = 20,
        guesses: Sequence[str] | None = None,
        proposer: str | Proposer = "auto",
        proposer_options: Mapping[str, Any] | None = None,
        search_options: Mapping[str, Any] | None = None,
        problem_options: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        output_dir: Any = None,
        verbose: int = 0,
    ) -> None:
        self.budget = budget
        self.search = search
        self.selection = selection
        self.fitter = fitter
        self.fit_timeout = fit_timeout
        self.check_units = check_units
        self.max_params = max_params
        self.max_columns = max_columns
        self.guesses = guesses
        self.proposer = proposer
        self.proposer_options = proposer_options
        self.search_options = search_options
        self.problem_options = problem_options
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.output_dir = output_dir
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        group: Any = None,
        feature_names: Sequence[str] | None = None,
        target_name: str | Sequence[str] | None = None,
        description: str = "",
        units: Words = None,
        meanings: Words = None,
        X_units: Words = None,
        y_units: str | Words = None,
    ) -> SymbolicRegressor:
        """Search for equations of y in the columns of X, and return self.

        X has shape (rows, columns), y (rows,) or (rows, targets): then every target has equations of its own
        and a share of the budget. Names come from `feature_names`, a DataFrame's columns or are
        x0, x1, ...; they need not be identifiers. `sample_weight` (rows,) weighs the squared residuals, and
        rows of weight 0 are left out; of measurement errors give 1 / error**2. `group` (rows,) names the
        groups of rows: one law is found, each group having its own constants. `description` tells the model
        what the data are; `units` and `meanings` map names, the target's included, to texts, or list them in
        order; `X_units` and `y_units` are another way to give units. With `check_units` pint must know them.
        ValueError for bad input, RuntimeError where the model cannot be asked or nothing was found.
        """
        if number_of_targets(y) > 1:
            given = {"sample_weight": sample_weight, "group": group, "feature_names": feature_names}
            given |= {"description": description, "units": units, "meanings": meanings, "X_units": X_units}
            self._check_parameters()
            with raised_as(ValueError):
                validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
                self.estimators_ = fit_each(self, X, y, target_name, y_units, given)
            self.n_samples_ = sum(model.n_samples_ for model in self.estimators_)
            return self
        if hasattr(self, "estimators_"):
            del self.estimators_
        target_name = str(target_name or getattr(y, "name", None) or "y")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        with raised_as(ValueError):
            plain = [f"x{i}" for i in range(self.n_features_in_)]
            names = getattr(self, "feature_names_in_", plain) if feature_names is None else feature_names
            if len(names) != self.n_features_in_:
                raise UserError(f"{len(names)} feature_names for {len(plain)} columns; name each once")
            own_unit = y_units if isinstance(y_units, str) else None
            units = units_by_name(names, target_name, units, X_units, own_unit)
            labels = Labels.of(names, target_name, description, units, meanings)
            self._check_parameters()
            proposer_config = self._proposer_config()
            rows = GivenRows.of(X, y, sample_weight, self.problem_options, labels.columns, group)
            X, y = rows.X, rows.y
            digest = self._digest(rows, labels) if self.warm_start else ""
            earlier, seeds = self._begun_with(digest)
            if not earlier:
                self.columns_ = np.arange(X.shape[1])
                if X.shape[1] > self.max_columns:
                    self.columns_ = strongest_columns(X, y, self.max_columns, self._drawn_seed())
            labels = labels.chosen(self.columns_.tolist())
            # scikit-learn's checks fit such targets too, and no search could tell equations apart on them
            if y.min() == y.max():
                self.n_samples_ = 0
                self._set_front(self.max_params, constant_front(labels, float(y[0])))
                return self
            inputs = X[:, self.columns_]
            problem = table_problem(inputs, y, labels, self.max_params, rows.asked, rows.columns)
            problem = with_units(problem, self.check_units)
            settings = self._settings(sum(map(is_llm_sample, earlier)))
            if settings.max_cost and not (isinstance(self.proposer, str) and proposer_config.prices):
                raise UserError("max_cost needs prices, what the models of a named proposer cost")
            guess_bodies(problem, settings.guess)
        with raised_as(RuntimeError):
            begun, samples = search_table(self, problem, settings, proposer_config, earlier, seeds)
        front = Front()
        for sample in (*begun, *samples):
            front.add(sample)
        if not front.members:
            raise RuntimeError("no equation was found that is finite on all rows; raise the budget")
        picked = PickedFront.of(front.members, problem, self.selection, labels.columns)
        self._set_front(problem.spec.max_params, picked)
        self.n_samples_ = sum(map(is_llm_sample, samples))
        if self.warm_start:
            self._last_fit = (digest, samples, seeds, settings.seed)
        return self

    def predict(
        self, X: Any, return_std: bool = False, interval: float | None = None, *, group: Any = None
    ) -> Any:
        """The equation's values for X, shape (rows,); nan or inf in rows where it is not defined.

        Of several targets (rows, targets).

        With `return_std` (values, standard deviations of new measurements about them); with `interval`, such
        as 0.95, (values, low and high ends of the interval that holds a new measurement with this
        probability). `group` (rows,) names the rows' groups where the fit had groups. ValueError for a group
        that it had not, and where the fit tells no errors, see `uncertainty_`.
        """
        check_is_fitted(self)
        if models := getattr(self, "estimators_", None):
            return predict_each(models, X, return_std, interval, group)
        X = validate_data(self, X, dtype=np.float64, reset=False)[:, self.columns_]
        groups = self._best.groups
        if bool(groups) != (group is not None):
            raise ValueError(
                "give predict the group of every row, as to fit" if groups else "fit had no groups"
            )
        if groups:
            with raised_as(ValueError):
                X = np.column_stack([X, codes_of(group_texts(group, len(X)), groups, "predict")])
        if not return_std and interval is None:
            return self._best.predict(X)
        with raised_as(ValueError):
            values, deviation, reach = self._best.predict_within(X, interval)
        return (values, deviation) if interval is None else (values, values - reach, values + reach)

    @property
    @for_each_target
    def uncertainty_(self) -> Uncertainty | None:
        """Standard errors, confidence intervals and correlations of `params_`; None where there are none."""
        check_is_fitted(self)
        return self._best.uncertainty

    def refit(self, X: Any, y: Any, sample_weight: Any = None, *, group: Any = None) -> SymbolicRegressor:
        """Fit the constants of all equations of the front to new data and return self; the pick stays.

        ValueError for bad data, such as a y that does not vary, and where the pick cannot be fitted to them;
        the equations are then what they were.
        """
        check_is_fitted(self)
        if models := getattr(self, "estimators_", None):
            for model, column in zip(models, np.asarray(y).T, strict=True):
                model.refit(X, column, sample_weight, group=group)
            return self
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, reset=False, ensure_min_samples=2)
        front, law = self._front.equations, self._best.law or self._best.expression
        labels = self._best.labels[: len(law.columns)]
        with raised_as(ValueError):
            rows = GivenRows.of(X, y, sample_weight, self.problem_options, labels, group)
            inputs, named = rows.X[:, self.columns_], Labels(labels, self._best.target)
            problem = table_problem(inputs, rows.y, named, self._n_params, rows.asked, rows.columns)
        with lent_evaluator(self, problem) as evaluator:
            asked = [evaluator.submit(equation.sample.evaluation.body) for equation in front]
            found = [future.result() for future in asked]
        chosen = found[self.best_index_]
        if not chosen.ok:
            raise ValueError(f"the equation cannot be fitted to these data: {chosen.reason}")
        # other members of the front may be undefined on the new rows
        kept = [i for i, evaluation in enumerate(found) if evaluation.ok]
        members = [replace(front[i].sample, evaluation=found[i]) for i in kept]
        equations = tuple(Equation.of(member, problem, labels) for member in members)
        refitted = PickedFront(equations, tuple(lengths(members, problem)), kept.index(self.best_index_))
        self._set_front(problem.spec.max_params, refitted)
        return self

    # ---- what a fit is asked to do

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_parameters(self) -> None:
        resolve(Parameters, given={item.name: getattr(self, item.name) for item in fields(Parameters)})
        lacking = [part for part in PROPOSER_PARTS if not hasattr(self.proposer, part)]
        if lacking and not isinstance(self.proposer, str):
            raise UserError(
                f"proposer must be a name or an object with {', '.join(PROPOSER_PARTS)}; "
                f"{type(self.proposer).__name__} has no {', '.join(lacking)}"
            )

    def _proposer_config(self) -> ProposerConfig:
        named = self.proposer if isinstance(self.proposer, str) else "auto"
        config = resolve(ProposerConfig, given={"proposer": named, **(self.proposer_options or {})})[0]
        if config.parallel_prompts is None and chosen_proposer(config) in LOCAL:
            config = replace(config, parallel_prompts=PROMPTS)
        return config

    def _settings(self, done: int) -> SearchSettings:
        given: dict[str, Any] = {"search": self.search, "lookahead": PROMPTS, "samples_per_prompt": SAMPLES}
        if self.guesses is not None:
            given["guess"] = "\n".join([self.guesses] if isinstance(self.guesses, str) else self.guesses)
        given |= self.search_options or {}
        for taken in ("budget", "seed"):
            if taken in (self.search_options or {}):
                raise UserError(f"give {taken} as {'random_state' if taken == 'seed' else taken} of its own")
        if not isinstance(self.budget, int | np.integer) or self.budget < 1:
            raise UserError(f"budget must be a whole number of at least 1, got {self.budget!r}")
        # a search that goes on draws what it would have drawn
        seed = self._last_fit[-1] if done else self._drawn_seed()
        given |= {"budget": int(self.budget) + done, "seed": seed}
        return resolve(SearchSettings, given=given)[0]

    def _drawn_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    # ---- warm start

    def _begun_with(self, digest: str) -> tuple[list[Sample], tuple[str, ...]]:
        """The samples that this fit resumes from, and the bodies that it begins with beside the spec's."""
        if not self.warm_start or not hasattr(self, "_front"):
            return [], ()
        known, samples, seeds, _ = getattr(self, "_last_fit", ("", [], (), 0))
        if known == digest:
            return samples, seeds
        return [], tuple(e.sample.evaluation.body for e in self._front.equations if e.sample.number)

    def _digest(self, rows: GivenRows, labels: Labels) -> str:
        """Equal for fits of which the later one can go on with the samples of the earlier one."""
        # what may differ between two fits whose samples are of one search
        free = ("budget", "n_jobs", "output_dir", "verbose", "selection", "random_state")
        chosen = {k: str(v) for k, v in sorted(self.get_params(deep=False).items()) if k not in free}
        digest = hashlib.sha256(repr((rows.X.shape, labels, chosen)).encode())
        digest.update(b"".join(part.tobytes() for part in rows.parts))
        return digest.hexdigest()

    # ---- what a fit leaves

    def _set_front(self, max_params: int | None, front: PickedFront) -> None:
        """Predict with the pick of a front; it is made before, so a failure leaves the last fit."""
        assert front.picked is not None
        self._front = front
        self._n_params = max_params
        self.best_index_ = front.picked
        self.expression_ = self._best.expression
        self.params_ = self._best.params
