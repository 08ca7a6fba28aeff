"""Workers under attack: what a fit starts, stops or kills costs one task and leaves no process behind."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmsr.archive import read_archive
from llmsr.sample import is_llm_sample
from llmsr.workers.pool import WorkerFailure, WorkerPool

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# what the workers run; they import this file by its name
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def make_state(value):
    return value


def state_of(state):
    return state


def refuse_to_start(value):
    raise OSError("the state cannot be made")


def process_ids(state):
    return os.getpid(), os.getppid()


def sleep(state, *anything):
    time.sleep(600)


def length(state, text):
    return len(text)


def environment(state):
    return dict(os.environ), Path("/proc/self/oom_score_adj").read_text().strip()


def leave_children(state, path, then="return"):
    """Start a child, a grandchild and a daemon in a session of its own; write down their ids."""
    code = "import os, time; os.fork(); time.sleep(600)"
    plain = subprocess.Popen([sys.executable, "-c", code])
    daemon = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(0.5)
    found = [*descendants(plain.pid), *descendants(daemon.pid)]
    Path(path).write_text(json.dumps(found))
    if then == "exit":
        os._exit(3)
    if then == "hang":
        time.sleep(600)
    return found


def parents() -> dict[int, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> list[int]:
    known, found = parents(), [pid]
    for one in found:
        found.extend(child for child, parent in known.items() if parent == one)
    return found


def alive(pid: int) -> bool:
    return pid in parents()


def all_end(pids, seconds=15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("then", ["exit", "hang"])
def test_children_of_a_lost_task_end_with_it(tmp_path, then):
    with WorkerPool(1, make_state, (0,)) as pool:
        failure = pool.submit(leave_children, str(tmp_path / "pids"), then, deadline=5).result()
        assert isinstance(failure, WorkerFailure)
        assert failure.kind == {"exit": "crash", "hang": "timeout"}[then]
        pids = json.loads((tmp_path / "pids").read_text())
        assert len(pids) >= 4
        assert all_end(pids)
        assert pool.submit(length, "abc", deadline=30).result() == 3


def test_children_of_finished_tasks_end_with_the_pool(tmp_path):
    with WorkerPool(1, make_state, (0,)) as pool:
        pids = pool.submit(leave_children, str(tmp_path / "pids"), deadline=60).result()
        pids += pool.submit(process_ids, deadline=60).result()
    assert all_end(pids)


PARENT = textwrap.dedent("""
    import sys, time
    import test_trust_workers as t
    from llmsr.workers.pool import WorkerPool
    pool = WorkerPool(1, t.make_state, (0,))
    pids = pool.submit(t.leave_children, sys.argv[1], deadline=60).result()
    pids += pool.submit(t.process_ids, deadline=60).result()
    pool.submit(t.sleep, deadline=600)
    print(*pids, flush=True)
    time.sleep(600)
""")


@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_parent_takes_everything_along_even_what_was_stopped(tmp_path, stopped):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "pids")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])},
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) >= 6
    if stopped:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    assert all_end(pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("which", ["worker", "keeper"])
def test_a_signal_costs_at_most_the_task_that_runs(number, which):
    with WorkerPool(1, make_state, (0,)) as pool:
        pids = pool.submit(process_ids, deadline=60).result()
        busy = pool.submit(sleep, deadline=1.5)
        time.sleep(0.3)
        os.kill(pids[0] if which == "worker" else pids[1], number)
        assert busy.result().kind in ("crash", "timeout")
        assert [pool.submit(length, "abc", deadline=60).result() for _ in range(3)] == [3, 3, 3]
        assert all_end(pids)


def test_a_stopped_worker_that_is_sent_a_large_task_does_not_hold_the_pool(monkeypatch):
    monkeypatch.setattr("llmsr.workers.pool.TRANSFER_SECONDS", 1.0)
    with WorkerPool(1, make_state, (0,)) as pool:
        for pid in pool.submit(process_ids, deadline=60).result():
            os.kill(pid, signal.SIGSTOP)
        failure = pool.submit(length, "a" * 50_000_000, deadline=600).result(timeout=60)
        assert failure.kind == "timeout"
        assert pool.submit(length, "abc", deadline=60).result() == 3


def test_an_idle_worker_that_is_killed_costs_nothing():
    with WorkerPool(1, make_state, (0,)) as pool:
        pids = pool.submit(process_ids, deadline=60).result()
        os.kill(pids[0], signal.SIGKILL)
        assert all_end(pids)
        assert pool.submit(length, "abc", deadline=60).result() == 3


def test_workers_know_no_keys_and_are_the_first_to_go_when_memory_runs_out(monkeypatch):
    for name in ("API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "MY_SECRET"):
        monkeypatch.setenv(name, "sk-0123456789abcdef")
    with WorkerPool(1, make_state, (0,)) as pool:
        known, score = pool.submit(environment, deadline=60).result()
    assert "sk-0123456789abcdef" not in known.values()
    assert known["PATH"] == os.environ["PATH"]
    assert score == "1000"


def test_a_worker_that_cannot_start_says_why():
    with WorkerPool(1, refuse_to_start, (0,)) as pool:
        failure = pool.submit(length, "abc", deadline=60).result()
    assert failure.kind == "crash"
    assert "OSError: the state cannot be made" in failure.reason


SPEC_ATTACKS = {
    "exits": ("os._exit(5)", "crash"),
    "hangs": ("while True: pass", "timeout"),
    "leaves children": ("subprocess.Popen(['sleep', '600'], start_new_session=True); return -1.0", "ok"),
    "kills its group": ("os.kill(os.getpid(), 11)", "crash"),
    "raises": ("raise SystemExit('no')", "error"),
    "wants all memory": ("np.ones(1 << 40)", "error"),
    "is stopped": ("os.kill(os.getpid(), 19)", "timeout"),
}


@pytest.mark.usefixtures("own_workers")
@pytest.mark.parametrize("attack", SPEC_ATTACKS)
def test_a_spec_that_misbehaves_on_one_body_costs_that_sample(tmp_path, monkeypatch, attack):
    """Its evaluate goes wrong where the equation has the value 13 at a given place."""
    from llmsr.evaluator import Evaluator
    from llmsr.problem.loading import load_problem

    monkeypatch.setattr("llmsr.evaluator.GRACE_SECONDS", 0.5)
    what, status = SPEC_ATTACKS[attack]
    spec = tmp_path / "spec.txt"
    spec.write_text(
        '"""Find the acceleration."""\nimport os, subprocess\nimport numpy as np\n\nMAX_NPARAMS = 10\n\n'
        "@evaluate.run\ndef evaluate(data):\n"
        "    X, y = data['inputs'], data['outputs']\n"
        "    p = equation(X[:, 0], X[:, 1], np.ones(10))\n"
        f"    if p[0] == X[0, 0] + 13:\n        {what}\n"
        "    return -float(np.mean(np.abs(p - y)))\n\n"
        "@equation.evolve\ndef equation(x: np.ndarray, v: np.ndarray, params: np.ndarray) -> np.ndarray:\n"
        '    """Acceleration."""\n    return params[0] * x\n'
    )
    problem = load_problem("oscillator1", str(spec), str(ROOT / "data"))
    me = os.getpid()
    others = descendants(me)
    with Evaluator(problem, fit_timeout=2.5, workers=1) as evaluator:
        assert evaluator.evaluate("return params[0]*x").status == "ok"
        found = evaluator.evaluate("return x + 13")
        assert found.status == status, found
        assert evaluator.evaluate("return params[0]*v").status == "ok"
        mine = [pid for pid in descendants(me) if pid not in others]
    assert all_end(mine)


@pytest.mark.slow
def test_workers_that_are_killed_and_stopped_cost_a_search_no_more_than_their_samples(tmp_path):
    from replays import completions, write_replay

    replay = write_replay(tmp_path / "texts.jsonl", completions(200, seed=5))
    command = [
        *(sys.executable, "main.py", "--proposer", "replay", "--replay_path", str(replay), "--budget", "200"),
        *(
            "--workers",
            "2",
            "--refine",
            "off",
            "--stop_at_floor",
            "false",
            "--fit_timeout",
            "1",
            "--log_path",
            str(tmp_path / "run"),
        ),
    ]
    draw = random.Random(0)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    seen, signals = set(), 0
    while process.poll() is None:
        below = [pid for pid in descendants(process.pid) if pid != process.pid]
        seen |= set(below)
        archive = tmp_path / "run" / "archive" / "search.jsonl"
        begun = archive.exists() and archive.read_bytes().count(b"\n") > 10 * signals
        if below and begun and signals < 8:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(below), draw.choice([signal.SIGKILL, signal.SIGSTOP]))
                signals += 1
        time.sleep(0.02)
    assert process.returncode == 0, process.stderr.read()
    samples = [s for s in read_archive(tmp_path / "run") if is_llm_sample(s)]
    assert sorted(s.number for s in samples) == list(range(1, 201))
    lost = [s for s in samples if s.evaluation.status in ("crash", "timeout")]
    assert signals > 5
    assert len(lost) <= signals
    assert all_end(seen)


def test_a_renewed_pool_keeps_its_processes_and_has_the_new_state():
    with WorkerPool(1, make_state, (5,)) as pool:
        before = {pool.submit(process_ids, deadline=60).result()[0] for _ in range(10)}
        pool.renew(6)
        assert {pool.submit(state_of, deadline=60).result() for _ in range(10)} == {6}
        assert {pool.submit(process_ids, deadline=60).result()[0] for _ in range(10)} <= before
