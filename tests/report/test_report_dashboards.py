"""Figures for dashboards: tags and values, nothing of it by default, and one sentence where it is missing."""

import math
import sys

import pytest
from replays import completions, write_replay
from report_cases import fake_sample

from llmsr.cli import main
from llmsr.cli.run import main as run
from llmsr.errors import UserError
from llmsr.report.display import Dashboards, figures
from llmsr.report.front import NMSE_FLOOR
from llmsr.report.markup import duration
from llmsr.sample import Evaluation, Sample
from llmsr.search.totals import Totals
from llmsr.settings import RunSettings


def search(tmp_path, *flags):
    texts = write_replay(tmp_path / "texts.jsonl", completions(12))
    argv = ["--replay_path", str(texts), "--budget", "12", "--workers", "1", "--sample_files", "false"]
    argv += ["--structure_seconds", "0", "--stop_at_floor", "false"]
    return main([*argv, "--log_path", str(tmp_path / "run"), *flags])


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0.4 s"), (59.4, "59.4 s"), (65, "1 min 5 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")],
)
def test_a_time_is_told_as_people_read_it(seconds, told):
    assert duration(seconds) == told


def test_figures_are_of_the_sample_the_best_and_all():
    totals = Totals()
    for sample in (fake_sample(1, 5, 0.5), fake_sample(2, 9, 0.25), Sample(3, "", Evaluation("syntax"))):
        totals.add(sample)
        found = figures(sample, totals)
    assert found["best/nmse_train"] == 0.25
    assert found["best/score"] == -0.25
    assert found["samples/valid_share"] == pytest.approx(2 / 3)
    assert found["sample/valid"] == 0.0
    assert "sample/nmse_train" not in found
    refined = fake_sample(3, 4, 0.1, proposer="refine", kind="refinement")
    totals.add(refined)
    told = figures(refined, totals)
    assert (told["best/nmse_train"], told["samples/refinements"]) == (0.1, 1)
    assert not [tag for tag in told if tag.startswith("sample/")]
    assert all(math.isfinite(value) for value in found.values())


def test_lists_of_names_are_read_and_checked():
    assert RunSettings(logger="none").dashboards == RunSettings(logger="").dashboards == ()
    assert RunSettings(logger="wandb, tensorboard,wandb").dashboards == ("wandb", "tensorboard")
    with pytest.raises(UserError, match="not 'tensorbord'"):
        RunSettings(logger="tensorbord")


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_one_sentence_before_anything_is_asked(
    name, package, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert search(tmp_path, "--logger", name) == 2
    said = capsys.readouterr().err
    assert f"pip install {package}" in said
    assert "1/12 samples" not in said


def test_a_dashboard_that_fails_does_not_end_the_run(capsys, tmp_path):
    dashboards = Dashboards((), tmp_path, {})
    told = []

    def failing(scalars, step):
        told.append(step)
        raise OSError("no room")

    dashboards._logs["tensorboard"] = failing
    for step in (1, 2):
        dashboards.log({"a": 1.0}, step)
    assert told == [1]
    assert capsys.readouterr().err.count("no room") == 1


def test_tensorboard_reads_what_a_search_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert search(tmp_path, "--logger", "tensorboard") == 0
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    events = read.Scalars("best/nmse_train")
    assert events[-1].step == 12
    values = [max(event.value, NMSE_FLOOR) for event in events]  # below it, rounding orders them
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    assert {"samples/valid_share", "best/nmse_test_ood", "sample/complexity"} <= set(read.Tags()["scalars"])


def test_nothing_is_logged_by_default(tmp_path):
    texts = write_replay(tmp_path / "texts.jsonl", completions(4))
    argv = ["--replay_path", str(texts), "--budget", "4", "--workers", "1", "--log_path", str(tmp_path / "r")]
    argv += ["--structure_seconds", "0", "--stop_at_floor", "false"]
    assert run(argv) == 0
    assert not {"tensorboard", "wandb"} & {path.name for path in (tmp_path / "r").iterdir()}
