"""Worker processes: a hang or a crash costs one task, and nothing outlives the parent."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmsr.workers.pool import TaskError, ThisProcess, WorkerFailure, WorkerPool

# what the workers run; they import this file by its name
sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def make_state(value):
    return value


def add(state, number):
    return state + number


def process_id(state):
    return os.getpid()


def hang(state):
    while True:
        pass


def leave(state):
    os._exit(7)


def fail(state):
    raise ValueError("told to")


def shout(state):
    print("noise on standard output")
    os.write(1, b"more noise")
    return "done"


def eat_memory(state):
    return len(bytearray(4 * 2**30))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(1, make_state, (40,), memory_bytes=2 * 2**30) as pool:
        yield pool


def test_a_task_sees_the_state_and_its_arguments(pool):
    assert pool.submit(add, 2, deadline=30).result() == 42


def test_an_endless_task_ends_at_its_deadline_and_the_next_one_runs(pool):
    started = time.monotonic()
    failure = pool.submit(hang, deadline=0.5).result()
    assert isinstance(failure, WorkerFailure)
    assert failure.kind == "timeout"
    assert time.monotonic() - started < 5
    assert pool.submit(add, 1, deadline=30).result() == 41


def test_a_dying_worker_costs_one_task(pool):
    failure = pool.submit(leave, deadline=30).result()
    assert failure == WorkerFailure("crash", "the worker process died (exit code 7)")
    assert pool.submit(add, 1, deadline=30).result() == 41


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_to_a_worker_costs_one_task(pool, number):
    pid = pool.submit(process_id, deadline=30).result()
    busy = pool.submit(hang, deadline=1.0)
    time.sleep(0.2)
    os.kill(pid, number)
    assert busy.result().kind in ("crash", "timeout")
    assert pool.submit(add, 1, deadline=30).result() == 41
    assert not alive(pid)


def test_a_task_that_wants_too_much_memory_fails_alone(pool):
    with pytest.raises(TaskError, match="MemoryError"):
        pool.submit(eat_memory, deadline=30).result()
    assert pool.submit(add, 1, deadline=30).result() == 41


def test_an_exception_keeps_its_type_and_text(pool):
    with pytest.raises(TaskError, match="ValueError: told to"):
        pool.submit(fail, deadline=30).result()


def test_a_worker_cannot_write_into_our_output(pool, capfd):
    assert pool.submit(shout, deadline=30).result() == "done"
    assert capfd.readouterr().out == ""


def test_a_worker_that_cannot_be_started_costs_its_task_and_is_tried_again(monkeypatch):
    def refused(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refused)
        before = len(os.listdir("/proc/self/fd"))
        pool = WorkerPool(1, make_state, (40,))
        failure = pool.submit(add, 2, deadline=30).result(timeout=30)
        assert len(os.listdir("/proc/self/fd")) == before
    assert failure.kind == "crash"
    assert failure.reason == "a worker process could not be started (Resource temporarily unavailable)"
    with pool:
        assert pool.submit(add, 2, deadline=30).result(timeout=60) == 42


@pytest.mark.parametrize(
    ("argument", "deadline"), [(lambda: 0, 30.0), (2, float("nan"))], ids=["unpicklable", "nan"]
)
def test_a_task_that_cannot_be_handed_over_fails_alone(pool, argument, deadline):
    failure = pool.submit(add, argument, deadline=deadline).result(timeout=30)
    assert failure.kind == "crash"
    assert failure.reason.startswith("the task could not be handed over (")
    assert pool.submit(add, 1, deadline=30).result(timeout=60) == 41


def test_a_task_without_a_deadline_is_waited_for(pool):
    assert pool.submit(add, 2, deadline=float("inf")).result(timeout=60) == 42


def test_a_setup_that_cannot_be_pickled_fails_every_task():
    with WorkerPool(1, make_state, (lambda: 0,)) as pool:
        failure = pool.submit(add, 2, deadline=30).result(timeout=60)
    assert "could not be started (" in failure.reason


def test_close_ends_workers_and_cancels_what_waits():
    pool = WorkerPool(1, make_state, (0,))
    pid = pool.submit(process_id, deadline=30).result()
    pool.submit(hang, deadline=60)
    waiting = pool.submit(add, 1, deadline=60)
    pool.close()
    assert waiting.cancelled()
    assert wait_until(lambda: not alive(pid))


def test_a_task_submitted_while_the_pool_closes_is_cancelled(monkeypatch):
    pool = WorkerPool(1, make_state, (40,))
    assert pool.submit(add, 2, deadline=30).result(timeout=60) == 42
    is_set = pool._closed.is_set

    def still_open():
        monkeypatch.setattr(pool._closed, "is_set", is_set)
        pool.close()  # as another thread may, right behind the look at whether the pool is open
        return False

    monkeypatch.setattr(pool._closed, "is_set", still_open)
    assert pool.submit(add, 2, deadline=30).cancelled()


def test_workers_die_with_a_killed_parent():
    program = textwrap.dedent("""
        import test_workers as t, time
        from llmsr.workers.pool import WorkerPool
        pool = WorkerPool(2, t.make_state, (0,))
        pids = {pool.submit(t.process_id, deadline=60).result() for _ in range(20)}
        for _ in range(2):
            pool.submit(t.hang, deadline=600)
        print(*pids, flush=True)
        time.sleep(600)
    """)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(map(alive, pids)))


def test_a_pool_in_this_process_has_a_state_too():
    with ThisProcess(1, make_state, (40,)) as pool:
        assert pool.submit(add, 2, deadline=30).result(timeout=30) == 42
        assert pool.submit(process_id, deadline=30).result(timeout=30) == os.getpid()
        with pytest.raises(TaskError, match="ValueError: told to"):
            pool.submit(fail, deadline=30).result(timeout=30)
        pool.renew(100)
        assert pool.submit(add, 2, deadline=30).result(timeout=30) == 102
    assert not any(thread.is_alive() for thread in pool._threads)
