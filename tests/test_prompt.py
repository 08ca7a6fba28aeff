"""The form for chat models: what prompts share first, the answer begun, one form in search and training."""

import json

import numpy as np
import pytest

from llmsr.cli import main
from llmsr.completion import read_completion
from llmsr.grpo import dataset
from llmsr.grpo.dataset import PromptForm, row_chat
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.split import Split
from llmsr.prompt import Version, cut_at_stops, make_prompt, preface_end
from llmsr.search.population import Member
from llmsr.settings import PromptSettings

WORSE = Version("return params[0] * x", -0.02, 1, (1.0,) * 10, 0.2)
BETTER = Version("a = x**3\nreturn params[0] * a", -0.001, 2, (3.0,) * 10, 0.01)


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1")


def asked(problem, *versions, **settings):
    return make_prompt(problem, versions, PromptSettings(**settings)).form(chat=True)


def question(chat):
    return chat.messages[-1]["content"]


def test_a_chat_tells_task_columns_errors_and_asks_last(problem):
    text = question(asked(problem, WORSE, BETTER, context="columns"))
    wanted = (
        "acceleration of a nonlinear", "- x (position of the oscillator): ", "up to 10 constants",
        "Error 2.00e-01:", "return params[0] * x\n", "Error 1.00e-02:", "a = x**3\n", "Write one equation",
    )  # fmt: skip
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)
    assert "MAX_NPARAMS" not in text
    assert "import" not in text


def test_what_prompts_share_comes_first(problem):
    first, second = (question(asked(problem, version)) for version in (WORSE, BETTER))
    shared = preface_end(first)
    assert first[:shared] == second[:shared]
    assert shared > 0.5 * len(first)
    assert first[shared:].lstrip().startswith("Earlier equations")


@pytest.mark.parametrize(
    ("form", "said", "body"),
    [
        ("return", " params[0] * x * v\n```\nIt fits.", "return params[0] * x * v"),
        (
            "header",
            "    a = x * v\n    return params[0] * a\n```\nIt fits.",
            "a = x * v\nreturn params[0] * a",
        ),
        ("none", "```python\ndef equation(x, v, params):\n    return x * v\n```\nIt fits.", "return x * v"),
    ],
)
def test_an_answer_goes_on_behind_what_is_begun_and_ends_at_a_stop(problem, form, said, body):
    chat = asked(problem, WORSE, begin_answer=form)
    whole = chat.begun + cut_at_stops(said, chat.stops)
    assert "It fits" not in whole
    assert read_completion(whole).text.split() == body.split()


def test_thinking_is_neither_begun_nor_cut(problem):
    chat = asked(problem, WORSE, thinking="on", thinking_tokens=300)
    assert (chat.begun, chat.stops, chat.thinking) == ("", (), 300)
    assert question(chat).endswith("nothing else.")
    assert PromptSettings(thinking="on", thinking_tokens=300).answer_tokens == 428


def test_notes_speak_of_the_equations_by_number(problem):
    text = question(asked(problem, WORSE, BETTER, context="constants,rows"))
    assert "Equation 2, error 1.00e-02:" in text
    assert "- equation 2 fitted: params[0] = 3" in text
    assert "some rows of the data: x, v, a\n" in text[: preface_end(text)]


def test_a_spec_of_another_score_shows_scores():
    spec = (
        '"""Find y.\n"""\nimport numpy as np\nMAX_NPARAMS = 3\nPRAMS_INIT = [1.0] * MAX_NPARAMS\n'
        "@evaluate.run\ndef evaluate(data: dict) -> float:\n    return 1.0\n"
        "@equation.evolve\ndef equation(x: np.ndarray, params: np.ndarray) -> np.ndarray:\n    return x\n"
    )
    split = Split(np.ones((4, 1)), np.arange(4.0))
    text = question(asked(Problem("own", parse_spec(spec), "y", {"train": split}), WORSE))
    assert "scores (higher is better)" in text
    assert "Score -0.02:" in text
    assert "holds up to 3 constants" in text


def test_the_verb_prints_what_a_run_sends(problem, capsys):
    assert main(["prompt", "--form", "chat", "--context", "none"]) == 0
    seed = Version(problem.spec.seed_body, 0.0)
    shown = capsys.readouterr().out
    chat = asked(problem, seed, context="none")
    assert chat.messages[0]["content"] in shown
    assert question(chat)[: preface_end(question(chat))] in shown
    assert shown.endswith(chat.begun + "\n")


def test_search_and_training_ask_the_same(problem):
    member = Member(1, WORSE.body, "c", WORSE.score, 0.2, 2, (1.0,) * 10)
    settings = PromptSettings()
    chat = PromptForm(settings).of(problem, [member])
    assert chat == make_prompt(problem, [member.version()], settings).form(chat=True)
    row = dataset.prompt_row(problem, chat, [member], 0, "train")
    assert row_chat(row) == chat
    assert json.loads(row["extra_info"]["stops"]) == ["\n"]
