"""Reference fits give the bits that the spec's own evaluate gives, and name every way to fail."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize
from small_spec import HEAD, LEAST_SQUARES, spec_text

from llmsr.expression import Expression, evaluate, parse
from llmsr.fitting import fit_reference, split_nmse, within_tolerance
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.split import Split

SPECS = Path(__file__).resolve().parents[2] / "specs"


@pytest.fixture(scope="module")
def oscillator1():
    return load_problem("oscillator1")


def small_problem(evaluate_body=LEAST_SQUARES, head=HEAD, law=lambda x, v: 2 * x - 3 * v, rows=200):
    """A problem of two columns with the given body of `evaluate`."""
    spec = parse_spec(spec_text(evaluate_body, head), "mine.txt")
    inputs = np.random.default_rng(0).normal(size=(rows, 2))
    return Problem("mine", spec, "y", {"train": Split(inputs, law(*inputs.T))})


def expression(body, columns=("x", "v")):
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    found = parse(lines, columns)
    assert isinstance(found, Expression), found
    return found


def by_hand(problem, body):
    """What the spec's text gives when a person pastes the body into it, and the number of its calls."""
    spec = problem.spec
    text = spec.text
    for marker in ("@evaluate.run", "@equation.evolve"):
        text = text.replace(marker, "")
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    text += f"\ndef equation({', '.join(spec.columns)}, {spec.params_name}):\n{lines}\n"
    namespace, calls = {}, []
    exec(text, namespace)
    plain = namespace["equation"]
    namespace["equation"] = lambda *args: calls.append(1) or plain(*args)
    train = problem.splits["train"]
    with np.errstate(all="ignore"):
        return namespace["evaluate"]({"inputs": train.inputs, "outputs": train.target}), len(calls)


BODIES = [
    "return params[0] * x + params[1] * v + params[2]",
    "p = params\nreturn p[0] * np.sin(x) + p[1] * v**3 + p[2] * x**3 + p[3] * x * v + p[4] * x * np.cos(x)",
    "a = params[0] * x\nb = params[1] * v**2\nreturn a - b / (1 + np.abs(x)) + params[2]",
    "return params[3] * x * np.exp(-params[1] * v**2) + params[7] * np.tanh(params[9] * x)",
    "return x * v",
]


@pytest.mark.parametrize("body", BODIES)
def test_score_is_that_of_the_spec_by_hand_to_the_last_bit(oscillator1, body):
    score, calls = by_hand(oscillator1, body)
    fit = fit_reference(expression(body), oscillator1, 60)
    assert (fit.status, fit.mode, fit.engine, fit.deadline_reached) == ("ok", "reference", "callable", False)
    assert fit.score == score
    assert fit.loss == -score
    assert 1 <= fit.evaluations < calls  # moving an unused parameter costs nothing


def test_loss_belongs_to_the_params(oscillator1):
    e = expression(BODIES[3])
    fit = fit_reference(e, oscillator1, 60)
    train = oscillator1.splits["train"]
    error = np.mean((evaluate(e, train.inputs, np.array(fit.params)) - train.target) ** 2)
    assert error == pytest.approx(fit.loss, rel=1e-12)
    assert len(fit.params) == 10
    assert all(fit.params[i] == 1.0 for i in (0, 2, 4, 5, 6, 8))
    assert all(fit.params[i] != 1.0 for i in (1, 3, 7, 9))


def test_all_params_used_gives_the_same_bits(oscillator1):
    body = "return " + " + ".join(f"params[{i}] * x**{i % 4} * v**{i // 4}" for i in range(10))
    score, calls = by_hand(oscillator1, body)
    fit = fit_reference(expression(body), oscillator1, 60)
    assert fit.score == score
    assert fit.evaluations <= calls


def test_data_stays_as_it_was(oscillator1):
    before = oscillator1.splits["train"].target.copy()
    problem = small_problem('\n    data["outputs"] *= 0\n    data["inputs"][:] = 1\n    return 0.0\n')
    inputs = problem.splits["train"].inputs.copy()
    fit_reference(expression("return params[0] * x"), problem)
    np.testing.assert_array_equal(problem.splits["train"].inputs, inputs)
    np.testing.assert_array_equal(oscillator1.splits["train"].target, before)


def test_minimize_is_given_back(oscillator1):
    original = optimize.minimize
    fit_reference(expression(BODIES[0]), oscillator1)
    fit_reference(expression(BODIES[0]), small_problem("\n    raise ValueError\n"))
    assert optimize.minimize is original


def test_fits_in_two_threads_do_not_disturb_each_other():
    problem = small_problem()
    scores = []
    body = expression("return params[0] * x * np.exp(params[1] * v)")
    threads = [
        threading.Thread(target=lambda: scores.append(fit_reference(body, problem, 60).score))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores) == 4
    assert len(set(scores)) == 1


# --- a user's own evaluate ----------------------------------------------------------------------------------


def test_own_weights_are_honoured():
    weighted = LEAST_SQUARES.replace("- outputs) ** 2)", "- outputs) ** 2 * (x > 0))")
    problem = small_problem(weighted, law=lambda x, v: np.where(x > 0, 2 * x, 7 * x))
    assert not problem.spec.least_squares
    fit = fit_reference(expression("return params[0] * x"), problem)
    assert fit.params[0] == pytest.approx(2, abs=1e-4)
    assert fit.score == pytest.approx(0, abs=1e-8)
    assert fit.loss > 1  # the plain mean squared error, whatever the spec's own score


def test_params_come_from_the_minimum_that_was_returned():
    several = """
    inputs, outputs = data["inputs"], data["outputs"]
    def loss(params):
        return np.mean((np.sin(equation(*inputs.T, params)) - np.sin(outputs)) ** 2)
    results = [minimize(loss, np.full(MAX_NPARAMS, start), method="BFGS") for start in (2.0, 30.0, -40.0)]
    return -min(r.fun for r in results)
"""
    problem = small_problem(several, law=lambda x, v: 2.1 * x)
    fit = fit_reference(expression("return params[0] * x"), problem)
    assert fit.status == "ok"
    assert fit.params[0] == pytest.approx(2.1, abs=1e-4)


def test_params_without_minimize_are_those_of_the_best_call():
    grid = """
    best = None
    for value in (0.5, 3.0, 2.0, 9.0):
        error = np.mean((equation(*data["inputs"].T, [value] * 10) - data["outputs"]) ** 2)
        best = error if best is None else min(best, error)
    return -best
"""
    fit = fit_reference(expression("return params[4] * x"), small_problem(grid, law=lambda x, v: 2 * x))
    assert fit.params == (1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert (fit.score, fit.loss, fit.evaluations) == (0.0, 0.0, 4)


def test_params_of_a_search_in_batches_are_the_last_ones():
    batches = """
    for start in (0, 50, 100, 150):
        equation(*data["inputs"][start : start + 50].T, [0.5 + start / 100] * 10)
    return -0.25
"""
    fit = fit_reference(expression("return params[0] * x"), small_problem(batches, law=lambda x, v: 2 * x))
    assert (fit.status, fit.score, fit.params[0], fit.loss) == ("ok", -0.25, 2.0, 0.0)


def test_a_perfect_score_is_no_failure():
    problem = small_problem(
        "\n    equation(*data['inputs'].T, np.full(10, 2.0))\n    return 0.0\n", law=lambda x, v: 2 * x
    )
    fit = fit_reference(expression("return params[0] * x"), problem)
    assert (fit.status, fit.score, fit.loss) == ("ok", 0.0, 0.0)


def test_equation_may_be_called_by_its_argument_names():
    body = LEAST_SQUARES.replace("equation(x, v, params)", "equation(x, params=params, v=v)")
    fit = fit_reference(expression("return params[0] * x + params[1] * v"), small_problem(body))
    np.testing.assert_allclose(fit.params[:2], [2, -3], atol=1e-4)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("\n    return None\n", "nonfinite", "no finite score"),
        ("\n    return float('nan')\n", "nonfinite", "no finite score"),
        ("\n    return -np.inf\n", "nonfinite", "no finite score"),
        ("\n    raise ValueError('too\\nbad')\n", "error", "line 8 of mine.txt: ValueError: too bad"),
        ("\n    import not_a_module\n", "error", "ModuleNotFoundError"),
        ("\n    raise SystemExit(3)\n", "error", "SystemExit: 3"),
        ("\n    return 'good'\n", "error", "returned str; it must return a number or None"),
        ("\n    return np.zeros(3)\n", "error", "returned ndarray"),
        ("\n    return equation(1.0)\n", "error", "the equation takes (x, v, params)"),
        ("\n    return -1.0\n", "error", "never called equation"),
    ],
)
def test_failures_are_values_with_a_reason(body, status, reason):
    fit = fit_reference(expression("return params[0] * x"), small_problem(body))
    assert fit.status == status
    assert reason in fit.reason
    assert "\n" not in fit.reason
    assert (fit.loss, fit.score) == (None, None)
    assert fit.params == (1.0,) * 10


def test_module_that_fails_is_an_error_too():
    problem = small_problem(head=HEAD + "1 / 0\n")
    assert "ZeroDivisionError" in fit_reference(expression("return params[0] * x"), problem).reason


def test_nonfinite_equation():
    fit = fit_reference(expression("return params[0] * np.log(x) + v"), small_problem())
    assert (fit.status, fit.loss) == ("nonfinite", None)


def test_decorators_in_call_form_and_prints_on_stderr(capsys):
    problem = small_problem(LEAST_SQUARES.replace("    inputs,", "    print('hello')\n    inputs,", 1))
    text = problem.spec.text.replace(".run\n", ".run()\n").replace(".evolve\n", ".evolve()\n")
    problem = Problem("mine", parse_spec(text), "y", problem.splits)
    assert fit_reference(expression("return params[0] * x"), problem).status == "ok"
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_state_of_the_module_does_not_leak_between_fits():
    counting = (
        "\n    COUNT.append(1)\n    equation(*data['inputs'].T, [0.0] * 10)\n    return -float(len(COUNT))\n"
    )
    problem = small_problem(counting, HEAD + "COUNT = []\n")
    assert [fit_reference(expression("return params[0] * x"), problem).score for _ in range(3)] == [-1.0] * 3


# --- the deadline -------------------------------------------------------------------------------------------

ENDLESS = """
    value = 5.0
    while True:
        try:
            equation(*data["inputs"].T, [value] * 10)
        except Exception:
            pass
        value *= 0.999
"""


def test_deadline_ends_a_search_and_keeps_the_best():
    began = time.perf_counter()
    fit = fit_reference(
        expression("return params[0] * x"), small_problem(ENDLESS, law=lambda x, v: 2 * x), 0.3
    )
    assert time.perf_counter() - began < 2
    assert (fit.status, fit.deadline_reached, fit.score) == ("ok", True, None)
    assert fit.params[0] == pytest.approx(2, abs=0.01)
    assert fit.loss < 1e-3


def test_deadline_ends_bfgs_and_keeps_the_best(oscillator1):
    e = expression(BODIES[3])
    fit = fit_reference(e, oscillator1, 0.02)
    assert fit.deadline_reached
    start = evaluate(e, oscillator1.train.inputs, np.ones(10)) - oscillator1.train.target
    assert fit.loss <= np.mean(start**2)


def test_deadline_before_anything_is_a_timeout(oscillator1):
    fit = fit_reference(expression(BODIES[0]), oscillator1, 0.0)
    assert (fit.status, fit.deadline_reached, fit.loss) == ("timeout", True, None)
    assert "within 0 s" in fit.reason


# --- torch --------------------------------------------------------------------------------------------------


def test_torch_spec_trains_as_written():
    pytest.importorskip("torch")
    text = (SPECS / "specification_oscillator2_torch.txt").read_text()
    text = text.replace("10_000", "300").replace("lr=1e-4", "lr=1e-2")
    source = load_problem("oscillator2")
    train = source.splits["train"]
    few = {"train": Split(train.inputs[::50].copy(), train.target[::50].copy())}
    problem = Problem("oscillator2", parse_spec(text), "a", few)
    assert problem.spec.dialect == "torch"
    body = "return params[0] * torch.sin(t) + params[3] * v**3 + params[5] * x * torch.exp(0.5 * x)"
    e = expression(body, ("t", "x", "v"))
    fit = fit_reference(e, problem, 120)
    score, calls = by_hand(problem, body)
    assert fit.status == "ok", fit.reason
    assert fit.score == score
    assert fit.evaluations == calls == 300
    assert fit.loss == pytest.approx(-score, rel=1e-9)
    late = fit_reference(e, problem, 0.02)
    assert late.deadline_reached
    assert late.status == "ok"
    assert late.loss >= fit.loss


def test_torch_parameter_lists_and_single_precision():
    pytest.importorskip("torch")
    body = """
    inputs = torch.tensor(data["inputs"], dtype=torch.float32)
    outputs = torch.tensor(data["outputs"], dtype=torch.float32)
    constants = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(1.0)) for _ in range(MAX_NPARAMS)])
    optimizer = torch.optim.Adam(constants.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((equation(inputs[:, 0], inputs[:, 1], constants) - outputs) ** 2).mean()
        loss.backward()
        optimizer.step()
    return None if torch.isnan(loss) else -loss.item()
"""
    fit = fit_reference(
        expression("return params[2] * x + params[0] * v"),
        small_problem(body, HEAD + "import torch\n"),
        60,
    )
    assert (fit.status, fit.evaluations) == ("ok", 200)
    assert fit.params[2] == pytest.approx(2, abs=0.05)
    assert fit.params[0] == pytest.approx(-3, abs=0.05)


# --- scores on the splits -----------------------------------------------------------------------------------


def test_split_nmse_covers_every_split(oscillator1):
    e = expression(BODIES[1])
    truth = (0.8, -0.5, -0.2, -0.5, -1.0, 1, 1, 1, 1, 1)
    values = split_nmse(e, truth, oscillator1)
    assert list(values) == ["train", "test_id", "test_ood"]
    assert all(value < 1e-28 for value in values.values())


def test_nonfinite_prediction_is_none():
    problem = small_problem()
    e = expression("return np.log(params[0] * x)")
    assert split_nmse(e, (1.0,) * 10, problem) == {"train": None}


def test_two_tolerance_scores():
    target = np.array([1.0, -2.0, 0.0, 4.0])
    prediction = np.array([1.05, -2.3, 0.0, np.nan])
    assert within_tolerance(prediction, target, 0.1).mean() == 0.5
    assert within_tolerance(prediction, target, 0.1).all() == 0.0
    assert within_tolerance(target, target, 0.0).mean() == 1.0
    assert within_tolerance(target * 1.05, target, 0.1).all() == 1.0
    assert within_tolerance(np.full(4, np.inf), target, 0.5).mean() == 0.0
