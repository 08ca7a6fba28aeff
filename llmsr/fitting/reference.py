"""Reference fits: the spec's own `evaluate` as it stands, with the equation regenerated from its graph.

The spec is the user's code and is trusted; it runs in this process. Its text is executed afresh for every
fit, without the decorators that only mark functions, and its `equation` is ours from the start. A spec that
computes in torch gets its data as float64 tensors.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from types import CodeType
from typing import Any

import numpy as np
from scipy import optimize

from llmsr.expression.graph import Expression, Graph, Node, evaluate
from llmsr.expression.printing import callable_for
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec, without_markers

_HOOK = "__equation__"
_PATCHING = threading.RLock()  # scipy.optimize.minimize is watched while a spec runs


class _Late(BaseException):
    """The deadline has passed; no Exception, so that a spec's own `except` lets it through."""


class Watch:
    """The equation that a spec's `evaluate` sees, and what was seen of its search."""

    def __init__(self, expression: Expression, problem: Problem) -> None:
        self.expression, self.problem = expression, problem
        self.names = (*problem.spec.columns, problem.spec.params_name)
        self.target: Any = problem.train.target
        self.functions: dict[str, Callable[..., Any]] = {}
        self.deadline, self.late = np.inf, False
        self.calls = 0
        self.results: list[tuple[float, np.ndarray]] = []  # minima and where scipy found them
        self.least = np.inf  # of all calls, the squared error
        self.best = self.last = np.empty(0)  # its parameters, and those of the last call on some of the rows
        self.used = np.array(expression.params, dtype=np.intp)
        self.enough = max(expression.params, default=-1) + 1

    def run(self, seconds: float, in_torch: bool) -> tuple[float | None, str]:
        """What the spec's `evaluate` returns, None where it is no finite number, and why it failed if so."""
        spec, train = self.problem.spec, self.problem.train
        data = {"inputs": train.inputs.copy(), "outputs": train.target.copy()}
        try:
            with _PATCHING, _quiet(), self.minimize():
                namespace: dict[str, Any] = {"__name__": "spec", _HOOK: self.equation}
                exec(_compiled(spec.text, spec.path, spec.function_name), namespace)
                self.deadline = time.perf_counter() + seconds  # imports are nobody's fault
                if in_torch:
                    data = {name: sys.modules["torch"].from_numpy(array) for name, array in data.items()}
                return _score(namespace[spec.evaluate_name](data), spec)
        except _Late:
            self.late = True
            return None, ""
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.path]
            where = f"line {lines[-1]} of {spec.path}" if lines else spec.path
            text = " ".join(str(error).split())[:200]
            return None, f"{where}: {type(error).__name__}{': ' + text if text else ''}"

    def equation(self, *args: Any, **named: Any) -> Any:
        """The regenerated equation, with the spec's own argument names; in torch where an argument is."""
        if time.perf_counter() > self.deadline:
            raise _Late
        if named:
            args = (*args, *(named.pop(name) for name in self.names[len(args) :] if name in named))
        if named or len(args) != len(self.names):
            raise TypeError(f"the equation takes ({', '.join(self.names)})")
        self.calls += 1
        tensors = as_tensors(args)
        if tensors is not None:
            value = self._function("torch")(*tensors)
            self._note(tensors[-1], value.detach().cpu().numpy())
        else:
            value = self._function("numpy")(*args)
            if self.problem.spec.own_search:
                self._note(args[-1], value)
        return value

    def _function(self, dialect: str) -> Callable[..., Any]:
        if dialect not in self.functions:
            make = RepeatedEquation if dialect == "numpy" else partial(callable_for, dialect=dialect)
            self.functions[dialect] = make(self.expression)
        return self.functions[dialect]

    def _note(self, params: Any, value: Any) -> None:
        if np.size(value) == len(self.target):
            residual = np.reshape(value, -1) - self.target
            self._keep(float(np.dot(residual, residual)), params)
        else:
            self.last = as_numbers(params)

    def _keep(self, squares: float, params: Any) -> None:
        if squares < self.least:
            self.least, self.best = squares, as_numbers(params)

    @contextlib.contextmanager
    def minimize(self) -> Iterator[None]:
        """While open, scipy's `minimize` tells this watch what it evaluated and found."""
        original = optimize.minimize

        def minimize(fun: Callable[..., Any], x0: Any, *args: Any, **named: Any) -> Any:
            if not self.problem.spec.own_search:
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
        point: list[Any] = []

        @lru_cache(maxsize=self.problem.spec.max_params + 2)
        def at(used: bytes) -> Any:
            value = fun(*point)
            self._keep(float(value), point[0])
            return value

        def loss(*x_and_args: Any) -> Any:
            point[:] = x_and_args
            return at(point[0][self.used].tobytes())

        return loss

    def params(self, score: float | None) -> np.ndarray:
        """The parameters that the search ended with, without a score those of the best call, or empty."""
        found = [(fun, x) for fun, x in self.results if x.ndim == 1 and len(x) >= self.enough]
        if score is not None and found:
            return next((x for fun, x in reversed(found) if fun == -score), found[-1][1])
        for params in (self.best, self.last):
            if params.ndim == 1 and len(params) >= max(1, self.enough):
                return params
        return np.empty(0)

    def loss(self, params: np.ndarray) -> float:
        """Mean squared error on train."""
        train = self.problem.train
        with np.errstate(all="ignore"):
            return float(np.mean((evaluate(self.expression, train.inputs, params) - train.target) ** 2))


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
    try:
        score = np.nan if returned is None else float(returned)
    except (TypeError, ValueError, RuntimeError):
        kind = type(returned).__name__
        return None, f"{spec.evaluate_name} returned {kind}; it must return a number or None"
    return (score if np.isfinite(score) else None), ""


# ---- the equation


MOST_BYTES = 2**28  # of features kept; beyond it they are computed at every call
CHEAP = {"neg", "abs", "add", "sub", "mul", "div"}  # quicker than to see that the columns are the same


def features_of(expression: Expression) -> tuple[list[Expression], Expression]:
    """The largest parts that depend on columns alone, and the equation with them as further columns.

    A part does more than plain arithmetic. Without parameters the whole equation may be one, and the second
    is then that column.
    """
    nodes = expression.nodes
    fixed: list[bool] = []  # depends on no parameter
    worth: list[bool] = []  # holds an operation that takes long
    for node in nodes:
        fixed.append(node.op != "param" and all(fixed[a] for a in node.args))
        worth.append(bool(node.args) and (node.op not in CHEAP or any(worth[a] for a in node.args)))
    used = {a for i, node in enumerate(nodes) if not fixed[i] for a in node.args} | {len(nodes) - 1}
    parts = [i for i in sorted(used) if fixed[i] and worth[i]]
    place = {part: len(expression.columns) + k for k, part in enumerate(parts)}
    names = tuple(f"feature{k}" for k in range(len(parts)))
    rest = [Node("column", (), place[i]) if i in place else node for i, node in enumerate(nodes)]
    graph, columns = Graph(nodes=nodes), expression.columns
    features = [graph.expression(part, columns) for part in parts]
    return features, Graph(nodes=rest).expression(len(nodes) - 1, (*columns, *names))


class RepeatedEquation:
    """`callable_for(expression)`, quicker from the second call with equal columns on."""

    def __init__(self, expression: Expression) -> None:
        features, rest = features_of(expression)
        self.features = [callable_for(feature) for feature in features]
        self.rest = callable_for(rest)
        self.used = sorted({column for feature in features for column in feature.inputs})
        self.columns: Sequence[Any] | None = None  # copies, since a spec may change its data in place
        self.values: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        """`args` are the columns, of shape (rows,) or numbers, and the parameters; gives the same shape."""
        *columns, params = args
        used = [columns[i] for i in self.used]
        if self.columns is not None and all(map(np.array_equal, used, self.columns)):
            values = self.values
        else:
            values = [feature(*columns, params) for feature in self.features]
            if 8 * sum(map(np.size, values)) <= MOST_BYTES:
                self.columns, self.values = [np.array(column) for column in used], values
        return self.rest(*columns, *values, params)


# ---- tensors


@lru_cache(maxsize=1)
def load_torch() -> None:
    """Import torch, if it is there, with what its optimisers load at their first step; both take seconds."""
    with contextlib.suppress(ImportError):
        import torch

        one = torch.nn.Parameter(torch.ones(1))
        one.sum().backward()  # type: ignore[no-untyped-call, unused-ignore]
        torch.optim.Adam([one]).step()


def as_tensors(args: tuple[Any, ...]) -> list[Any] | None:
    """The equation's arguments as torch takes them, None where no tensor is among them.

    Parameters may be a tensor, an array, or any sequence of tensors and numbers, such as a ParameterList;
    gradients flow through all that were tensors.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    *columns, params = args
    whole = isinstance(params, torch.Tensor | np.ndarray)
    parts = [params] if whole else list(params)
    if not any(isinstance(part, torch.Tensor) for part in (*columns, *parts)):
        return None
    made = [part if isinstance(part, torch.Tensor) else torch.as_tensor(part, dtype=torch.float64)
            for part in (*columns, *parts)]  # fmt: skip
    return made if whole else [*made[: len(columns)], made[len(columns) :]]


def as_numbers(params: Any) -> np.ndarray:
    """A copy of parameters that may be an array, a tensor or a sequence of numbers or tensors."""
    if hasattr(params, "detach"):
        params = params.detach().cpu()
    elif not isinstance(params, np.ndarray):
        params = [float(p) for p in params]
    return np.array(params, dtype=np.float64)
