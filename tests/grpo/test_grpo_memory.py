"""Memory in the prompt: what the run found is shown, anew at each step, the same for the same archive."""

import json
from dataclasses import replace

import pytest
from grpo_problem import write_problem

from llmsr.archive import Archive, read_archive
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo.dataset import PromptForm, memory_seeds
from llmsr.grpo.memory import LiveMemory
from llmsr.grpo.plan import make_plan
from llmsr.grpo.run_record import write_run_files, write_seeds
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import load_problem
from llmsr.sample import Sample

FORMS = (
    "x",
    "x + params[1] * z",
    "x + params[1] * x**3",
    "x + params[1] * z + params[2] * x**3",
    "np.sin(z)",
)
BODIES = [f"    return params[0] * {form}\n" for form in FORMS]
MEMORIES = ["islands", "puct", "top"]


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    spec, data = write_problem(tmp_path_factory.mktemp("problem"))
    return load_problem("plane", spec, data), spec, data


@pytest.fixture(scope="module")
def evaluated(problem):
    with Evaluator(problem[0], workers=1) as evaluator:
        seeds = memory_seeds(evaluator, None)
        return seeds, [evaluator.evaluate(body) for body in BODIES]


@pytest.fixture
def made(problem, evaluated, tmp_path):
    """A run directory for a memory, and a function that archives answers to prompts."""

    def make(memory, finished=0, name="run"):
        _, spec, data = problem
        config = GrpoConfig(
            problem_name="plane", spec_path=spec, data_dir=data, output_dir=str(tmp_path / name),
            memory=memory, batch_size=2, rollout_n=2, seed=3,
        )  # fmt: skip
        plan = make_plan(config, cuda=False)
        write_run_files(plan, [problem[0]], finished=finished)
        write_seeds(plan.run_dir, {"plane": evaluated[0]})
        return plan.run_dir

    return make


def answer(run_dir, evaluation, row, step):
    number = len(read_archive(run_dir)) + 1
    info = row["extra_info"]
    with Archive(run_dir, "reward") as archive:
        archive.append(
            Sample(
                number,
                evaluation.body,
                evaluation,
                prompt=info["index"],
                step=step,
                problem="plane",
                proposer="policy",
                island=info["island"] if info["island"] >= 0 else None,
            )
        )


ASKED = {"extra_info": {"problem": "plane"}}


def course(run_dir, evaluations, steps, first=1, form=None):
    """Rows of some steps of two prompts with two answers each, the answers taken in turn."""
    memory = LiveMemory(run_dir, form or PromptForm(chat=False))
    rows = []
    for step in range(first, first + steps):
        made = [memory.row(ASKED, (step - 1) * 2 + i) for i in range(2)]
        rows += made
        for place in range(4):
            answer(run_dir, evaluations[(step + place) % len(evaluations)], made[place // 2], step)
    return rows


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_first_prompts_show_the_specs_own_equation_and_later_ones_what_was_found(made, evaluated, memory):
    rows = course(made(memory), evaluated[1], 6)
    first, last = (json.loads(row["extra_info"]["parents"]) for row in (rows[0], rows[-1]))
    assert first == [0]
    assert any(last)
    canonical = {e.canonical for e in evaluated[1]} | {m.canonical for m in evaluated[0]}
    for row in rows:
        info = row["extra_info"]
        assert set(json.loads(info["shown"])) <= canonical
        assert all(
            body.strip() in row["prompt"][0]["content"] for body in json.loads(info["versions"]).values()
        )
        errors = json.loads(info["shown_nmse"])
        assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_resumed_run_is_shown_what_an_uninterrupted_one_is(made, evaluated, memory):
    whole = course(made(memory, name="whole"), evaluated[1], 6)
    parts = made(memory, name="parts")
    before = course(parts, evaluated[1], 3)
    make_finished(parts, 3)
    assert before + course(parts, evaluated[1], 3, first=4) == whole


def make_finished(run_dir, steps):
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(record | {"finished_steps": steps}))


def test_answers_of_steps_that_no_checkpoint_holds_do_not_change_what_is_shown(made, evaluated):
    run_dir = made("puct")
    rows = course(run_dir, evaluated[1], 2)
    make_finished(run_dir, 1)
    assert course(run_dir, evaluated[1], 1, first=2) == rows[2:]


@pytest.mark.parametrize("memory", MEMORIES)
def test_answers_of_such_steps_are_shown_once_they_were_drawn_again(made, evaluated, memory):
    run_dir = made(memory)
    rows = course(run_dir, evaluated[1], 3)
    samples = read_archive(run_dir)
    lost = {step: [s for s in samples if s.step == step] for step in (2, 3)}
    (run_dir / "archive" / "reward.jsonl").unlink()
    with Archive(run_dir, "reward") as archive:  # killed in the midst of step 3
        for sample in samples[:-2]:
            archive.append(sample)
    make_finished(run_dir, 1)
    resumed = LiveMemory(run_dir, PromptForm(chat=False))
    again = [resumed.row(ASKED, number) for number in (2, 3)]
    resumed.release(lost[2])
    again += [resumed.row(ASKED, number) for number in (4, 5)]
    assert again == rows[2:]
    resumed.release(lost[3][:-2])
    with Archive(run_dir, "reward-resumed") as archive:
        for sample in lost[3][-2:]:
            archive.append(sample)
    make_finished(run_dir, 3)
    whole = LiveMemory(run_dir, PromptForm(chat=False))
    assert [resumed.row(ASKED, n) for n in range(6, 12)] == [whole.row(ASKED, n) for n in range(6, 12)]


def test_a_prompt_that_is_too_long_leaves_the_longest_version_out(made, evaluated):
    def versions(chat):
        return chat.messages[-1]["content"].count("def equation_v")

    run_dir = made("top")
    rows = course(run_dir, evaluated[1], 4, form=PromptForm(chat=False, tokens=versions, max_tokens=2))
    assert {len(json.loads(row["extra_info"]["versions"])) for row in rows} == {1}
    bare = course(
        made("top", name="bare"), evaluated[1], 1, form=PromptForm(chat=False, tokens=versions, max_tokens=0)
    )
    assert json.loads(bare[0]["extra_info"]["versions"]) == {}


def test_answers_of_validation_and_of_other_problems_are_not_shown(made, evaluated):
    run_dir = made("top")
    memory = LiveMemory(run_dir, PromptForm(chat=False))
    row = memory.row(ASKED, 0)
    for change in ({"proposer": "validation", "step": None}, {"problem": "other"}):
        with Archive(run_dir, "other") as archive:
            sample = Sample(9, "", evaluated[1][3], step=1, problem="plane", proposer="policy")
            archive.append(replace(sample, **change))
    assert json.loads(memory.row(ASKED, 1)["extra_info"]["shown"]) == json.loads(row["extra_info"]["shown"])


def test_the_best_refinement_of_an_answer_is_shown_if_it_may_be(made, evaluated):
    poor, law = evaluated[1][0], evaluated[1][3]
    for shown in (True, False):
        run_dir = made("top", name=f"shown{shown}")
        record = json.loads((run_dir / "run.json").read_text())
        record["settings"] |= {"refine": "run" if shown else "off"}
        (run_dir / "run.json").write_text(json.dumps(record))
        memory = LiveMemory(run_dir, PromptForm(chat=False))
        answer(run_dir, poor, memory.row(ASKED, 0), 1)
        with Archive(run_dir, "refine") as archive:
            archive.append(replace(read_archive(run_dir)[0], evaluation=law, proposer="refine"))
        later = [json.loads(memory.row(ASKED, i)["extra_info"]["shown"]) for i in range(1, 20)]
        assert any(law.canonical in forms for forms in later) is shown


def test_a_warm_start_begins_with_the_best_of_an_earlier_run_fitted_again(problem, made, evaluated, tmp_path):
    earlier = made("none", name="earlier")
    for evaluation in evaluated[1]:
        answer(earlier, replace(evaluation, score=evaluation.score, params=(9.0,) * 10), row_of(0), 1)
    with Evaluator(problem[0], workers=1) as evaluator:
        members = memory_seeds(evaluator, str(earlier))
        assert {e.canonical for e in evaluated[1]} <= {member.canonical for member in members}
        assert min(member.nmse for member in members) < 1e-20
        assert all(member.sample == 0 for member in members)
        with pytest.raises(UserError, match="archive is missing"):
            memory_seeds(evaluator, str(tmp_path / "nowhere"))
        (tmp_path / "empty" / "archive").mkdir(parents=True)
        with pytest.raises(UserError, match="can be used"):
            memory_seeds(evaluator, str(tmp_path / "empty"))


def row_of(number):
    return {"extra_info": {"index": number, "island": -1}}
