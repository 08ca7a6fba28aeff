"""Reference fits: the spec's own `evaluate` as it stands, with the equation regenerated from its graph.

The spec is the user's code and is trusted; it runs in this process. Its text is executed afresh for every
fit, without the decorators that only mark functions, and its `equation` is ours from the start.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from types import CodeType
from typing import Any

import numpy as np
from scipy import optimize

from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.printing.source import callable_for
from llmsr.fitting.repeated import RepeatedEquation
from llmsr.fitting.result import Fit
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec, without_markers

_HOOK = "__equation__"
_PATCHING = threading.RLock()  # scipy.optimize.minimize is watched while a spec runs


class _Late(BaseException):
    """The deadline has passed; no Exception, so that a spec's own `except` lets it through."""


def fit_reference(expression: Expression, problem: Problem, deadline: float = 10.0) -> Fit:
    """The fit that the spec's own `evaluate` finds on the train split; `score` is what it returned.

    `loss` is the mean squared error on train at the captured parameters: for a least-squares spec exactly
    minus the score. The parameters are the result of the spec's call of scipy's `minimize` where it makes one
    (of several, the one whose minimum is minus the score, else the last), else those of the call of the
    equation on all rows that had the least squared error, else (it trains on batches) of the last call.

    The deadline, in seconds, is checked at every call of the equation: past it the best parameters so far are
    returned with `deadline_reached` and without a score, or status "timeout" where there are none. Code
    that does not call the equation is not interrupted. `evaluations` counts calls of the equation.
    """
    began, cpu_began = time.perf_counter(), time.thread_time()
    spec = problem.spec
    watch = _Watch(expression, problem, began + deadline)
    returned: Any = None
    failure, late = "", False
    try:
        with _PATCHING, _quiet(), watch.minimize():
            namespace: dict[str, Any] = {"__name__": "spec", _HOOK: watch.equation}
            exec(_compiled(spec.text, spec.path, spec.function_name), namespace)
            watch.deadline = time.perf_counter() + deadline  # a first import of torch is nobody's fault
            train = problem.splits["train"]
            data = {"inputs": train.inputs.copy(), "outputs": train.target.copy()}
            returned = namespace[spec.evaluate_name](data)
    except _Late:
        late = True
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        failure = _reason(error, spec)

    score = None
    if not failure and not late:
        score, failure = _score(returned, spec)
    status, reason, params, loss = "ok", "", None, None
    if failure:
        status, reason = "error", failure
    elif not late and score is None:
        status, reason = "nonfinite", f"{spec.evaluate_name} found no finite score"
    else:
        params = watch.params(score)
        if params is None:
            status = "timeout" if late else "error"
            reason = (
                f"no value of the equation within {deadline:g} s"
                if late
                else f"{spec.evaluate_name} never called {spec.function_name}"
            )
        else:
            loss = -score if spec.least_squares and score is not None else watch.loss(params)
            if not np.isfinite(loss):
                status, reason, loss = "nonfinite", "the equation is not finite on every train row", None
    return Fit(
        status=status,
        reason=reason,
        mode="reference",
        params=_padded(expression, params if params is not None else (), spec.max_params),
        loss=loss,
        evaluations=watch.calls,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.thread_time() - cpu_began,
        deadline_reached=late,
        engine="callable",
        score=score if status == "ok" else None,
    )


class _Watch:
    """The equation that a spec's `evaluate` sees, and what was seen of its search."""

    def __init__(self, expression: Expression, problem: Problem, deadline: float) -> None:
        self.expression, self.problem, self.deadline = expression, problem, deadline
        spec = problem.spec
        self.names = (*spec.columns, spec.params_name)
        self.target: Any = problem.splits["train"].target
        self.functions: dict[str, Callable[..., Any]] = {}
        self.calls = 0
        self.results: list[tuple[float, np.ndarray]] = []  # minima and where scipy found them
        self.least = np.inf  # of all calls, the squared error
        self.best: np.ndarray | None = None  # and the parameters that gave it
        self.last: np.ndarray | None = None  # parameters of the last call on some of the rows
        self.used = np.array(expression.params, dtype=np.intp)
        self.enough = max(expression.params, default=-1) + 1

    def equation(self, *args: Any, **named: Any) -> Any:
        """The regenerated equation, with the spec's own argument names."""
        if time.perf_counter() > self.deadline:
            raise _Late
        if named:
            args = (*args, *(named.pop(name) for name in self.names[len(args) :] if name in named))
        if named or len(args) != len(self.names):
            raise TypeError(f"the equation takes ({', '.join(self.names)})")
        self.calls += 1
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(a, torch.Tensor) for a in args):
            value = self._function("torch")(*args)
            self._note_torch(torch, args[-1], value)
        else:
            value = self._function("numpy")(*args)
            if not self.problem.spec.least_squares:
                self._note(args[-1], value)
        return value

    def _function(self, dialect: str) -> Callable[..., Any]:
        if dialect not in self.functions:
            make = RepeatedEquation if dialect == "numpy" else partial(callable_for, dialect=dialect)
            self.functions[dialect] = make(self.expression)
        return self.functions[dialect]

    def _note(self, params: Any, value: Any) -> None:
        if np.size(value) == self.target.size:
            residual = np.reshape(value, -1) - self.target
            self._keep(float(np.dot(residual, residual)), params)
        else:
            self.last = _numbers(params)

    def _note_torch(self, torch: Any, params: Any, value: Any) -> None:
        if value.numel() == len(self.target):
            if isinstance(self.target, np.ndarray):
                self.target = torch.as_tensor(self.target, dtype=value.dtype, device=value.device)
            residual = value.detach().reshape(-1) - self.target
            self._keep(float(torch.dot(residual, residual)), params)
        else:
            self.last = _numbers(params)

    def _keep(self, squares: float, params: Any) -> None:
        if squares < self.least:
            self.least, self.best = squares, _numbers(params)

    @contextlib.contextmanager
    def minimize(self) -> Iterator[None]:
        """While open, scipy's `minimize` tells this watch what it evaluated and found."""
        original = optimize.minimize

        def minimize(fun: Callable[..., Any], x0: Any, *args: Any, **named: Any) -> Any:
            if self.problem.spec.least_squares:
                fun = self._remembering(fun)
            result = original(fun, x0, *args, **named)
            self.results.append((float(result.fun), np.array(result.x, dtype=np.float64)))
            return result

        optimize.minimize = minimize
        try:
            yield
        finally:
            optimize.minimize = original

    def _remembering(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """The same loss, computed once for equal values of the parameters that the equation uses.

        scipy differentiates by moving one parameter at a time: moving one that the equation does not use
        asks for a loss that is already known. The answer is the same bits, so BFGS takes the same way.
        """
        known: OrderedDict[bytes, Any] = OrderedDict()
        size = self.problem.spec.max_params + 2

        def loss(x: np.ndarray, *args: Any) -> Any:
            key = x[self.used].tobytes()
            value = known.get(key)
            if value is None:
                value = known[key] = fun(x, *args)
                if len(known) > size:
                    known.popitem(last=False)
                self._keep(float(value), x)
            else:
                known.move_to_end(key)
            return value

        return loss

    def params(self, score: float | None) -> np.ndarray | None:
        """The parameters that the search ended with; without a score those of the best call."""
        candidates = [(fun, x) for fun, x in self.results if x.ndim == 1 and len(x) >= self.enough]
        if score is not None and candidates:
            matching = [x for fun, x in candidates if fun == -score]
            return matching[-1] if matching else candidates[-1][1]
        for params in (self.best, self.last):
            if params is not None and params.ndim == 1 and len(params) >= self.enough:
                return params
        return None

    def loss(self, params: np.ndarray) -> float:
        """Mean squared error on train."""
        train = self.problem.splits["train"]
        with np.errstate(all="ignore"):
            return float(np.mean((evaluate(self.expression, train.inputs, params) - train.target) ** 2))


def _numbers(params: Any) -> np.ndarray:
    """A copy of parameters that may be a list, an array, a tensor or a list of tensors."""
    if hasattr(params, "detach"):
        params = params.detach().cpu()
    elif not isinstance(params, np.ndarray):
        params = [float(p) for p in params]
    return np.array(params, dtype=np.float64)


@lru_cache(maxsize=8)
def _compiled(text: str, path: str, function_name: str) -> CodeType:
    tree = without_markers(ast.parse(text))
    for i, statement in enumerate(tree.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name == function_name:
            ours = ast.parse(f"{function_name} = {_HOOK}").body[0]
            for node in ast.walk(ours):
                ast.copy_location(node, statement)
            tree.body[i] = ours
    return compile(tree, path, "exec", dont_inherit=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Numeric warnings off, and the spec's prints among progress, since stdout is for results."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _score(returned: Any, spec: Spec) -> tuple[float | None, str]:
    """The finite number that `evaluate` returned or None, and a reason where it is no number at all."""
    if returned is None:
        return None, ""
    try:
        score = float(returned)
    except (TypeError, ValueError, RuntimeError):
        return (
            None,
            f"{spec.evaluate_name} returned {type(returned).__name__}; it must return a number or None",
        )
    return (score, "") if np.isfinite(score) else (None, "")


def _reason(error: BaseException, spec: Spec) -> str:
    """One line: where in the spec it happened, and what."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.path]
    where = f"line {lines[-1]} of {spec.path}" if lines else spec.path
    text = " ".join(str(error).split())[:200]
    return f"{where}: {type(error).__name__}{': ' + text if text else ''}"


def _padded(
    expression: Expression, params: Sequence[float] | np.ndarray, max_params: int
) -> tuple[float, ...]:
    """One number per parameter of the spec, 1.0 where the expression does not use it."""
    padded = [1.0] * max_params
    for index in expression.params:
        if index < len(params):
            padded[index] = float(params[index])
    return tuple(padded)
