"""Other programs that find equations, run and measured beside ours: `python benchmarks/peers.py --help`.

An arm with `peer: NAME` runs this (docs/benchmark.md); requirements-peers.txt lists what to install. A
program reports the body of an equation whenever it has a better one; the body goes through our own reader and
no constant is fitted anew, so that complexity, errors and match are taken by the same ruler. What is written
is a run as ours: an archive of the equations that it reported.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.archive import Archive
from llmsr.benchmark.plan import PeerSettings
from llmsr.config import Parser, add_options, as_mapping, resolve
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import Problem, load_problem
from llmsr.run_directory import RunLock, write_configuration
from llmsr.sample import Sample

Report = Callable[[str], None]
GPLEARN_EXPONENT = 50.0  # largest argument of its exp
OPERON_GENERATIONS = 20  # between two reports
OPERON_DIGITS = 17
PYSR_ITERATIONS = 10  # between two reports
_FUNCTION = re.compile(r"\b(sin|cos|tanh|exp|log|sqrt|abs)\(")

# what gplearn's protected functions compute, in words that our reader knows
GPLEARN_HELPERS = """add = lambda a, b: a + b
sub = lambda a, b: a - b
mul = lambda a, b: a * b
div = lambda a, b: np.where(np.abs(b) > 0.001, a / b, 1.0)
sqrt = lambda a: np.sqrt(np.abs(a))
log = lambda a: np.where(np.abs(a) > 0.001, np.log(np.abs(a)), 0.0)
sin = lambda a: np.sin(a)
cos = lambda a: np.cos(a)
exp = lambda a: np.exp(np.minimum(a, 50.0))
"""


class Budget:
    """The CPU seconds of this process, all its threads together, since this was made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.process_time()

    @property
    def left(self) -> float:
        return self.seconds - (time.process_time() - self._began)


def gplearn(problem: Problem, settings: PeerSettings, budget: Budget, report: Report) -> None:
    """Genetic programming on trees with protected functions, else its own defaults; tells each generation."""
    from gplearn.functions import make_function
    from gplearn.genetic import SymbolicRegressor

    def exponential(values: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(values, GPLEARN_EXPONENT))

    exp = make_function(function=exponential, name="exp", arity=1)
    model = SymbolicRegressor(
        population_size=settings.population_size,
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "sin", "cos", exp),
        metric="mse",
        feature_names=list(problem.spec.columns),
        warm_start=True,
        low_memory=True,
        random_state=settings.seed,
        generations=0,
    )
    while budget.left > 0:
        model.set_params(generations=model.generations + 1)
        model.fit(problem.train.inputs, problem.train.target)
        report(f"{GPLEARN_HELPERS}return {model._program}")


def pyoperon(problem: Problem, settings: PeerSettings, budget: Budget, report: Report) -> None:
    """Operon's genetic programming in C++, constants by Levenberg-Marquardt, in single precision.

    Each stretch of generations goes on from the last one's individuals with a seed of its own.
    """
    from pyoperon.sklearn import SymbolicRegressor

    model = SymbolicRegressor(
        allowed_symbols="add,sub,mul,div,pow,sin,cos,tanh,exp,log,sqrt,abs,square,constant,variable",
        population_size=settings.population_size,
        generations=OPERON_GENERATIONS,
        max_evaluations=10**12,
        optimizer_iterations=3,
        n_threads=1,
        warm_start=True,
    )
    stretch = 0
    while budget.left > 0:
        model.set_params(
            random_state=1 + 100_003 * settings.seed + stretch, max_time=max(1, int(budget.left))
        )
        model.fit(problem.train.inputs, problem.train.target)
        text = model.get_model_string(model.model_, OPERON_DIGITS, list(problem.spec.columns))
        report("return " + numpy_text(text))
        stretch += 1


def pysr(problem: Problem, settings: PeerSettings, budget: Budget, report: Report) -> None:
    """SymbolicRegression.jl in one thread; Julia's compilation is part of the CPU seconds.

    It downloads Julia on its first import. Every few iterations the member of least loss is reported.
    """
    from pysr import PySRRegressor

    model = PySRRegressor(
        niterations=PYSR_ITERATIONS,
        binary_operators=["+", "-", "*", "/", "^"],
        unary_operators=["sin", "cos", "tanh", "exp", "log", "sqrt", "abs"],
        constraints={"^": (-1, 1)},
        maxsize=40,
        parallelism="serial",
        deterministic=True,
        random_state=settings.seed,
        warm_start=True,
        model_selection="accuracy",
        progress=False,
        verbosity=0,
        temp_equation_file=True,
    )
    while budget.left > 0:
        model.set_params(timeout_in_seconds=max(1.0, budget.left))
        model.fit(problem.train.inputs, problem.train.target, variable_names=list(problem.spec.columns))
        best = model.equations_.sort_values("loss").iloc[0]
        report("return " + numpy_text(str(best["equation"])))


def numpy_text(infix: str) -> str:
    """A program's infix text as a Python expression with numpy's functions."""
    return _FUNCTION.sub(r"np.\1(", infix.replace("^", "**"))


PROGRAMS = {"gplearn": gplearn, "pyoperon": pyoperon, "pysr": pysr}


def main(words: Sequence[str]) -> int:
    parser = Parser(prog="benchmarks/peers.py", description=__doc__)
    add_options(parser, PeerSettings)
    (settings,) = resolve(PeerSettings, given=vars(parser.parse_args(words)))
    problem = load_problem(settings.problem_name, settings.spec_path, settings.data_dir)
    with (
        RunLock(settings.log_path),
        Evaluator(problem, workers=1) as evaluator,
        Archive(settings.log_path, settings.peer) as archive,
    ):
        write_configuration(archive.path.parents[1], as_mapping(settings))
        report = _Reporter(evaluator, archive, settings.peer)
        try:
            PROGRAMS[settings.peer](problem, settings, Budget(settings.cpu_seconds), report)
        except ImportError as error:
            raise UserError(f"{settings.peer} is not here ({error}): pip install {settings.peer}") from None
    print(f"{settings.peer}: {report.count} equations")
    return 0


class _Reporter:
    """Archives an equation's body as a sample, unless it was the last one already."""

    def __init__(self, evaluator: Evaluator, archive: Archive, name: str) -> None:
        self.count = 0
        self._evaluator, self._archive, self._name = evaluator, archive, name
        self._began = time.monotonic()
        self._last = ""

    def __call__(self, body: str) -> None:
        if body == self._last:
            return
        self._last = body
        self.count += 1
        elapsed = round(time.monotonic() - self._began, 3)
        evaluation = self._evaluator.evaluate(body)
        self._archive.append(Sample(self.count, body, evaluation, proposer=self._name, elapsed=elapsed))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"peers.py: {error}")
