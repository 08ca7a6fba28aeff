"""The line of a training step: its own answers, the run's best."""

import io

from llmsr.grpo.progress import Progress, StepMetrics
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
    progress(StepMetrics(2, 0.25, 60.0), [*earlier, *second, watched, refined, early])
    progress(StepMetrics(3, 0.5, 60.0), [])
    first, then = out.getvalue().splitlines()
    assert "step 2/4 | reward +0.250 | valid 75% | distinct 50% | 60.0 s | 2 min 00 s left" in first
    assert first.endswith("best NMSE 1e-05: p0*y")
    assert "valid 100% | distinct 100%" in then
