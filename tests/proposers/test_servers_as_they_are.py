"""Servers that refuse a part of what they are asked, or answer otherwise than usual: the run goes on."""

from __future__ import annotations

import json
import logging
import re

import pytest
from fake_server import BODY, FakeServer

from llmsr.completion import Body, read_completion
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.prompt import Chat, Prompt, Version, make_prompt
from llmsr.proposers.choice import make_proposer
from llmsr.proposers.proposer import ProposerFailure
from llmsr.search.search import Search
from llmsr.settings import ProposerConfig, SearchSettings

ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which equation?"})
CHAT = Prompt("the text", Chat(ASKED))
CODE = "```python\ndef equation(x, v, params):\n    return params[0] * x + params[1]\n```"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("llmsr.proposers.service.FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


def ask(server, **settings):
    return make_proposer(
        ProposerConfig(**({"api_base": server.base, "retries": 1, "timeout": 5.0} | settings))
    )


def bodies(server):
    return [asked for _, _, asked in server.requests]


def long_prompt():
    return Prompt("long", Chat(({"role": "user", "content": "x" * 4000},)), lambda: CHAT)


# ---- lengths


def test_a_limit_of_answers_is_kept_to_from_then_on(server, caplog):
    server.refuse = lambda asked: (
        "max_tokens is too large: 900. This model supports at most 256 completion tokens, whereas you "
        "provided 900."
        if asked["max_tokens"] > 256
        else None
    )
    proposer = ask(server, max_tokens=900)
    for _ in range(2):
        assert proposer.propose(CHAT, 2, 1)
    assert [asked["max_tokens"] for asked in bodies(server)] == [900, 256, 256]
    assert "--max_tokens 256" in caplog.text


@pytest.mark.parametrize(
    "refusal",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is "
        "2048 tokens and your request has 1748 input tokens (512 > 2048 - 1748).",
        "This model's maximum context length is 2,048 tokens. However, you requested 2,260 tokens (1,748 in "
        "the messages, 512 in the completion). Please reduce the length of the messages or completion.",
        "Requested token count exceeds the model's maximum context length of 2048 tokens. You requested a "
        "total of 2260 tokens: 1748 tokens from the input messages and 512 tokens for the completion.",
    ],
)
def test_an_answer_gets_the_room_that_a_long_prompt_leaves(server, refusal, caplog):
    server.refuse = lambda asked: refusal if asked["max_tokens"] > 300 else None
    proposer = ask(server)
    with caplog.at_level(logging.WARNING):
        assert len(proposer.propose(CHAT, 4, 1)) == 4
        assert len(proposer.propose(CHAT, 4, 2)) == 4
    # the room is one prompt's: the next prompt is asked for a whole answer first
    assert [asked["max_tokens"] for asked in bodies(server)] == [512, 300, 512, 300]
    assert all(asked["n"] == 4 for asked in bodies(server))
    assert len(caplog.records) == 1


def test_a_limit_without_a_figure_is_found_by_halves(server):
    server.refuse = lambda asked: "max_tokens is too large" if asked["max_tokens"] > 150 else None
    assert ask(server).propose(CHAT, 1, 1)
    assert [asked["max_tokens"] for asked in bodies(server)] == [512, 256, 128]


@pytest.mark.parametrize(
    "refusal",
    [
        "the request exceeds the available context size, try increasing it",
        "This model's maximum context length is 512 tokens. However, you requested 1024 tokens (512 in the "
        "messages, 512 in the completion). Please reduce the length of the messages or completion.",
        "prompt is too long: 1200 tokens > 512 maximum",
    ],
)
def test_a_prompt_over_the_context_is_made_shorter_or_fails_alone(server, refusal):
    server.refuse = lambda asked: refusal if len(asked["messages"][-1]["content"]) > 1000 else None
    proposer = ask(server)
    assert [completion.text for completion in proposer.propose(long_prompt(), 2, 1)] == [BODY] * 2
    assert bodies(server)[-1]["messages"] == list(ASKED)
    hopeless = Prompt("long", Chat(({"role": "user", "content": "x" * 4000},)))
    with pytest.raises(ProposerFailure, match="--max_tokens") as raised:
        proposer.propose(hopeless, 2, 1)
    assert raised.value.kind == "prompt_too_long"
    assert proposer.propose(CHAT, 2, 1)


def test_a_request_that_a_gateway_finds_too_large_is_made_shorter(server):
    server.plan("413")
    assert ask(server).propose(long_prompt(), 1, 1)


def test_shorter_prompts_drop_the_worst_equations_and_keep_the_names_of_the_others():
    problem = load_problem("oscillator1")
    versions = [Version(f"return params[{i}] * x", float(-i)) for i in range(3)]
    prompt = make_prompt(problem, versions, SearchSettings(context="columns"))
    shown = []
    while prompt is not None:
        shown.append(re.findall(r"def (equation_v\d)", prompt.text))
        prompt = prompt.shorten and prompt.shorten()
    assert shown == [
        ["equation_v0", "equation_v1", "equation_v2", "equation_v3"],
        ["equation_v1", "equation_v2", "equation_v3"],
        ["equation_v2", "equation_v3"],
        ["equation_v3"],
    ]


class Kept(list):
    def append(self, sample):
        super().append(sample)


def test_a_search_whose_prompts_outgrow_the_context_spends_its_budget(server):
    """Prompts of two equations are refused, those of one are answered."""
    problem = load_problem("oscillator1")
    asked_for = iter(range(1000))
    server.reply = lambda asked: (
        f"```python\ndef equation(x, v, params):\n    return params[0] * x ** {1 + next(asked_for) % 5}\n```"
    )
    server.refuse = lambda asked: (
        "This model's maximum context length is 512 tokens." if str(asked).count("```python") > 1 else None
    )
    archive = Kept()
    settings = SearchSettings(budget=24, islands=1, refine="off", begin_answer="none", lookahead=1)
    with Evaluator(problem, workers=1) as evaluator:
        proposer = ask(server)
        totals = Search(problem, proposer, evaluator, archive, settings).run()
    assert totals.samples == 24
    assert totals.failed_prompts == 0
    assert any(server.refuse(asked) for asked in bodies(server))


# ---- parts of a request


@pytest.mark.parametrize(
    "refusal",
    [
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported! Unexpected role 'system'",
    ],
)
def test_where_no_system_is_known_the_user_says_all(server, refusal, caplog):
    server.refuse = lambda asked: refusal if asked["messages"][0]["role"] == "system" else None
    proposer = ask(server)
    for _ in range(2):
        assert len(proposer.propose(CHAT, 2, 1)) == 2
    told = bodies(server)
    assert told[1]["messages"] == [{"role": "user", "content": "Be brief.\n\nWhich equation?"}]
    assert told[1]["n"] == 2
    assert len(told) == 3
    assert "system" in caplog.text


@pytest.mark.parametrize(
    ("settings", "kept", "dropped"),
    [
        ({"temperature": 0.8}, "temperature", "top_p"),
        ({"top_p": 0.5}, "top_p", "temperature"),
        ({"temperature": 0.8, "top_p": 0.5}, "temperature", "top_p"),
        ({}, "temperature", "top_p"),
    ],
)
def test_of_two_settings_that_exclude_each_other_the_users_own_is_kept(server, settings, kept, dropped):
    server.refuse = lambda asked: (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        if "temperature" in asked and "top_p" in asked
        else None
    )
    assert ask(server, **settings).propose(CHAT, 2, 1)
    last = bodies(server)[-1]
    assert last[kept] == settings.get(kept, ProposerConfig().temperature)
    assert dropped not in last


# ---- answers


def reasoned(answer, content, thoughts, reason):
    for choice in answer["choices"]:
        choice["message"] |= {"content": content, "reasoning_content": thoughts}
        choice["finish_reason"] = reason
    return json.dumps(answer).encode()


@pytest.mark.parametrize("content", ["", None])
def test_code_in_the_reasoning_is_read_where_the_answer_is_empty(server, content):
    server.send = lambda answer: reasoned(answer, content, f"I think.\n{CODE}", "stop")
    for completion in ask(server).propose(CHAT, 2, 1):
        found = read_completion(completion.text)
        assert isinstance(found, Body)
        assert found.text.strip() == "return params[0] * x + params[1]"


def test_an_answer_beside_reasoning_is_what_counts(server):
    server.send = lambda answer: reasoned(answer, BODY, CODE.replace("+", "-"), "stop")
    (completion,) = ask(server).propose(CHAT, 1, 1)
    assert completion.text == BODY


def test_reasoning_that_eats_all_tokens_is_said_once_with_the_flag_that_helps(server, caplog):
    server.send = lambda answer: reasoned(answer, None, "Let me think about it for a long time ...", "length")
    proposer = ask(server, max_tokens=99)
    with caplog.at_level(logging.WARNING):
        completions = proposer.propose(CHAT, 2, 1) + proposer.propose(CHAT, 2, 2)
    assert len(caplog.records) == 1
    assert "reasoning" in caplog.text
    assert "--max_tokens from 99" in caplog.text
    for completion in completions:
        assert completion.finish_reason == "length"
        assert "reasoning" in read_completion(completion.text).reason


def events(answer, pieces=7, usage=True):
    """The answer as a stream of server-sent events, the choices' pieces in turns."""
    lines = [": a comment that keeps the connection open"]
    for begin in range(0, 400, pieces):
        for choice in answer["choices"]:
            chat = "message" in choice
            text = (choice["message"]["content"] if chat else choice["text"])[begin : begin + pieces]
            said = {"delta": {"content": text}} if chat else {"text": text}
            if text:
                lines.append("data: " + json.dumps({"choices": [{"index": choice["index"], **said}]}))
    for choice in answer["choices"]:
        end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        lines.append("data: " + json.dumps({"choices": [end]}))
    if usage:
        lines.append("data: " + json.dumps({"choices": [], "usage": answer["usage"]}))
    return "\n\n".join([*lines, "data: [DONE]", ""]).encode()


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_streams_are_read(server, mode):
    server.send = events
    completions = ask(server, api_mode=mode).propose(CHAT, 3, 1)
    assert [completion.text for completion in completions] == [BODY] * 3
    assert sum(completion.tokens for completion in completions) == 21
    assert {completion.finish_reason for completion in completions} == {"stop"}
    assert len(server.requests) == 1


def test_a_stream_without_usage_has_guessed_tokens(server):
    server.send = lambda answer: events(answer, usage=False)
    (completion,) = ask(server).propose(CHAT, 1, 1)
    assert completion.tokens_estimated
    assert completion.tokens > 0


def test_a_stream_that_reports_an_error_is_a_failure_with_its_sentence(server):
    server.send = lambda answer: b'data: {"error": {"message": "the model fell over"}}\n\ndata: [DONE]\n\n'
    with pytest.raises(ProposerFailure, match="the model fell over"):
        ask(server).propose(CHAT, 1, 1)


def test_why_an_answer_ended_is_archived(server):
    problem = load_problem("oscillator1")
    server.send = lambda answer: reasoned(answer, CODE, "", "length")
    archive = Kept()
    settings = SearchSettings(budget=4, refine="off", begin_answer="none")
    with Evaluator(problem, workers=1) as evaluator:
        Search(problem, ask(server), evaluator, archive, settings).run()
    assert [sample.to_record()["finish_reason"] for sample in archive] == ["length"] * 4


@pytest.mark.parametrize(("limit", "samples"), [(1, 4), (28, 4), (29, 8), (0, 12)])
def test_a_run_ends_with_the_prompt_that_spends_its_tokens(server, limit, samples):
    """Seven tokens an answer, four answers a prompt."""
    problem = load_problem("oscillator1")
    archive = Kept()
    settings = SearchSettings(budget=12, refine="off", lookahead=1, max_tokens_total=limit)
    with Evaluator(problem, workers=1) as evaluator:
        Search(problem, ask(server), evaluator, archive, settings).run()
        resumed = Search(problem, ask(server), evaluator, Kept(), settings, earlier=archive)
        assert resumed.run().samples == samples
    assert len(archive) == samples
