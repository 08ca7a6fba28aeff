"""The reward function under threads, hostile answers and moved folders: always a score, always archived."""

import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grpo_problem import write_problem

from llmsr.archive import read_archive
from llmsr.grpo.answer_archive import next_number, set_number
from llmsr.grpo.plan import make_plan
from llmsr.grpo.reward_function import Evaluators, RewardFunction
from llmsr.grpo.run_record import load_run_problem, write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import load_problem
from llmsr.reward import COPY, FAILURES, LOWEST
from llmsr.sample import is_llm_sample

LAW = "    return params[0] * x + params[1] * z + params[2] * x**3\n"
ANSWERS = {
    "empty": "",
    "syntax": "    return params[0] * (x +\n",
    "unsupported": "    return np.gradient(x)\n",
    "constant": "    return params[0]\n",
    "ok": LAW,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    spec, data = write_problem(folder)
    config = GrpoConfig(
        problem_name="plane", spec_path=spec, data_dir=data, output_dir=str(folder / "run"), batch_size=2,
        rollout_n=3, workers=1,
    )  # fmt: skip
    plan = make_plan(config, cuda=False)
    write_run_files(plan, [load_problem("plane", spec, data)])
    set_number(plan.run_dir, 0)
    return plan.run_dir


@pytest.fixture
def run_dir(made, tmp_path):
    shutil.copytree(made, tmp_path / "moved")
    return tmp_path / "moved"


def info(**more):
    return {"problem": "plane", "index": 3, "split": "train", "versions": "{}", "shown": "[]"} | more


def test_every_kind_of_answer_gets_its_grade_and_the_same_keys(run_dir):
    with RewardFunction(run_dir) as function:
        scores = {
            kind: function.compute_score("llmsr/plane", text, "plane", info())
            for kind, text in ANSWERS.items()
        }
    for kind, score in scores.items():
        assert score["status"] == kind
        assert set(score) == set(scores["ok"])
        numbers = [value for name, value in score.items() if name != "status"]
        assert all(isinstance(value, float) and math.isfinite(value) for value in numbers)
    assert scores["ok"]["score"] > 0.9
    assert scores["empty"]["score"] == LOWEST < scores["syntax"]["score"] < scores["unsupported"]["score"] < 0


def test_nothing_is_lost_or_written_twice_under_threads(run_dir):
    texts = [f"    return params[0] * x**{i % 7 + 1} + {i} * z\n" for i in range(60)]
    with RewardFunction(run_dir, Evaluators(run_dir, 2)) as function, ThreadPoolExecutor(16) as threads:
        list(
            threads.map(
                lambda i: function.compute_score("", texts[i], "plane", info(step=i // 6 + 1)), range(60)
            )
        )
    samples = read_archive(run_dir)
    assert sorted(sample.completion for sample in samples) == sorted(texts)
    assert [sample.number for sample in samples] == list(range(1, 61))
    assert {sample.step for sample in samples} == set(range(1, 11))
    assert all(5 < sample.tokens < len(sample.completion) for sample in samples)


def test_two_processes_share_the_numbers_and_write_apart(run_dir):
    code = (
        "import sys; from llmsr.grpo.reward_function import Evaluators; "
        "from llmsr.grpo.reward_function import RewardFunction\n"
        "if __name__ == '__main__':\n"
        "    with RewardFunction(sys.argv[1], Evaluators(sys.argv[1], 1)) as f:\n"
        "        [f.compute_score('', '', 'plane', None) for _ in range(20)]\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(run_dir)]) for _ in range(2)]
    assert [process.wait(180) for process in running] == [0, 0]
    assert [sample.number for sample in read_archive(run_dir)] == list(range(1, 41))
    assert len(list((run_dir / "archive").glob("*.jsonl"))) == 2


def test_a_copy_of_a_shown_equation_earns_nothing_however_it_is_spelled(run_dir):
    with RewardFunction(run_dir) as function:
        function.compute_score("", LAW, "plane", info())
        known = read_archive(run_dir)[0].evaluation.canonical
        respelled = "    y = params[1] * x * x * x\n    return y + params[4] * z + x * params[7]\n"
        score = function.compute_score("", respelled, "plane", info(shown=json.dumps([known])))
    assert (score["score"], score["copy"], score["valid"]) == (COPY, 1.0, 1.0)


def changed(run_dir, **settings):
    record = json.loads((run_dir / "run.json").read_text())
    record["settings"] |= settings
    (run_dir / "run.json").write_text(json.dumps(record))
    return run_dir


def test_with_novelty_an_equation_pays_once_in_a_run_and_its_repeats_are_marked(run_dir):
    respelled = "    y = params[1] * x * x * x\n    return y + params[4] * z + x * params[7]\n"
    with RewardFunction(changed(run_dir, novelty=True)) as function:
        values = [
            function.compute_score("", text, "plane", info(index=i))["score"]
            for i, text in enumerate((LAW, respelled, "    return params[0] * z\n"))
        ]
    assert values[0] > 0.9
    assert values[1] == COPY < values[2]
    assert [sample.duplicate_of for sample in read_archive(run_dir)] == [None, 1, None]


def test_novelty_remembers_a_resumed_run_but_not_the_steps_that_are_trained_again(run_dir):
    for finished, wanted in ((1, COPY), (0, None)):
        folder = shutil.copytree(run_dir, run_dir.with_name(f"finished{finished}"))
        with RewardFunction(changed(folder, novelty=True)) as function:
            function.compute_score("", LAW, "plane", info())
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"finished_steps": finished}))
        set_number(folder, 1)
        with RewardFunction(folder) as function:
            value = function.compute_score("", LAW, "plane", info())["score"]
        assert (value == COPY) if wanted == COPY else (value > 0.9)


def test_a_record_is_refined_beside_the_answers_and_a_resumed_run_does_not_refine_it_again(run_dir):
    record = "    return params[0] * x + params[1] * z\n"
    with RewardFunction(changed(run_dir, refine="run", refine_fits=8)) as function:
        function.compute_score("", record, "plane", info())
        function.compute_score("", "    return params[0] * z\n", "plane", info())
    samples = read_archive(run_dir)
    refined = [s for s in samples if s.proposer == "refine"]
    assert [s.number for s in samples if is_llm_sample(s)] == [1, 2]
    assert {s.number for s in refined} == {1}
    assert 0 < len(refined) <= 8
    assert min(s.evaluation.nmse["train"] for s in refined if s.evaluation.ok) < 1e-10
    changes = json.loads((run_dir / "run.json").read_text()) | {"finished_steps": 1}
    (run_dir / "run.json").write_text(json.dumps(changes))
    set_number(run_dir, 2)
    with RewardFunction(run_dir) as function:
        function.compute_score("", record, "plane", info())
    assert [s for s in read_archive(run_dir) if s.proposer == "refine"] == refined


def test_answers_that_are_drawn_again_are_not_refined_twice(run_dir, monkeypatch):
    monkeypatch.setattr("llmsr.search.refining.at_floor", lambda *_: False)  # the law ends it
    texts = [f"    return params[0] * {form}\n" for form in ("np.exp(-x * x)", "np.cos(z)", "z", "x")]

    def score(answers, **where):
        with RewardFunction(changed(run_dir, refine="run", refine_fits=3), **where) as function:
            for text in answers:
                function.compute_score("", text, "plane", info())

    score(texts)
    whole = [(s.number, s.proposer, s.completion, s.step) for s in read_archive(run_dir)]
    assert sum(kind == "refine" for _, kind, _, _ in whole) > 6
    (refined,) = (run_dir / "archive").glob("refine-*")
    lines = refined.read_bytes().splitlines(keepends=True)
    for kept in (len(lines), 5, 3, 0):  # killed in the midst of the step, after so many refinements
        refined.write_bytes(b"".join(lines[:kept]))
        set_number(run_dir, 4)
        score(texts, drawn_again=True)
        again = [(s.number, s.proposer, s.completion, s.step) for s in read_archive(run_dir)]
        assert again == whole
        for path in (run_dir / "archive").glob("refine-*"):
            if path != refined:
                path.unlink()


def test_where_a_prompt_came_from_is_archived(run_dir):
    with RewardFunction(run_dir) as function:
        function.compute_score("", LAW, "plane", info(island=4, parents="[2, 9]"))
        function.compute_score("", LAW, "plane", info(island=-1, parents="[]"))
    first, second = read_archive(run_dir)
    assert (first.island, first.parents) == (4, (2, 9))
    assert (second.island, second.parents) == (None, ())


def test_a_call_of_a_shown_version_is_understood(run_dir):
    versions = json.dumps({"equation_v0": "    return params[0] * x + params[1] * z"})
    answer = "    return equation_v0(x, z, params) + params[2] * x**3\n"
    with RewardFunction(run_dir) as function:
        assert function.compute_score("", answer, "plane", info(versions=versions))["score"] > 0.9


@pytest.mark.parametrize(
    ("answer", "extra"),
    [
        (None, info()),
        (b"\xff", info()),
        ("\x00" * 1000, info()),
        (LAW, info(versions="{not json")),
        (LAW, info(shown="{not json")),
        (LAW, info(problem="no such problem")),
        ("(" * 100_000, info()),
        ("    return " + "x+" * 50_000 + "x", info()),
        ("    while True: pass\n    return x", info()),
    ],
)
def test_whatever_comes_there_is_a_failing_score_and_a_record(run_dir, answer, extra):
    with RewardFunction(run_dir) as function:
        score = function.compute_score("", answer, "plane", extra)
    assert score["score"] < 0
    assert score["valid"] == 0
    (sample,) = read_archive(run_dir)
    assert sample.evaluation.status != "ok"
    assert sample.evaluation.reason


def test_an_answer_that_waits_too_long_is_a_timeout(run_dir):
    with RewardFunction(run_dir, answer_seconds=1e-4) as function:
        score = function.compute_score("", LAW, "plane", info())
    assert score["status"] == "timeout"
    assert score["score"] == FAILURES["timeout"]


def test_validation_answers_are_archived_apart_and_move_no_step(run_dir):
    with RewardFunction(run_dir) as function:
        function.compute_score("", "", "plane", info(split="validation"))
        function.compute_score("", "", "plane", info())
    validation, training = read_archive(run_dir)
    assert (validation.proposer, validation.step) == ("validation", None)
    assert (training.proposer, training.step) == ("policy", 1)


def test_the_step_is_the_trainers_own(run_dir):
    with RewardFunction(run_dir) as function:
        # VERL tells after how many steps the weights were those that drew the answer
        for more in ({"step": 7}, {"min_global_steps": 4, "max_global_steps": 4}):
            function.compute_score("", LAW, "plane", info(**more))
        function.compute_score("", LAW, "plane", info(split="validation", min_global_steps=5))
    assert [sample.step for sample in read_archive(run_dir)] == [7, 5, None]


def test_an_answer_in_the_prompts_names_is_read_in_the_columns(run_dir):
    names = json.dumps({"x": "x1", "z": "x2"})
    with RewardFunction(run_dir) as function:
        answer = "    return params[0] * x1 + params[1] * x2 + params[2] * x1**3\n"
        assert function.compute_score("", answer, "plane", info(names=names))["score"] > 0.9
    assert read_archive(run_dir)[0].completion == LAW


def test_the_generated_file_works_from_a_moved_folder_without_logging_or_path(run_dir, tmp_path):
    # as a Ray worker finds it: another working directory, the package not on the path, no logging set up
    code = (
        "import importlib.util, sys, logging\n"
        "if __name__ == '__main__':\n"
        "    spec = importlib.util.spec_from_file_location('anything', sys.argv[1])\n"
        "    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "    assert not logging.getLogger().handlers\n"
        "    print(module.compute_score('llmsr/plane', sys.argv[2], 'plane', None)['score'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LLMSR_RUN_DIR")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, str(run_dir / "llmsr_reward.py"), LAW],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9
    assert len(read_archive(run_dir)) == 1


def test_the_generated_file_never_raises_even_without_its_run(tmp_path, run_dir):
    shutil.copy(run_dir / "llmsr_reward.py", tmp_path / "llmsr_reward.py")
    spec = importlib.util.spec_from_file_location("alone", tmp_path / "llmsr_reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.compute_score("", LAW, "plane", None)["score"] == LOWEST


def test_rewards_do_not_depend_on_logging(run_dir):
    logging.disable(logging.CRITICAL)
    try:
        with RewardFunction(run_dir) as function:
            assert function.compute_score("", LAW, "plane", info())["score"] > 0.9
    finally:
        logging.disable(logging.NOTSET)


def test_the_problem_travels_with_the_run(run_dir):
    problem = load_run_problem(run_dir, "plane")
    assert set(problem.splits) == {"train", "test_id", "test_ood"}


def test_numbers_go_on_where_they_were_set(tmp_path):
    set_number(tmp_path, 100)
    assert [next_number(tmp_path), next_number(tmp_path)] == [101, 102]


def test_answers_whose_trainer_tells_no_tokens_are_counted_by_the_models_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    from llmsr.grpo.plan import EMBEDDED
    from llmsr.grpo.reward_function import AnswerTokens

    text = "    return params[0] * np.sin(x) + params[1]\n"
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    assert AnswerTokens(str(EMBEDDED))(text) == len(tokenizer.tokenize(text))
    assert AnswerTokens(str(tmp_path))(text) == len(text) // 4 + 1
