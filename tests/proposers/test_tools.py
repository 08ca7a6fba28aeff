"""Tools that a chat model calls before it answers: what they say, and conversations with a server."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_server import FakeServer

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.proposers.choice import make_proposer
from llmsr.search.search import Search
from llmsr.settings import ProposerConfig, SearchSettings
from llmsr.tools import Tools

ANSWER = "```python\ndef equation(x, v, params):\n    return params[0] * x + params[1] * v**3\n```"


@pytest.fixture(scope="module")
def evaluator():
    with Evaluator(load_problem("oscillator1"), workers=1) as evaluator:
        yield evaluator


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


def call(name, **arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def calls(*asked):
    return {"content": None, "tool_calls": list(asked)}


def searched(server, evaluator, replies, **settings):
    """The archive of a search whose model says `replies` in a row, the last one again and again."""
    left = list(replies)
    server.reply = lambda asked: left.pop(0) if len(left) > 1 else left[0]
    proposer = make_proposer(ProposerConfig(api_base=server.base, parallel_prompts=1))
    settings = {"budget": 3, "samples_per_prompt": 3, "refine": "off", "lookahead": 1, "turns": 4} | settings
    archive = []
    Search(evaluator.problem, proposer, evaluator, archive, SearchSettings(**settings)).run()
    return archive


# ---- what tools say


def test_a_column_is_described_by_its_quartiles(evaluator):
    told = Tools(evaluator, 4).call(call("describe", column="x"))
    values = evaluator.problem.train.inputs[:, 0]
    assert f"{np.median(values):.4g}" in told
    assert f"{values.max():.4g}" in told


def test_a_correlation_is_that_of_numpy(evaluator):
    told = Tools(evaluator, 4).call(call("correlate", expression="x**3"))
    train = evaluator.problem.train
    assert f"{np.corrcoef(train.inputs[:, 0] ** 3, train.target)[0, 1]:.4f}" in told


def test_residuals_of_a_line_say_where_it_is_too_low(evaluator):
    told = Tools(evaluator, 4).call(call("residual", equation="params[0] * x", column="v")).splitlines()
    train = evaluator.problem.train
    x, v = train.inputs.T
    residual = train.target - x * (x @ train.target) / (x @ x)
    first = np.argsort(v, kind="stable")[: -(-len(v) // 8)]
    assert len(told) == 8
    assert float(told[0].rpartition(" ")[2]) == pytest.approx(residual[first].mean(), rel=0.01)


def test_an_evaluation_tells_error_and_constants(evaluator):
    told = Tools(evaluator, 4).call(call("evaluate", equation="params[0] * x"))
    fitted = evaluator.evaluate("    return params[0] * x")
    assert f"{fitted.nmse['train']:.2e}" in told
    assert f"params[0] = {fitted.params[0]:.4g}" in told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (call("shell", command="ls"), "there is no tool 'shell'"),
        (call("evaluate"), "evaluate takes equation, as text"),
        (call("evaluate", equation=["x"]), "evaluate takes equation, as text"),
        (call("evaluate", equation="__import__('os').system('touch /tmp/x')"), "refused: "),
        (call("evaluate", equation="return params[0] * y"), "refused: the name y is not defined"),
        (call("describe", column="__class__"), "there is no column '__class__'; there are x, v, and"),
        (call("correlate", expression="params[0] * x"), "has no constants to fit"),
        (call("correlate", expression="np.log(x)"), "not finite on some rows"),
        (call("residual", equation="nonsense(", column="x"), "refused: "),
        ({"function": {"name": "evaluate", "arguments": "[" * 100_000}}, "evaluate takes equation"),
        ({"function": {"name": "evaluate", "arguments": "{not json"}}, "evaluate takes equation"),
    ],
)
def test_what_a_tool_cannot_do_is_a_sentence(evaluator, asked, told):
    assert told in Tools(evaluator, 4).call(asked)


# ---- conversations


def test_what_is_evaluated_on_the_way_is_a_sample_like_the_answer(server, evaluator):
    tried = calls(call("describe", column="x"), call("evaluate", equation="return params[0] * x"))
    archive = searched(server, evaluator, [tried, ANSWER], budget=2, samples_per_prompt=2)
    assert [sample.evaluation.ok for sample in archive] == [True, True]
    assert archive[0].finish_reason == "tool_calls"
    assert archive[0].evaluation.canonical != archive[1].evaluation.canonical
    assert sum(sample.tokens for sample in archive) == 14  # 7 of each reply
    first, second = (asked for _, _, asked in server.requests)
    assert {tool["function"]["name"] for tool in first["tools"]} == {
        "evaluate", "describe", "correlate", "residual",
    }  # fmt: skip
    assert second["messages"][-3]["tool_calls"] == tried["tool_calls"]
    results = [message for message in second["messages"] if message["role"] == "tool"]
    assert f"{archive[0].evaluation.nmse['train']:.2e}" in results[1]["content"]


def test_a_model_that_never_answers_is_asked_to_after_its_turns(server, evaluator):
    asked_again = calls(call("describe", column="v"))
    archive = searched(server, evaluator, [asked_again], budget=1, samples_per_prompt=1, turns=2)
    assert [sample.evaluation.status for sample in archive] == ["empty"]
    assert [asked["tool_choice"] for _, _, asked in server.requests] == ["auto", "auto", "none"]


def test_conversations_go_on_until_a_prompt_has_its_samples(server, evaluator):
    archive = searched(server, evaluator, [ANSWER])
    assert len(archive) == len(server.requests) == 3


@pytest.mark.parametrize(
    "malformed",
    [{"tool_calls": "evaluate"}, {"tool_calls": [None, 3, {"function": None}, {"function": {"name": 5}}]}],
)
def test_malformed_calls_are_no_calls(server, evaluator, malformed):
    (sample,) = searched(server, evaluator, [{"content": ANSWER} | malformed], budget=1, samples_per_prompt=1)
    assert sample.evaluation.ok


def test_arguments_that_come_as_an_object_are_read(server, evaluator):
    asked = call("evaluate", equation="return params[0] * v")
    asked["function"]["arguments"] = {"equation": "return params[0] * v"}
    archive = searched(server, evaluator, [calls(asked), ANSWER], budget=2, samples_per_prompt=2)
    assert archive[0].evaluation.ok


def test_a_server_without_tools_says_so_before_any_sample(server, evaluator):
    server.refuse = lambda asked: "registry/model does not support tools" if "tools" in asked else None
    with pytest.raises(UserError, match=r"fake-model .* calls no tools .*: leave out --turns"):
        searched(server, evaluator, [ANSWER])


def test_turns_need_a_server_of_chat_models(evaluator):
    proposer = make_proposer(ProposerConfig(proposer="grammar"))
    with pytest.raises(UserError, match="--turns needs a server of chat models"):
        Search(evaluator.problem, proposer, evaluator, [], SearchSettings(turns=1))
