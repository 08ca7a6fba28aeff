"""Equations to begin from: read as people write them, scored, shown, refined; a resumed run is the same."""

import json

import numpy as np
import pytest
from replays import completions, write_replay

from llmsr import SymbolicRegressor
from llmsr.archive import SearchArchive, read_archive
from llmsr.cli import main
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.holes import guess_bodies, guess_lines
from llmsr.problem.loading import load_problem
from llmsr.problem.spec import read_body
from llmsr.proposers.proposer import Replay
from llmsr.sample import GUESS, REFINEMENT
from llmsr.search.search import Search
from llmsr.settings import SearchSettings

LAW = "A*sin(x) - 0.5*v^3 - B*x**3 - x*v/2 - x*cos(x)"


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1")


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("a*exp(-b*x) + a", "return params[0] * exp(-params[1] * x) + params[0]"),
        ("a = 2*x + 0.5*v", "return 2 * x + params[0] * v"),
        ("params[3]*x + 0.5", "return params[3]*x + 0.5"),
        ("return v - np.pi", "return v - np.pi"),
        ("v^2 + pi*x", "return v ** 2 + pi * x"),
    ],
)
def test_a_guess_is_read_as_people_write_it(problem, line, body):
    assert guess_bodies(problem, line) == {line: body}


def test_a_file_holds_a_guess_a_line(tmp_path):
    path = tmp_path / "guesses.txt"
    path.write_text("# from theory\na*x\n\n b*v**2 \n")
    assert guess_lines(str(path)) == ("a*x", "b*v**2")
    assert guess_lines("a*x; b*v") == ("a*x", "b*v")
    assert guess_lines("") == ()


@pytest.mark.parametrize("line", ["sin(", "open('x')", "x.y.z", "x if v else", "(" * 5000 + "x", "nothing()"])
def test_a_guess_that_cannot_be_read_is_one_sentence_before_anything_starts(line, tmp_path, capsys, problem):
    with pytest.raises(UserError, match=r"the guess .* cannot be read"):
        guess_bodies(problem, line)
    assert main(["run", "--guess", line, "--log_path", str(tmp_path / "run")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_guesses_are_scored_shown_and_refined(tmp_path, capsys):
    run = [
        "run",
        "--budget",
        "4",
        "--proposer",
        "grammar",
        "--structure_seconds",
        "0",
        "--log_path",
        str(tmp_path),
    ]
    assert main([*run, "--guess", f"{LAW}; c*log(v)"]) == 0
    shown = capsys.readouterr().out
    assert f"guess {LAW}: NMSE" in shown
    assert "guess c*log(v): the equation is not finite" in shown
    samples = read_archive(tmp_path)
    first, second = (s for s in samples if s.kind == GUESS)
    assert (first.id, second.id, second.evaluation.status) == ("0.1", "0.2", "nonfinite")
    assert first.evaluation.nmse["train"] < 1e-26
    assert len({s.id for s in samples}) == len(samples)
    result = json.loads((tmp_path / "result.json").read_text())
    assert [g["ok"] for g in result["guesses"]] == [True, False]
    assert result["samples"] == 0, "a guess at the floor ends the search, and counts as no sample"
    assert result["pick"]["nmse"]["train"] < 1e-26


def test_a_resumed_run_with_guesses_equals_an_uninterrupted_one(problem, tmp_path):
    replay = write_replay(tmp_path / "texts.jsonl", completions(30))
    settings = SearchSettings(budget=30, islands=3, structure_seconds=0, guess="a*x + b*v; sin(a*x)*v")

    def search(folder, earlier=()):
        with Evaluator(problem, workers=1) as evaluator, SearchArchive(folder) as archive:
            Search(problem, Replay(replay), evaluator, archive, settings, earlier=earlier).run()
        return read_archive(folder)

    whole = search(tmp_path / "whole")
    kinds = [s.kind for s in whole if not s.number]
    assert kinds[:3] == [GUESS, GUESS, REFINEMENT]
    for kept in (1, 2, 5, len(kinds), len(whole) - 3):
        folder = tmp_path / f"cut{kept}"
        with SearchArchive(folder) as archive:
            for sample in whole[:kept]:
                archive.append(sample)
        again = search(folder, read_archive(folder))
        assert [(s.id, s.completion, s.evaluation.score) for s in again] == [
            (s.id, s.completion, s.evaluation.score) for s in whole
        ]


def test_the_estimator_begins_from_guesses():
    X = np.random.default_rng(0).uniform(0.5, 2, (80, 2))
    y = 1.7 * np.exp(-0.3 * X[:, 0]) / (1 + X[:, 1] ** 2)
    options = {"search_options": {"refine": "off"}, "proposer": "grammar", "random_state": 0, "budget": 3}
    model = SymbolicRegressor(guesses=["a*exp(-b*x0)/(1 + x1^2)"], **options).fit(X, y)
    assert model.score(X, y) > 1 - 1e-12
    with pytest.raises(ValueError, match=r"the guess 'sin\(' cannot be read"):
        SymbolicRegressor(guesses=["sin("], **options).fit(X, y)


def test_a_guess_is_in_the_memory_of_a_training(problem):
    from llmsr.grpo.dataset import build_pool, memory_seeds

    with Evaluator(problem, workers=1) as evaluator:
        pool = build_pool(problem, evaluator, 4, 0, LAW)
        assert min(member.nmse for member in pool) < 1e-26
        seeds = memory_seeds(evaluator, None, (), LAW)
    assert min(member.nmse for member in seeds) < 1e-26
    assert read_body(problem.spec, seeds[-1].body)
