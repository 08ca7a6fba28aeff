"""Runs survive kills, full disks, read-only folders, jumping clocks and a second run on their directory."""

import contextlib
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from replays import completions, write_replay

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from kill_and_resume import VOLATILE, command, kill_and_resume, state_of  # noqa: E402
from kill_training import kill_scorers, kill_trainer, run_for_scorers, sound  # noqa: E402

from llmsr.archive import Archive, read_archive  # noqa: E402
from llmsr.cli import main  # noqa: E402
from llmsr.evaluator import Evaluator  # noqa: E402
from llmsr.problem.loading import load_problem  # noqa: E402
from llmsr.proposers.proposer import Replay  # noqa: E402
from llmsr.run_directory import RunLock, without_secrets  # noqa: E402
from llmsr.sample import is_llm_sample  # noqa: E402
from llmsr.search.search import Search  # noqa: E402
from llmsr.settings import SearchSettings  # noqa: E402

BUDGET, FEW = 40, 12
ALONE = ("--structure_seconds", "0", "--stop_at_floor", "false")  # every sample is the model's


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1", None, str(ROOT / "data"))


@pytest.fixture(scope="module")
def evaluator(problem):
    with Evaluator(problem, workers=1) as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return write_replay(tmp_path_factory.mktemp("replay") / "texts.jsonl", completions(BUDGET))


def search(run_dir, problem, evaluator, replay):
    earlier = read_archive(run_dir) if (run_dir / "archive").exists() else []
    settings = SearchSettings(
        budget=BUDGET, islands=3, reset_every=10, structure_seconds=0, stop_at_floor=False, refine_fits=8
    )
    with Archive(run_dir) as archive:
        Search(problem, Replay(replay), evaluator, archive, settings, earlier=earlier).run()
    records = [sample.to_record() for sample in read_archive(run_dir)]
    return [{k: v for k, v in record.items() if k not in VOLATILE} for record in records]


@pytest.mark.slow
def test_a_search_killed_at_random_moments_ends_as_if_left_alone(tmp_path):
    found = kill_and_resume(tmp_path, kills=4, budget=100, seed=1)
    assert found["equal_to_the_run_left_alone"] == found["runs"] >= 1


def test_killed_scoring_processes_lose_no_answer_and_count_none_twice(tmp_path):
    found = kill_scorers(run_for_scorers(tmp_path), kills=4, draw=random.Random(0))
    assert sound(found), found
    assert found["scored"] >= 4


@pytest.mark.slow
def test_training_killed_at_random_moments_ends_as_if_left_alone(tmp_path):
    found = kill_trainer(tmp_path, kills=3, draw=random.Random(0))
    assert sound(found), found


def test_an_archive_cut_anywhere_is_continued_to_the_same_end(tmp_path, problem, evaluator, replay):
    whole = search(tmp_path / "whole", problem, evaluator, replay)
    content = (tmp_path / "whole" / "archive" / "search.jsonl").read_bytes()
    draw = random.Random(0)
    for number, tail in enumerate([b"", b"", b"\0" * 5000, b'{"number": 1', b"\xff\xfe", b"x" * 3_000_000]):
        cut = tmp_path / str(number)
        (cut / "archive").mkdir(parents=True)
        kept = content[: draw.randrange(len(content))]
        if tail:
            kept = kept[: kept.rfind(b"\n") + 1] + tail
        (cut / "archive" / "search.jsonl").write_bytes(kept)
        assert search(cut, problem, evaluator, replay) == whole


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "llmsr-test", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run_main(capsys, run_dir, replay, *more) -> tuple[int, str]:
    argv = command(run_dir, replay, BUDGET, "--reset_every", "10", *more)[2:]
    with contextlib.chdir(ROOT):
        code = main(argv)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return code, told


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "12k", "24k", "48k", "100k"], ids=lambda size: f"full after {size}")
def test_a_full_disk_ends_the_run_with_a_sentence_and_resume_loses_nothing(tmp_path, capsys, replay, size):
    assert run_main(capsys, tmp_path / "whole", replay)[0] == 0
    whole, *_ = state_of(tmp_path / "whole")
    with small_disk(tmp_path / "disk", size) as remount:
        run_dir = tmp_path / "disk" / "run"
        code, told = run_main(capsys, run_dir, replay)
        assert code == 2
        assert "cannot write" in told.splitlines()[-1]
        before = read_archive(run_dir) if (run_dir / "archive").exists() else []
        remount("size=64m")
        resume = ["--resume"] if (run_dir / "archive").exists() else []
        code, told = run_main(capsys, run_dir, replay, *resume)
        assert code == 0
        records, files, result = state_of(run_dir)
        assert records == whole
        numbers = [sample.number for sample in before if is_llm_sample(sample)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(files) == result["samples"] == BUDGET


@pytest.mark.slow
def test_a_read_only_directory_is_a_sentence(tmp_path, capsys, replay):
    with small_disk(tmp_path / "disk", "1m") as remount:
        run_dir = tmp_path / "disk" / "run"
        run_dir.mkdir()
        remount("ro")
        code, told = run_main(capsys, run_dir, replay)
        assert code == 2
        assert "Read-only file system" in told.splitlines()[-1]


def test_a_second_run_on_a_directory_is_refused_and_changes_nothing(tmp_path, capsys, replay):
    run_dir = tmp_path / "run"
    with RunLock(run_dir):
        (run_dir / "config.yaml").write_text("budget: 1\n")
        for more in ([], ["--resume"]):
            (run_dir / "archive").mkdir(exist_ok=True)
            code, told = run_main(capsys, run_dir, replay, *more)
            assert code == 2
            assert "another process is writing" in told
        assert (run_dir / "config.yaml").read_text() == "budget: 1\n"
        assert list((run_dir / "archive").iterdir()) == []


JUMPING_CLOCK = textwrap.dedent("""
    import random, time
    draw = random.Random(1)
    time.time = lambda: draw.uniform(-1e9, 4e9)
    time.time_ns = lambda: int(draw.uniform(-1e18, 4e18))
""")


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(tmp_path, capsys, replay):
    assert run_main(capsys, tmp_path / "whole", replay)[0] == 0
    whole, *_ = state_of(tmp_path / "whole")
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    arguments = command(tmp_path / "run", replay, BUDGET, "--reset_every", "10")
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert state_of(tmp_path / "run")[0] == whole


def run_process(run_dir, replay, **streams):
    """A short search in a process of its own, whose output streams are these."""
    arguments = command(run_dir, replay, FEW, "--refine", "off", *ALONE)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(arguments, cwd=ROOT, **(piped | streams), text=True, timeout=120)


def test_a_full_standard_output_is_a_sentence_and_the_result_is_on_disk(tmp_path, replay):
    with open("/dev/full", "w") as full:
        done = run_process(tmp_path / "run", replay, stdout=full)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "cannot write to standard output" in done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["samples"] == FEW


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("https://user:secret@host:8/v1?key=secret", "https://host:8/v1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://host?api_key=secret", "https://host"),
    ],
)
def test_what_is_written_down_of_a_url_has_no_secret(given, written):
    assert without_secrets({"api_base": given, "n": 3}) == {"api_base": written, "n": 3}


def test_a_log_that_cannot_be_written_does_not_end_a_run(tmp_path, replay):
    with open("/dev/full", "w") as full:
        done = run_process(tmp_path / "run", replay, stderr=full)
    assert done.returncode == 0
    assert "best equation" in done.stdout
    assert sum(map(is_llm_sample, read_archive(tmp_path / "run"))) == FEW
