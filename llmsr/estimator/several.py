"""A fit of several targets: a model for each, one budget; methods answer with one thing for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from llmsr.errors import UserError
from llmsr.problem.columns import identifiers
from llmsr.problem.table_format import doubles


def for_each_target(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method; of an estimator of several targets a list of what each target's model answers."""

    @wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        models = getattr(self, "estimators_", None)
        if models is None:
            return method(self, *args, **kwargs)
        return [told(model, *args, **kwargs) for model in models]

    return told


def number_of_targets(y: Any) -> int:
    """The columns of y, 1 for what has none."""
    shape = np.asarray(y, dtype=object).shape
    return shape[1] if len(shape) == 2 else 1


def target_names(y: Any, name: str | Sequence[str] | None) -> list[str]:
    """What the columns of y are called; `UserError` for a name that stands twice, or too few of them."""
    given = (
        name if name is not None else getattr(y, "columns", [f"y{i}" for i in range(number_of_targets(y))])
    )
    names = [str(one) for one in ([given] if isinstance(given, str) else given)]
    if len(names) != number_of_targets(y):
        raise UserError(f"{len(names)} target names for {number_of_targets(y)} targets; name each once")
    if twice := doubles(names):
        raise UserError(f"the target {twice[0]!r} stands twice; give every target once")
    return names


def fit_each(
    model: Any, X: Any, y: Any, name: str | Sequence[str] | None, units: Any, given: Mapping[str, Any]
) -> list[Any]:
    """A fitted clone of the model for every column of y; what one leaves of the budget is the others'.

    `name` and `units` are texts of the targets, the latter by name or in order; `given` are the arguments
    of every fit. `UserError` for targets that cannot be told apart and a budget that is too small.
    """
    names = target_names(y, name)
    if model.budget < len(names):
        raise UserError(f"a budget of {model.budget} cannot be shared by {len(names)} targets")
    earlier = getattr(model, "estimators_", [])
    goes_on = model.warm_start and len(earlier) == len(names)
    texts = dict(zip(names, units, strict=True)) if isinstance(units, Sequence) else dict(units or {})
    fitted: list[Any] = []
    left = int(model.budget)
    for place, name in enumerate(names):
        own = earlier[place] if goes_on else clone(model)
        own.set_params(budget=left // (len(names) - place))
        if model.output_dir is not None:
            own.set_params(output_dir=Path(model.output_dir) / identifiers([name])[0])
        before = own.n_samples_ if goes_on else 0
        own.fit(X, np.asarray(y)[:, place], **given, target_name=name, y_units=texts.get(name))
        left -= max(own.n_samples_ - before, 0)
        fitted.append(own)
    return fitted


def predict_each(models: Sequence[Any], X: Any, return_std: bool, interval: float | None, group: Any) -> Any:
    """What `predict` says, with a column for every target in each of its arrays."""
    told = [model.predict(X, return_std, interval, group=group) for model in models]
    if not return_std and interval is None:
        return np.column_stack(told)
    return tuple(map(np.column_stack, zip(*told, strict=True)))
