"""What an archive and a meter come to: budgets, refinements, lost steps, the course of the best equation."""

import json
import subprocess
import sys
import time

import pytest

from llmsr.benchmark.measures import Clock, best_of, run_measures, within_budget, without_lost_steps
from llmsr.benchmark.meter import thinned
from llmsr.benchmark.results import CEILING, course
from llmsr.sample import REFINEMENT, Evaluation, Sample


def sample(number, nmse, kind="answer", ood=None, step=None, canonical=None, size=5):
    ok = nmse is not None
    evaluation = Evaluation(
        status="ok" if ok else "syntax",
        canonical=canonical or f"form-{number}-{nmse}",
        nmse={"train": nmse, "test_id": nmse, "test_ood": ood} if ok else {},
        complexity=size,
        evaluations=5 if ok else 0,
        cpu_seconds=0.1,
    )
    return Sample(number, "", evaluation, kind=kind, tokens=10, step=step)


def usage(*ticks, seconds=100.0, cpu=50.0):
    return {"seconds": seconds, "cpu_seconds": cpu, "gpu_seconds": None, "peak_host_bytes": 7,
            "peak_gpu_bytes": None, "ticks": list(ticks)}  # fmt: skip


def test_refinements_find_but_do_not_count():
    samples = [sample(1, 0.5), sample(1, 1e-5, REFINEMENT), sample(2, None), sample(3, 0.1)]
    found = run_measures(samples, [usage((100.0, 50.0, 0.0, 3))])
    assert (found["samples"], found["valid"], found["distinct"]) == (3, 2, 2)
    assert (found["refinements"], found["fits"], found["refinement_fits"]) == (1, 3, 1)
    assert found["tokens"] == 30
    assert found["failures"] == {"syntax": 1}
    assert [row[6] for row in found["improvements"]] == [0.5, 1e-5]
    assert found["reached"]["0.0001"]["samples"] == 1
    assert found["reached"]["1e-06"] is None


def test_a_threshold_is_reached_by_the_error_itself_and_not_by_its_rounding():
    found = run_measures([sample(1, 9.99996e-7)], [usage()])
    assert found["improvements"][0][6] == 1e-6
    assert found["reached"]["1e-06"]["samples"] == 1


def test_the_equation_is_picked_by_training_error_although_it_fails_elsewhere():
    samples = [sample(1, 0.5, ood=0.1), sample(2, 0.2, ood=None)]
    row = run_measures(samples, [usage()])["improvements"][-1]
    assert row[6:] == [0.2, 0.2, None]


def test_where_errors_are_rounding_the_smaller_equation_is_the_better_one():
    law, worse = sample(1, 5e-32, ood=1e-32), sample(3, 1e-9, size=1)
    longer = sample(2, 4e-32, ood=0.7, size=9)
    assert best_of([worse, longer, law]) is law
    rows = run_measures([longer, sample(3, 5e-32, ood=1e-32)], [usage()])["improvements"]
    assert [row[8] for row in rows] == [0.7, 1e-32]


def test_the_budget_cuts_what_a_last_whole_step_brought_in_excess():
    samples = [sample(1, 0.5), sample(2, 0.4), sample(2, 0.3, REFINEMENT), sample(3, 0.1)]
    assert [s.evaluation.nmse["train"] for s in within_budget(samples, 2)] == [0.5, 0.4, 0.3]


def test_costs_of_a_cut_run_are_those_up_to_the_cut():
    found = run_measures([sample(1, 0.5)], [usage((10.0, 4.0, 0.0, 1), (20.0, 9.0, 0.0, 2))], cut=True)
    assert (found["seconds"], found["cpu_seconds"]) == (10.0, 4.0)


def test_a_step_that_was_done_again_counts_once():
    steps = [1, 1, 2, 2, 3, 2, 2, 3, 3]  # stopped within step 3, gone on after step 1
    samples = [sample(n, 0.5, step=step) for n, step in enumerate(steps, start=1)]
    kept = without_lost_steps(samples, 2)
    assert [s.number for s in kept] == [1, 2, 6, 7, 8, 9]
    assert without_lost_steps(samples, 0) == samples


def test_the_clock_reads_between_its_ticks_and_over_several_starts():
    clock = Clock([
        usage((10.0, 4.0, 0.0, 0), (20.0, 14.0, 0.0, 100), seconds=30.0, cpu=20.0),
        usage((5.0, 3.0, 0.0, 100), (15.0, 13.0, 0.0, 200), seconds=16.0, cpu=15.0),
    ])  # fmt: skip
    assert clock.at(50) == (15.0, 9.0, 0.0)
    assert clock.at(100) == (20.0, 14.0, 0.0)
    assert clock.at(200) == (45.0, 33.0, 0.0)
    assert clock.at(201) == (46.0, 35.0, 0.0)
    assert clock.totals()["cpu_seconds"] == 35.0


def test_a_median_course_counts_a_run_without_an_equation_as_failed():
    early = {"improvements": [[1, 0, 0, 0, 0, 1, 1e-1, 1e-1, 1e-1], [5, 0, 0, 0, 0, 2, 1e-3, 1e-3, None]]}
    late = {"improvements": [[4, 0, 0, 0, 0, 1, 1e-2, 1e-2, 1e-2]]}
    never = {"improvements": []}
    three = [early, late, never]
    medians = [spread.median for spread in course(three, "samples", "train", [1, 4, 5])]
    assert medians == pytest.approx([CEILING, 1e-1, 1e-2])
    (failed,) = course(three, "samples", "test_ood", [5])
    assert (failed.median, failed.low) == (pytest.approx(CEILING), pytest.approx(1e-2))


PROGRAM = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
block = bytearray(80_000_000)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:          # a daemon, which nobody waits for
        burn(0.6)
        time.sleep(60)
    os._exit(0)
os.wait()
burn(0.3)
time.sleep(1.2)
sys.exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the meter reads /proc")
def test_the_meter_counts_the_cpu_time_and_memory_of_daemons_and_leaves_none(tmp_path):
    out, archive = tmp_path / "usage-1.json", tmp_path / "archive"
    archive.mkdir()
    (archive / "search.jsonl").write_text("{}\n{}\n")
    (archive / "refine.jsonl").write_text("{}\n")
    began = time.monotonic()
    command = [sys.executable, "-m", "llmsr.benchmark.meter", str(out), str(tmp_path / "log"), str(archive)]
    done = subprocess.run([*command, sys.executable, "-c", PROGRAM], check=False)
    found = json.loads(out.read_text())
    assert (done.returncode, found["returncode"]) == (3, 3)
    assert time.monotonic() - began < 30  # the daemon's sleep is not waited for
    assert 0.85 < found["cpu_seconds"] < 3
    assert 80e6 < found["peak_host_bytes"] < 240e6  # the block once, although three processes share it
    assert found["ticks"][-1][3] == 2


STALL = """
import sys, time
time.sleep(2.5)
with open(sys.argv[1], "w") as file: file.write("{}\\n" * 64)
time.sleep(1.2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the meter reads /proc")
def test_what_came_at_once_after_a_stall_came_after_the_stall(tmp_path):
    out, archive = tmp_path / "usage-1.json", tmp_path / "archive"
    archive.mkdir()
    files = [str(out), str(tmp_path / "log"), str(archive)]
    program = [sys.executable, "-c", STALL, str(archive / "search.jsonl")]
    command = [sys.executable, "-m", "llmsr.benchmark.meter", "--no_gpu", *files, *program]
    subprocess.run(command, check=True)
    clock = Clock([json.loads(out.read_text())])
    assert clock.at(1)[0] > 1.5  # a look is at most a second before the first record


def test_of_many_ticks_those_around_stalls_stay():
    steady = [(float(i), float(i), 0.0, i) for i in range(100)]
    later = [(i + 50.0, float(i), 0.0, i) for i in range(99, 200)]
    kept = thinned([*steady, *later])
    assert len(kept) == 100
    assert {steady[0], steady[-1], later[0], later[-1]} < set(kept)
    assert Clock([usage(*kept)]).at(60)[0] == pytest.approx(60.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the meter reads /proc")
def test_a_usage_file_that_cannot_be_written_for_a_while_ends_no_run(tmp_path):
    folder = tmp_path / "cell"
    folder.mkdir()
    command = ["sh", "-c", f"mv {folder} {folder}-away; sleep 1.5; mv {folder}-away {folder}"]
    program = (
        "import sys; from llmsr.benchmark import meter; meter.WRITE_SECONDS = 0; meter.main(sys.argv[1:])"
    )
    files = [str(folder / "usage-1.json"), str(tmp_path / "log"), str(folder)]
    subprocess.run([sys.executable, "-c", program, "--no_gpu", *files, *command], check=True)
    assert json.loads((folder / "usage-1.json").read_text())["seconds"] > 1.5
