"""Several models in one run: the better one is asked more, resumed runs draw the same, limits end runs."""

import json

import numpy as np
import pytest
from fake_server import FakeServer

from llmsr.archive import read_archive
from llmsr.cli import main
from llmsr.errors import UserError
from llmsr.proposers.choice import Bandit, make_bandit
from llmsr.proposers.proposer import Completion
from llmsr.run_directory import without_secrets
from llmsr.settings import ProposerConfig

CLEARED = ("seconds", "elapsed", "fit_seconds", "cpu_seconds", "evaluations")


class Named:
    parallel_prompts = 1

    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize(
    ("prices", "tokens", "best"), [("", (10, 40), "a"), ("a=0/9,b=0/1", (10, 40), "b"), ("", (40, 10), "b")]
)
def test_who_improves_for_less_is_asked_more(prices, tokens, best):
    bandit, chance = Bandit([Named("a"), Named("b")], prices), np.random.default_rng(0)
    spent, asked = dict(zip("ab", tokens, strict=True)), []
    for number in range(600):
        asked.append(bandit.chosen(np.random.default_rng([1, number])))
        completion = Completion("", spent[asked[-1]], "stop")
        cost = bandit.cost(asked[-1], completion)
        bandit.tell(asked[-1], completion.tokens, cost, chance.random() < 0.2)
    assert 0.6 < asked[100:].count(best) / 500 < 0.98, "asked more, and never alone"


def test_one_that_begins_to_find_is_found():
    bandit, chance, asked = Bandit([Named("a"), Named("b")]), np.random.default_rng(0), []
    for number in range(2000):
        asked.append(bandit.chosen(np.random.default_rng(number)))
        rate = {"a": 0.3, "b": 0.02} if number < 1000 else {"a": 0.02, "b": 0.3}
        bandit.tell(asked[-1], 10, 0.0, chance.random() < rate[asked[-1]])
    assert asked[200:1000].count("a") > 500 < asked[1300:].count("b")


@pytest.fixture
def server():
    with FakeServer(models=("dear", "fake-model")) as running:
        running.text = "    return params[0] * x + params[1] * np.tanh(v)\n"
        yield running


def arguments(folder, server, *more):
    several = f"grammar,openai:dear@{server.base},openai:fake-model@{server.base}"
    return ["--problem_name", "oscillator1", "--proposer", several, "--log_path", str(folder), "--workers",
            "1", "--refine", "off", "--stop_at_floor", "false", "--sample_files", "false", *more]  # fmt: skip


def records(folder):
    told = [sample.to_record() for sample in read_archive(folder)]
    return [{k: v for k, v in record.items() if k not in CLEARED} for record in told]


def test_a_resumed_run_of_several_models_equals_an_uninterrupted_one(tmp_path, server, capsys):
    assert main(arguments(tmp_path / "whole", server, "--budget", "60", "--prices", "dear=5/20")) == 0
    assert "openai:dear" in capsys.readouterr().out
    assert main(arguments(tmp_path / "cut", server, "--budget", "24", "--prices", "dear=5/20")) == 0
    lines = (tmp_path / "whole" / "archive" / "search.jsonl").read_text().splitlines(keepends=True)
    for kept in (2, 19, 43):
        (tmp_path / "cut" / "archive" / "search.jsonl").write_text("".join(lines[:kept]))
        again = arguments(tmp_path / "cut", server, "--budget", "60", "--prices", "dear=5/20", "--resume")
        assert main(again) == 0
        assert records(tmp_path / "cut") == records(tmp_path / "whole")
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    told = {one["proposer"]: one for one in result["proposers"]}
    assert set(told) == {"grammar", "openai:dear", "openai:fake-model"}
    assert sum(one["samples"] for one in told.values()) == 60
    dear = told["openai:dear"]
    assert result["cost"] == pytest.approx((5 * dear["prompt_tokens"] + 20 * dear["tokens"]) / 1e6)
    assert dear["cost"] > 0 == told["grammar"]["cost"]
    capsys.readouterr()
    assert main(["runs", str(tmp_path)]) == 0
    assert f"openai:dear {dear['samples']} samples {dear['tokens']} tokens" in capsys.readouterr().out
    assert "prompt tokens" in (tmp_path / "whole" / "report.html").read_text()


def test_money_ends_a_run_that_can_go_on(tmp_path, server, capsys):
    limits = ["--budget", "60", "--prices", "dear=5/20,fake-model=5/20,grammar=0/1", "--lookahead", "1"]
    assert main(arguments(tmp_path / "run", server, *limits, "--max_cost", "0.002")) == 0
    assert "ended by --max_cost 0.002" in capsys.readouterr().err
    ended = read_archive(tmp_path / "run")
    assert 0.002 <= sum(sample.cost for sample in ended) < 0.003
    assert len(ended) < 60
    more = arguments(tmp_path / "run", server, *limits, "--max_cost", "0.004", "--resume")
    assert main(more) == 0
    assert len(read_archive(tmp_path / "run")) > len(ended)


def test_others_go_on_where_one_fails(tmp_path, server):
    server.always = "500"
    argv = arguments(tmp_path / "run", server, "--budget", "40", "--retries", "0", "--api_mode", "completion")
    assert main(argv) == 0
    assert {sample.proposer for sample in read_archive(tmp_path / "run")} == {"grammar"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proposer": "grammar,grammar"}, "one model twice"),
        ({"proposer": "grammer"}, "did you mean grammar"),
        ({"proposer": ""}, "--proposer knows"),
        ({"proposer": "grammar:big"}, "takes no model"),
        ({"proposer": "grammar", "prices": "gpt=1/2"}, "not asked; there are grammar"),
        ({"proposer": "grammar", "prices": "grammar=1"}, "no price"),
        ({"proposer": "grammar", "prices": "grammar=-1/2"}, "no price"),
        ({"proposer": "grammar", "prices": "grammar=nan/2"}, "no price"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        make_bandit(ProposerConfig(**settings))


def test_money_needs_prices_and_a_list_keeps_its_secrets(tmp_path, capsys):
    argv = ["--proposer", "grammar", "--max_cost", "1", "--log_path", str(tmp_path / "run")]
    assert main(argv) == 2
    assert "--max_cost needs --prices" in capsys.readouterr().err
    kept = without_secrets(
        {"proposer": "openai:m@http://me:pw@host:1/v1?key=abc,openai:n@http://b/v1,grammar"}
    )
    assert kept == {"proposer": "openai:m@http://host:1/v1,openai:n@http://b/v1,grammar"}
