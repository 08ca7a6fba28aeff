"""Services that fail, seen from the command line: what the run does, its exit code, and no key anywhere."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from fake_server import FakeServer
from programs import running

from llmsr.archive import read_archive
from llmsr.cli import main

ROOT = Path(__file__).parents[2]
KEY = "sk-verysecret0123456789"
PASSWORD = "pass-word-of-mine"


@pytest.fixture(autouse=True)
def _short_waits_and_a_key(monkeypatch):
    monkeypatch.setattr("llmsr.proposers.service.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("llmsr.proposers.service.LONGEST_WAIT_SECONDS", 1.0)
    monkeypatch.setenv("API_KEY", KEY)


@pytest.fixture
def server():
    with FakeServer() as fake:
        fake.hang_seconds = 1.5
        fake._server.handle_error = lambda *_: None  # its client may go at any time
        yield fake


def flags(server, run_dir, *more):
    base = server.base.replace("http://", f"http://user:{PASSWORD}@")
    return [
        *("--proposer", "openai", "--api_base", base, "--log_path", str(run_dir), "--workers", "1"),
        *("--budget", "4", "--samples_per_prompt", "2", "--retries", "1", "--timeout", "0.5"),
        *("--structure_seconds", "0", "--stop_at_floor", "false", "--refine", "off", *more),
    ]


def run(server, run_dir, capfd, *more) -> tuple[int, str]:
    with contextlib.chdir(ROOT):
        code = main(flags(server, run_dir, *more))
    out, told = capfd.readouterr()
    assert "Traceback" not in told
    for secret in (KEY, PASSWORD):
        assert secret not in out + told
        for path in run_dir.rglob("*"):
            assert not path.is_file() or secret not in path.read_text(errors="replace"), path
    return code, told


def last(told: str) -> str:
    return [line for line in told.splitlines() if line.startswith("llmsr: ")][-1]


AT_ONCE = {
    "401": "API_KEY",
    "403": "API_KEY",
    "404": "--api_model",
    "redirect": "redirects to",
    "quota": "quota",
}
PASSING = ["429", "500", "503", "garbage", "html", "empty choices", "null choices", "half", "reset", "hang"]


@pytest.mark.parametrize("fault", AT_ONCE)
def test_what_no_waiting_mends_ends_the_run_at_once(server, tmp_path, capfd, fault):
    server.always = fault
    server.redirect_to = f"http://127.0.0.1:9/elsewhere?key={KEY}"
    code, told = run(server, tmp_path / "run", capfd, "--api_mode", "chat")
    assert code == 2
    assert AT_ONCE[fault] in last(told)
    assert len(server.requests) <= 2  # the two prompts in flight
    assert read_archive(tmp_path / "run") == []


def test_faults_that_pass_cost_no_sample(server, tmp_path, capfd):
    server.plan(*(word for fault in PASSING for word in (fault, "ok")))
    code, _ = run(server, tmp_path / "run", capfd, "--budget", "20", "--retries", "3")
    assert code == 0
    samples = read_archive(tmp_path / "run")
    assert [sample.number for sample in samples] == list(range(1, 21))
    assert all(sample.evaluation.ok for sample in samples)


@pytest.mark.parametrize("fault", ["429", "500", "garbage", "empty choices", "half", "hang"])
def test_faults_that_stay_end_the_run_after_five_prompts_and_keep_what_there_is(
    server, tmp_path, capfd, fault
):
    server.plan("ok", "ok")  # a trial of whether answers can be begun, then a prompt
    server.always = fault
    more = ["--parallel_prompts", "1"]
    code, told = run(server, tmp_path / "run", capfd, "--budget", "40", *more)
    assert code == 2
    assert "5 prompts in a row" in last(told)
    assert "--resume" in last(told)
    kept = read_archive(tmp_path / "run")
    assert len(kept) == 2
    server.always = "ok"
    code, told = run(server, tmp_path / "run", capfd, "--budget", "6", "--resume", *more)
    assert code == 0
    assert [sample.number for sample in read_archive(tmp_path / "run")] == list(range(1, 7))


def test_retry_after_is_kept_to_by_a_run(server, tmp_path, capfd):
    server.plan("429")
    server.retry_after = "1"
    code, _ = run(server, tmp_path / "run", capfd, "--budget", "2")
    assert code == 0
    assert server.times[1] - server.times[0] >= 0.95


@pytest.mark.parametrize("text", ["", "\x1b[2J\x00", "x" * 5_000_000, "\\ud800", "    return x\n" * 100_000])
def test_whatever_a_service_answers_becomes_a_sample(server, tmp_path, capfd, text):
    server.text = text
    code, told = run(server, tmp_path / "run", capfd, "--budget", "2", "--timeout", "20")
    assert code == 0
    assert "\x1b" not in told
    assert len(read_archive(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "archive" / "search.jsonl").stat().st_size < 10_000_000


@pytest.mark.parametrize("fault", ["hang", "429"])
def test_ctrl_c_does_not_wait_for_a_service(server, tmp_path, fault):
    server.always = fault
    server.retry_after = "3600"
    server.hang_seconds = 60
    command = [
        sys.executable,
        "main.py",
        *flags(server, tmp_path / "run", "--timeout", "60", "--retries", "9"),
    ]
    with running(command, cwd=ROOT, env=os.environ) as process:
        end = time.monotonic() + 60
        while not server.requests and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, told = process.communicate(timeout=60)
        waited = time.monotonic() - began
    assert process.returncode == 130, told
    assert waited < 30  # --timeout is a minute
    assert "Traceback" not in told
    assert KEY not in out + told


def test_no_server_is_one_sentence(server, tmp_path, capfd):
    port = server.port
    server._server.server_close()
    argv = [
        "--proposer",
        "openai",
        "--api_base",
        f"http://127.0.0.1:{port}/v1",
        "--log_path",
        str(tmp_path / "r"),
    ]
    with contextlib.chdir(ROOT):
        assert main([*argv, "--workers", "1"]) == 2
    assert "no server answers at" in last(capfd.readouterr().err)
