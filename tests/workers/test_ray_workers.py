"""Workers on Ray: the same results as local ones, and what a lost worker held goes to another."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmsr.cli import main
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.workers.pool import TaskError, WorkerFailure

ray = pytest.importorskip("ray")

from llmsr.workers.ray_pool import ATTEMPTS, RayPool  # noqa: E402

# what the workers run; they import this file by its name
sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

SETTLE_SECONDS = 0.5

BODIES = [
    "return params[0] * np.sin(x) + params[1] * v",
    "return params[0] * x + params[1] * x**3 + params[2]",
    "return params[0] * np.exp(params[1] * x) * v",
    "return params[0] *",
    "return 3.0",
]


def make_state(value):
    return value


def add(state, number):
    return state + number


def process_id(state):
    return os.getpid()


def fail(state):
    raise ValueError("told to")


def hang(state):
    while True:
        pass


def leave(state, directory):
    (Path(directory) / str(os.getpid())).touch()
    os._exit(7)


def leave_once(state, path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return state


def variables(state):
    return os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("SOME_API_KEY")


def nap(state, number):
    time.sleep(1.5)
    return state + number


@pytest.fixture(scope="module")
def pool():
    os.environ["SOME_API_KEY"] = "secret"
    os.environ.pop("RAY_ADDRESS", None)
    with RayPool(2, make_state, (40,)) as pool:
        yield pool
    del os.environ["SOME_API_KEY"]
    assert not ray.is_initialized()


def test_a_cluster_that_does_not_answer_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert main(["score", "--workers", "ray", "--input", os.devnull]) == 2
    assert "unset RAY_ADDRESS" in capsys.readouterr().err


def test_the_evaluator_finds_the_same_on_ray_as_locally(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    problem = load_problem("oscillator1")
    with Evaluator(problem, workers=1) as local, Evaluator(problem, workers="ray") as remote:
        for body in BODIES:
            one, other = local.evaluate(body), remote.evaluate(body)
            assert (one.status, one.params, one.score, one.nmse) == (
                other.status,
                other.params,
                other.score,
                other.nmse,
            )


def test_workers_have_their_state_one_thread_and_no_keys(pool):
    assert [pool.submit(add, i, deadline=30).result(120) for i in range(3)] == [40, 41, 42]
    assert pool.submit(variables, deadline=30).result(60) == ("1", "")
    with pytest.raises(TaskError, match="ValueError: told to"):
        pool.submit(fail, deadline=30).result(60)


def test_a_hang_times_out_and_its_worker_is_replaced(pool):
    before = pool.replaced
    begin = time.monotonic()
    outcome = pool.submit(hang, deadline=1.0).result(60)
    assert isinstance(outcome, WorkerFailure)
    assert outcome.kind == "timeout"
    assert time.monotonic() - begin < 15
    assert [pool.submit(add, i, deadline=30).result(60) for i in range(4)] == [40, 41, 42, 43]
    assert pool.replaced > before


def test_what_a_killed_worker_held_is_done_by_another(pool, tmp_path):
    done = [pool.submit(leave_once, str(tmp_path / str(i)), deadline=30) for i in range(3)]
    assert [future.result(120) for future in done] == [40, 40, 40]


def test_workers_killed_while_idle_cost_no_task(pool):
    ours = {pool.submit(process_id, deadline=30).result(60) for _ in range(10)}
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    results = [pool.submit(add, i, deadline=30) for i in range(6)]
    assert [future.result(120) for future in results] == [40 + i for i in range(6)]


def test_a_task_that_kills_every_worker_is_a_crash_after_a_bounded_number(pool, tmp_path):
    outcome = pool.submit(leave, str(tmp_path), deadline=30).result(120)
    assert isinstance(outcome, WorkerFailure)
    assert outcome.kind == "crash"
    assert 1 <= len(list(tmp_path.iterdir())) <= ATTEMPTS


def test_a_new_state_reaches_every_worker(pool):
    pool.renew(100)
    assert {pool.submit(add, 1, deadline=30).result(60) for _ in range(6)} == {101}
    pool.renew(40)


def test_a_running_cluster_is_joined_and_left_running(tmp_path):
    """In processes of their own: one holds the cluster, the other joins it by RAY_ADDRESS and leaves."""
    holder = textwrap.dedent("""
        import ray, sys
        info = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        print(info["address"] if "address" in info else info.address_info["address"], flush=True)
        sys.stdin.read()
    """)
    user = textwrap.dedent("""
        import ray, test_ray_workers as t
        from llmsr.workers.ray_pool import RayPool
        with RayPool(None, t.make_state, (1,)) as pool:
            print(pool.size, pool.submit(t.add, 1, deadline=60).result(120))
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", holder], **pipes) as process:
        address = process.stdout.readline().strip()
        environment = os.environ | {"RAY_ADDRESS": address}
        command = [sys.executable, "-c", user]
        for _ in range(2):  # the second finds it alive
            told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
            assert told.stdout.split() == ["1", "2"], told.stderr
        process.stdin.close()


@pytest.mark.slow
def test_a_node_that_is_gone_costs_no_task():
    """On a cluster of two nodes, whose second one is killed while it works."""
    code = textwrap.dedent("""
        import os, sys, test_ray_workers as t
        from ray.cluster_utils import Cluster
        from llmsr.workers.ray_pool import RayPool
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        node = cluster.add_node(num_cpus=2)
        os.environ["RAY_ADDRESS"] = cluster.address
        with RayPool(None, t.make_state, (40,)) as pool:
            tasks = [pool.submit(t.nap, i, deadline=20) for i in range(9)]
            tasks[0].result(120)
            t.time.sleep(t.SETTLE_SECONDS)
            cluster.remove_node(node, allow_graceful=False)
            print(pool.size, *[task.result(120) for task in tasks], flush=True)
        cluster.shutdown()
    """)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert told.stdout.split() == ["3", *[str(40 + i) for i in range(9)]], told.stderr
