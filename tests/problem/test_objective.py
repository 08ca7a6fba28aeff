"""The standard least-squares objective is recognised in any spelling, and nothing else is taken for it."""

import re
from pathlib import Path

import numpy as np
import pytest
from small_spec import EQUATION, spec_text
from small_spec import LEAST_SQUARES as BODY

from llmsr.problem.spec import parse_spec

HEAD = """import math
import numpy as np
import scipy
import scipy.optimize as opt
from scipy import optimize
from scipy.optimize import minimize
from numpy import mean
MAX_NPARAMS = 3
PRAMS_INIT = [1.0] * MAX_NPARAMS
"""


def recognised(body=BODY, head=HEAD, tail="", equation=EQUATION):
    return parse_spec(spec_text(body, head, equation + tail)).least_squares


def changed(old, new):
    assert old in BODY
    return BODY.replace(old, new)


MEAN = "np.mean((predicted - outputs) ** 2)"
CALL = 'minimize(loss, PRAMS_INIT, method="BFGS")'
COLUMNS = "x, v = inputs[:, 0], inputs[:, 1]"
RETURN = """    if np.isnan(error) or np.isinf(error):
        return None
    return -error
"""

SAME = [
    BODY,
    # the loss
    changed(MEAN, "np.mean((outputs - predicted) ** 2)"),
    changed(MEAN, "np.mean((predicted - outputs) ** 2.0)"),
    changed(MEAN, "np.mean(np.square(predicted - outputs))"),
    changed(MEAN, "np.mean(np.power(predicted - outputs, 2))"),
    changed(MEAN, "np.mean((predicted - outputs) * (predicted - outputs))"),
    changed(MEAN, "((predicted - outputs) ** 2).mean()"),
    changed(MEAN, "np.sum((predicted - outputs) ** 2) / len(outputs)"),
    changed(MEAN, "((predicted - outputs) ** 2).sum() / outputs.shape[0]"),
    changed(MEAN, "np.sum((predicted - outputs) ** 2) / inputs.shape[0]"),
    changed(MEAN, "np.dot(predicted - outputs, predicted - outputs) / outputs.size"),
    changed(MEAN, "float(np.average(np.subtract(predicted, outputs) ** 2))"),
    changed(MEAN, "mean((predicted - outputs) ** 2)"),
    changed(
        f"return {MEAN}",
        "r = predicted - outputs\n        s = r ** 2\n        m = np.mean(s)\n        return m",
    ),
    # the minimiser
    changed(CALL, "minimize(loss, PRAMS_INIT)"),
    changed(CALL, 'minimize(loss, x0=PRAMS_INIT, method="bfgs")'),
    changed(CALL, 'minimize(fun=loss, x0=[1.0] * MAX_NPARAMS, method="BFGS")'),
    changed(CALL, 'minimize(loss, np.ones(MAX_NPARAMS), method="BFGS")'),
    changed(CALL, 'minimize(loss, np.array([1.0, 1, 1.0]), method="BFGS")'),
    changed(CALL, 'minimize(loss, [1.0 for _ in range(MAX_NPARAMS)], method="BFGS")'),
    changed(CALL, 'minimize(lambda p: loss(p), PRAMS_INIT, method="BFGS")'),
    changed(CALL, 'scipy.optimize.minimize(loss, PRAMS_INIT, method="BFGS")'),
    changed(CALL, 'opt.minimize(loss, PRAMS_INIT, method="BFGS")'),
    changed(CALL, 'optimize.minimize(loss, PRAMS_INIT, method="BFGS")'),
    changed(
        "    inputs, outputs", "    from scipy.optimize import minimize as search\n    inputs, outputs"
    ).replace("= minimize(", "= search("),
    # the columns
    changed(COLUMNS, "x, v = inputs.T"),
    changed(COLUMNS, "x = inputs[:, 0]\n    v = inputs.T[1]"),
    changed(COLUMNS, "v = inputs[:, 1]\n    x = inputs[:, 0]"),
    changed(COLUMNS, "pass").replace("equation(x, v, params)", "equation(*inputs.T, params)"),
    changed(COLUMNS, "pass").replace(
        "equation(x, v, params)", "equation(inputs[:, 0], inputs[:, 1], params)"
    ),
    changed(COLUMNS, "cols = [inputs[:, i] for i in range(inputs.shape[1])]").replace("(x, v,", "(*cols,"),
    changed("equation(x, v, params)", "equation(v=v, x=x, params=params)"),
    changed("outputs = data", "outputs = data").replace('data["outputs"]', 'data["outputs"].reshape(-1)'),
    # the answer
    changed(RETURN, "    return -error\n"),
    changed(RETURN, "    return -float(error)\n"),
    changed(RETURN, "    return None if np.isnan(error) else -error\n"),
    changed(RETURN, "    return -result['fun'] if math.isfinite(error) else None\n"),
    changed(RETURN, "    if not np.isfinite(error):\n        return\n    return -error\n"),
    changed(RETURN, "    if np.isfinite(error):\n        return -error\n"),
    changed(
        RETURN,
        "    if np.isnan(error) or np.isinf(error):\n        return None\n    else:\n        return -error\n",
    ),
    changed("error = result.fun", "best = result.x\n    error = loss(best)"),
    changed(RETURN, "    try:\n        return -error\n    except Exception:\n        return None\n"),
    changed(RETURN, "    if np.isnan(error): pass\n" * 1000 + "    return -error\n"),
    # names
    "\n    global np\n" + BODY,
    BODY.replace("loss", "objective")
    .replace("predicted", "y_hat")
    .replace("outputs =", "y =")
    .replace("outputs)", "y)"),
    BODY.replace("error", "loss"),  # the name of the function, bound again after the search
    '\n    """Docstring."""' + BODY,
    # as widely used spec files write it
    """
    ''' Evaluate the equation on data observations.'''
    # Load data observations
    inputs, outputs = data['inputs'], data['outputs']
    X = inputs
    # Optimize parameters based on data
    from scipy.optimize import minimize
    def loss(params):
        y_pred = equation(*X.T, params)
        return np.mean((y_pred - outputs) ** 2)

    loss_partial = lambda params: loss(params)
    result = minimize(loss_partial, [1.0]*MAX_NPARAMS, method='BFGS')

    optimized_params = result.x
    loss = result.fun

    if np.isnan(loss) or np.isinf(loss):
        return None
    else:
        return -loss
""",
    # the arrays handed over as arguments
    changed("def loss(params):", "def loss(params, x, v, outputs):").replace(
        CALL, 'minimize(loss, PRAMS_INIT, args=(x, v, outputs), method="BFGS")'
    ),
]


@pytest.mark.parametrize("body", SAME)
def test_the_standard_form_in_another_spelling(body):
    assert recognised(body)


@pytest.mark.parametrize("body", SAME)
def test_what_is_recognised_gives_the_same_score_when_run(body):
    inputs = np.random.default_rng(0).normal(size=(50, 2))
    data = {"inputs": inputs, "outputs": np.sin(inputs[:, 0]) - 0.3 * inputs[:, 1]}
    scores = []
    for form in (BODY, body):
        namespace = {}
        text = f"{HEAD}\ndef evaluate(data):{form}\n"
        text += "def equation(x, v, params):\n    return params[0] * np.tanh(params[1] * x) + params[2] * v\n"
        exec(text, namespace)
        scores.append(namespace["evaluate"](data))
    assert scores[0] < -1e-6
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


OTHER = [
    # another loss
    changed(MEAN, "np.mean(np.abs(predicted - outputs))"),
    changed(MEAN, "np.mean((predicted - outputs) ** 4)"),
    changed(MEAN, "np.sum((predicted - outputs) ** 2)"),
    changed(MEAN, "np.median((predicted - outputs) ** 2)"),
    changed(MEAN, "np.sqrt(np.mean((predicted - outputs) ** 2))"),
    changed(MEAN, "np.mean((predicted + outputs) ** 2)"),
    changed(MEAN, "np.mean((predicted - predicted) ** 2)"),
    changed(MEAN, "np.mean(predicted - outputs) ** 2"),
    changed(MEAN, "np.mean((predicted - outputs) ** 2) / np.var(outputs)"),
    changed(MEAN, "np.mean((predicted - outputs) ** 2) + 0.01 * np.sum(params ** 2)"),
    changed(MEAN, "np.mean(w * (predicted - outputs) ** 2)"),
    changed(MEAN, "np.average((predicted - outputs) ** 2, weights=x)"),
    changed(MEAN, "np.mean((np.log(predicted) - np.log(outputs)) ** 2)"),
    changed(MEAN, "np.mean((predicted - np.log(outputs)) ** 2)"),
    changed(MEAN, "np.mean(((predicted - outputs) / outputs) ** 2)"),
    changed(MEAN, "np.mean((predicted - outputs) ** 2, axis=0)"),
    changed(MEAN, "np.mean((predicted - outputs[:, None]) ** 2)"),
    changed(MEAN, "np.mean((predicted[1:] - outputs[1:]) ** 2)"),
    changed(MEAN, "np.sum((predicted - outputs) ** 2) / 1000"),
    changed(MEAN, "np.nan_to_num(np.mean((predicted - outputs) ** 2))"),
    changed(f"return {MEAN}", f"return {MEAN} if np.all(np.isfinite(predicted)) else 1e10"),
    changed(f"return {MEAN}", f"predicted = np.clip(predicted, -1, 1)\n        return {MEAN}"),
    changed(f"return {MEAN}", f"return -{MEAN}"),
    changed(f"return {MEAN}", f"outputs = x\n        return {MEAN}"),
    # another search
    changed(CALL, 'minimize(loss, PRAMS_INIT, method="L-BFGS-B")'),
    changed(CALL, 'minimize(loss, PRAMS_INIT, method="Nelder-Mead")'),
    changed(CALL, 'minimize(loss, PRAMS_INIT, method="BFGS", options={"maxiter": 5})'),
    changed(CALL, 'minimize(loss, PRAMS_INIT, method="BFGS", tol=1e-3)'),
    changed(CALL, "minimize(loss, PRAMS_INIT, bounds=[(0, 1)] * MAX_NPARAMS)"),
    changed(CALL, 'minimize(loss, [0.5] * MAX_NPARAMS, method="BFGS")'),
    changed(CALL, 'minimize(loss, [1.0] * 2, method="BFGS")'),
    changed(CALL, 'minimize(loss, np.ones(1) * MAX_NPARAMS, method="BFGS")'),
    changed(CALL, 'minimize(loss, np.zeros(MAX_NPARAMS), method="BFGS")'),
    changed(CALL, 'minimize(loss, [True] * MAX_NPARAMS, method="BFGS")'),
    changed(CALL, "optimize.basinhopping(loss, PRAMS_INIT)"),
    changed(CALL, "optimize.differential_evolution(loss, [(0, 1)] * 3)"),
    changed(CALL, 'minimize(lambda p: 2 * loss(p), PRAMS_INIT, method="BFGS")'),
    changed(CALL, 'minimize(lambda p: loss(PRAMS_INIT), PRAMS_INIT, method="BFGS")'),
    # other arguments
    changed(COLUMNS, "v, x = inputs[:, 0], inputs[:, 1]"),
    changed("equation(x, v, params)", "equation(v, x, params)"),
    changed("equation(x, v, params)", "equation(x, x, params)"),
    changed("equation(x, v, params)", "equation(x, v * 2, params)"),
    changed("equation(x, v, params)", "equation(x, v, params[::-1])"),
    changed("equation(x, v, params)", "equation(x, v, PRAMS_INIT)"),
    changed("equation(x, v, params)", "equation(x=v, v=x, params=params)"),
    changed("equation(x, v, params)", "2 * equation(x, v, params)"),
    changed("inputs[:, 1]", "inputs[:, 1:2]"),
    changed("inputs[:, 1]", "inputs[:, -1]"),
    changed("inputs[:, 1]", "inputs[1:, 1]"),
    changed(COLUMNS, COLUMNS + "\n    x = x - x.mean()"),
    changed(COLUMNS, COLUMNS + "\n    x -= 1"),
    changed(COLUMNS, COLUMNS + "\n    inputs[:, 0] = 0"),
    changed(COLUMNS, COLUMNS + "\n    outputs.sort()"),
    changed(COLUMNS, COLUMNS + "\n    if len(x) > 5:\n        x = v"),
    changed(COLUMNS, COLUMNS + "\n    for _ in range(2):\n        x = v"),
    changed('data["outputs"]', 'data["outputs"][::2]'),
    changed('data["outputs"]', 'data["inputs"]'),
    # bound again after the function that uses it was defined
    changed("    result = ", "    outputs = x\n    result = "),
    # another answer
    changed("return -error", "return error"),
    changed("return -error", "return -error - 0.01"),
    changed("return -error", "return -np.log(error)"),
    changed("return -error", "return -1.0"),
    changed("return None", "return 0.0"),
    changed("return None", "return -error"),
    changed(RETURN, "    if not result.success:\n        return None\n    return -error\n"),
    changed(RETURN, "    if error < 1:\n        return None\n    return -error\n"),
    changed(RETURN, "    if np.isfinite(error):\n        return None\n    return -error\n"),
    changed(RETURN, "    if np.isnan(error) and np.isinf(error):\n        return None\n    return -error\n"),
    changed(RETURN, "    error\n"),
    changed(RETURN, "    pass\n"),
    "\n    return -1.0\n",
    # a thousand guards in a row end, too
    changed(RETURN, "    if np.isnan(error): x = v\n" * 1000 + "    return -error\n"),
]


@pytest.mark.parametrize("body", OTHER)
def test_anything_else_is_not_the_standard_form(body):
    assert not recognised(body)


LAW = "def equation(x, v, params):\n    return params[0] * np.tanh(params[1] * x) + params[2] * v\n"
VARIANTS = re.findall(
    r"^=== (yes|no) \| (?:(.*) \| )?(.*)\n((?:(?!===).*\n)+)",
    Path(__file__).with_name("objectives.txt").read_text(),
    re.MULTILINE,
)


@pytest.mark.parametrize(("kind", "cause", "title", "text"), VARIANTS, ids=[v[2] for v in VARIANTS])
def test_a_reader_and_the_project_agree(kind, cause, title, text):
    spec = parse_spec(f"{text}\n@equation.evolve\n{LAW}")
    assert spec.least_squares == (kind == "yes"), spec.own_search
    if kind == "no":
        number, line = re.fullmatch(r"line (\d+): (.*)", spec.own_search).groups()
        assert cause in line
        assert spec.text.split("\n")[int(number) - 1].strip() == line


@pytest.mark.parametrize(
    "text", [v[3] for v in VARIANTS if v[0] == "yes"], ids=[v[2] for v in VARIANTS if v[0] == "yes"]
)
def test_what_a_reader_calls_least_squares_gives_the_same_score_when_run(text):
    inputs = np.random.default_rng(0).normal(size=(50, 2))
    data = {"inputs": inputs, "outputs": np.sin(inputs[:, 0]) - 0.3 * inputs[:, 1]}
    scores = []
    for form in (f"{HEAD}\ndef evaluate(data):{BODY}", text.replace("@evaluate.run", "")):
        namespace = {"__name__": "spec"}
        exec(f"{form}\n{LAW}", namespace)
        scores.append(namespace["evaluate"](dict(data)))
    assert scores[0] < -1e-6
    assert scores[1] == pytest.approx(scores[0], rel=1e-6)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + "np.mean = np.median\n",
        HEAD + "from other import minimize\n",
        HEAD + "from other import *\n",
        HEAD + "def minimize(f, x0, method):\n    return f(x0)\n",
        HEAD + "import autograd.numpy as np\n",
        HEAD + "import jax.numpy as np\n",
        HEAD + "PRAMS_INIT = [2.0] * MAX_NPARAMS\n",
        HEAD + "PRAMS_INIT[0] = 5.0\n",
        HEAD + "PRAMS_INIT.append(1.0)\n",
        HEAD + "np.random.seed(0)\n",
        HEAD + "if True:\n    PRAMS_INIT = [2.0] * MAX_NPARAMS\n",
        HEAD + "class np:\n    pass\n",
        HEAD.replace("import numpy as np\n", ""),
    ],
)
def test_a_module_that_changes_the_meaning_is_not_standard(head):
    assert recognised(head=HEAD)
    assert not recognised(head=head)


@pytest.mark.parametrize(
    "tail",
    [
        "\nequation = evaluate\n",
        "\ndef equation(x, v, params):\n    return x\n",
        "\ndef evaluate(data):\n    return 0\n",
        "\nPRAMS_INIT = [3.0] * MAX_NPARAMS\n",
        "\nmean, np = 1, 2\n",
    ],
)
def test_a_name_bound_again_below_is_noticed(tail):
    assert not recognised(tail=tail)


def test_harmless_constants_and_warnings_are_allowed():
    head = HEAD + "import warnings\nwarnings.filterwarnings('ignore')\nNAMES = {'x': 'position'}\nG = 9.81\n"
    assert recognised(head=head)


def test_helper_functions_of_the_module_are_followed():
    head = HEAD + "def mse(a, b):\n    return np.mean((a - b) ** 2)\n"
    assert recognised(changed(MEAN, "mse(predicted, outputs)"), head)
    assert recognised(changed(MEAN, "mse(b=outputs, a=predicted)"), head)
    assert not recognised(changed(MEAN, "mse(predicted, predicted)"), head)
    assert not recognised(changed(MEAN, "mse(outputs, outputs)"), head)


def test_a_second_decorator_or_async_is_not_standard():
    assert not recognised(equation="@other\ndef equation(x, v, params):\n    return params[0] * x\n")
    assert not recognised(equation="async def equation(x, v, params):\n    return params[0] * x\n")
