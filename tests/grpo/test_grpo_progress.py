"""The line of a training step: its own answers, the run's best."""

import io
from dataclasses import replace

import pytest

from llmsr.errors import UserError
from llmsr.grpo.progress import Progress, StepMetrics, Stuck
from llmsr.sample import Evaluation, Sample


def answer(number, step, nmse=None, canonical="", proposer="policy"):
    evaluation = (
        Evaluation("syntax")
        if nmse is None
        else Evaluation("ok", canonical=canonical, expression=f"p0*{canonical}", nmse={"train": nmse})
    )
    return Sample(number, "", evaluation, proposer=proposer, step=step)


def test_a_step_counts_its_own_answers_and_tells_the_best_of_the_run():
    out = io.StringIO()
    progress = Progress(steps=4, first=2, stream=out)
    earlier = [answer(1, 1, 1e-3, "x"), answer(2, 1)]
    early = answer(9, 3, 0.5, "z")  # another process is ahead
    second = [answer(3, 2, 0.1, "v"), answer(4, 2, 0.1, "v"), answer(5, 2), answer(6, 2, 0.2, "t")]
    watched = answer(7, None, 0.1, "x", "validation")
    refined = answer(3, 2, 1e-5, "y", "refine")
    told = progress(
        StepMetrics(2, 0.25, 60.0, extra={"cut": 0.25}), [*earlier, *second, watched, refined, early]
    )
    progress(StepMetrics(3, 0.5, 60.0), [])
    first, then = out.getvalue().splitlines()
    shares = "valid 75% | distinct 50% | new 75% | teaching 0% | cut 25%"
    assert f"step 2/4 | reward +0.250 | {shares} | 60.0 s | 2 min 00 s left" in first
    assert first.endswith("best NMSE 1e-05: p0*y")
    assert "valid 100% | distinct 100%" in then
    assert told.figures()["train/valid"] == 0.75


def steps(progress, shares, rewards=(0.1, 0.9)):
    """Reports steps of eight answers with these shares of valid ones."""
    for step, share in enumerate(shares, start=1):
        answers = [
            replace(
                answer(8 * step + i, step, 0.1 if i < 8 * share else None, f"{step}.{i}"),
                reward=rewards[i % len(rewards)],
            )
            for i in range(8)
        ]
        progress(StepMetrics(step, 0.0, 1.0), answers)


def test_a_collapse_of_the_valid_share_is_said_once_and_ends_the_run_on_demand():
    out = io.StringIO()
    shares = [0.5, 1.0, 1.0, 1.0, 0.75, 0.25, 0.25, 0.25]
    steps(Progress(8, stream=out), shares)
    said = [line for line in out.getvalue().splitlines() if line.startswith("llmsr: ")]
    assert len(said) == 1
    assert "fell from 100% to 42%" in said[0]
    with pytest.raises(Stuck, match="--stop_when_stuck 2"):
        steps(Progress(8, stream=out, stop_after=2), shares)
    steps(Progress(8, stream=out, stop_after=3), shares[:-1])


def test_steps_that_teach_nothing_are_said_and_end_the_run_on_demand():
    out = io.StringIO()
    steps(Progress(9, stream=out), [1.0] * 7, rewards=(0.5,))
    said = [line for line in out.getvalue().splitlines() if line.startswith("llmsr: ")]
    assert len(said) == 1
    assert "no group of the last 5 steps teaches anything" in said[0]
    with pytest.raises(Stuck):
        steps(Progress(9, stream=out, stop_after=4), [1.0] * 4, rewards=(0.5,))


def test_a_run_without_a_valid_answer_says_what_was_wrong_and_what_to_do():
    progress = Progress(2, stream=io.StringIO())
    progress.check_learned()  # nothing was asked yet
    steps(progress, [0.0, 0.0])
    with pytest.raises(UserError, match=r"not one of 16 answers was valid \(syntax 16.*--model_path"):
        progress.check_learned()
    steps(progress, [0.25])
    progress.check_learned()
