"""The files of a training run: those of a search, from an archive that other processes write."""

import json
from dataclasses import replace

import pytest
from grpo_problem import SPEC, write_problem

from llmsr.archive import Archive, ArchiveTail
from llmsr.cli import main
from llmsr.evaluator import Evaluator
from llmsr.grpo.plan import make_plan
from llmsr.grpo.run_record import write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.training import Findings
from llmsr.problem.loading import load_problem
from llmsr.sample import Sample

FILES = ("result.json", "equations.csv", "best_equation.py", "best_equation.tex", "report.html", "curve.csv")
BODIES = ["return params[0]*x", "return params[0]*x + params[1]*z", "return x *", "return params[0]*x*z + z",
          "return params[0]*x + params[1]*z + params[2]*x**3", "return params[0]*z"]  # fmt: skip


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """What the evaluator says to BODIES, and where the problem lies."""
    spec, data = write_problem(tmp_path_factory.mktemp("problem"))
    with Evaluator(load_problem("plane", spec, data), workers=1) as evaluator:
        return spec, data, [evaluator.evaluate(body) for body in BODIES]


def samples(evaluations, problem="", first=1):
    """Two steps of three answers."""
    return [
        Sample(first + i, BODIES[i], evaluation, proposer="policy", tokens=9, elapsed=float(first + i),
               step=i // 3 + 1, reward=float(evaluation.ok), problem=problem)
        for i, evaluation in enumerate(evaluations)
    ]  # fmt: skip


def begin(folder, spec, data, name="plane"):
    """The files of a run that has not begun."""
    config = GrpoConfig(
        problem_name=name, spec_path=spec, data_dir=data, trainer="local", output_dir=str(folder)
    )
    plan = make_plan(config, cuda=False)
    write_run_files(plan, [load_problem(one, spec, data) for one in plan.config.problems])
    return folder


def write(folder, *writers):
    for name, found in writers:
        with Archive(folder, name) as archive:
            for sample in found:
                archive.append(sample)


def test_a_training_run_leaves_what_a_search_leaves(tmp_path, evaluations):
    spec, data, found = evaluations
    run = begin(tmp_path, spec, data)
    findings = Findings(run)
    own = samples(found)
    write(run, ("reward-a-1", own[1::2]), ("reward-b-2", own[::2]))
    watched = Sample(7, BODIES[0], found[0], proposer="validation", kind="validation")
    write(run, ("reward-a-3", [watched]))
    result = findings.finish(complete=True)
    for name in FILES:
        assert (run / name).stat().st_size > 50, name
    assert json.loads((run / "result.json").read_text()) == result
    assert (result["samples"], result["valid"], result["tokens"]) == (6, 5, 54)
    assert result["best"]["sample"] == 5
    assert [point["reward"] for point in result["curve"]] == pytest.approx([2 / 3, 1.0])
    assert [point["distinct"] for point in result["curve"]] == pytest.approx([2 / 3, 1.0])
    before = {name: (run / name).read_text() for name in FILES}
    assert main(["report", str(run)]) == 0
    assert before == {name: (run / name).read_text() for name in FILES}


def test_a_refinement_counts_for_the_best_of_its_step_and_is_no_answer(tmp_path, evaluations):
    spec, data, found = evaluations
    run = begin(tmp_path, spec, data)
    own = samples(found)[:4]
    refined = replace(
        own[1], evaluation=found[4], proposer="refine", kind="refinement", parents=(2,), reward=None
    )
    write(run, ("reward-a-1", own), ("refine-a-1", [refined]))
    result = Findings(run).finish(complete=True)
    assert (result["samples"], result["refinements"]) == (4, 1)
    assert result["best"]["proposer"] == "refine"
    first, second = result["curve"]
    assert first["best_nmse_train"] == second["best_nmse_train"] == found[4].nmse["train"]
    assert first["reward"] == pytest.approx(2 / 3)


def test_files_are_refreshed_while_other_processes_write(tmp_path, evaluations, monkeypatch):
    monkeypatch.setattr("llmsr.report.runs.COST_SHARE", 1e9)
    spec, data, found = evaluations
    run = begin(tmp_path, spec, data)
    findings, tail = Findings(run, every_seconds=0.0), ArchiveTail(run)
    own = samples(found)
    counts = []
    for part in (own[:2], own[2:5]):
        write(run, ("reward-a-1", part))
        findings.take(tail.new())
        result = json.loads((run / "result.json").read_text())
        assert not result["finished"]
        counts.append(result["samples"])
    assert counts == [2, 5]


def test_a_file_that_cannot_be_written_does_not_end_the_training(tmp_path, evaluations, capsys):
    spec, data, found = evaluations
    run = begin(tmp_path, spec, data)
    findings = Findings(run, every_seconds=0.0)
    write(run, ("reward-a-1", samples(found)))
    (run / "result.json").mkdir()
    findings.take(ArchiveTail(run).new())
    assert "could not be refreshed: cannot write" in capsys.readouterr().err


def test_answers_to_several_problems_are_kept_apart(tmp_path, evaluations, capsys):
    _, _, found = evaluations
    for name in ("plane", "slope"):
        write_problem(tmp_path, name)
    (tmp_path / "specs").mkdir()
    for name in ("plane", "slope"):
        (tmp_path / "specs" / f"specification_{name}_numpy.txt").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run = begin(tmp_path / "run", None, "data", "plane,slope")
    findings = Findings(run, every_seconds=0.0)
    write(run, ("reward-a-1", [*samples(found[:3], "slope"), *samples(found[3:], "plane", first=4)]))
    findings.take(ArchiveTail(run).new())
    assert not json.loads((run / "result.json").read_text())["finished"]
    whole = findings.finish(complete=True)
    assert [result["problem"] for result in whole["problems"]] == ["plane", "slope"]
    assert [result["samples"] for result in whole["problems"]] == [3, 3]
    assert [result["valid"] for result in whole["problems"]] == [3, 2]
    assert whole["samples"] == 6
    assert (run / "results" / "slope" / "best_equation.tex").is_file()
    page = (run / "report.html").read_text()
    assert 'href="results/plane/report.html"' in page
    assert main(["show", str(run)]) == 0
    assert capsys.readouterr().out.count("best equation (sample") == 2
    assert main(["runs", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
