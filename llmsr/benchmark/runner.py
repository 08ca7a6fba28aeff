"""Runs the cells of a benchmark, several side by side, each by the public command line under a meter.

What is finished is skipped, what was interrupted goes on. A cell that fails is written down and the rest go
on. The state of a cell is in its directory:

cells/<problem>/<arm>/seed<k>/
    cell.json            what was asked, and how it stands
    usage-<n>.json       what start n of the command took (see meter)
    output.log           what it printed
    run/                 the run itself: archive, report, checkpoints
    measures.json        what everything later reads
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.benchmark.plan import GRPO, PEER, SEARCH, Cell
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import FINISHED_FILE
from llmsr.problem.loading import load_problem, locate
from llmsr.workers.pool import single_thread_environment

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
LOG_TAIL = 600  # characters of the output that a failure quotes
KEPT_KEYS = ("API_KEY", "OPENAI_API_KEY", "HF_TOKEN")  # a proposer may need them; fits do not get them
STOP_SECONDS = 90.0  # for a run to end by itself: the sample in flight, its report
POLL_SECONDS = 0.1
INTERRUPTED_CODE = 130  # of the command line, with the results so far


@dataclass
class CellDirectory:
    """A cell's place on disk."""

    cell: Cell
    path: Path

    def __post_init__(self) -> None:
        self.run, self.measures = self.path / "run", self.path / "measures.json"
        self.log = self.path / "output.log"

    def state(self) -> dict[str, Any]:
        """What `cell.json` says; empty where the cell was never started. `UserError` if it cannot be read."""
        return read_json(self.path / "cell.json") or {}

    def write_state(self, status: str, reason: str, jobs: int, starts: int) -> None:
        content = self.cell.asked | {"status": status, "reason": reason, "jobs": jobs, "starts": starts}
        write_file(self.path / "cell.json", json.dumps(content, indent=1) + "\n")

    def check(self) -> None:
        """`UserError` if what was run here is not what is asked now."""
        state = self.state()
        for key, wanted in self.cell.asked.items():
            # runs of different settings in one table would be compared as if they were one arm
            if state and state.get(key) != wanted:
                raise UserError(
                    f"{self.path} was run with {key} {state.get(key)!r}, the configuration says {wanted!r}; "
                    "choose another --output_dir, or remove that directory to run it anew"
                )

    def command(self) -> list[str]:
        """The command line that begins or continues the run.

        What cannot be continued is removed first: a training without a checkpoint, a peer's run.
        """
        found = {SEARCH: "archive/*.jsonl", GRPO: "checkpoints/**/latest_checkpointed_iteration.txt"}
        pattern = found.get(self.cell.arm.kind)
        resume = pattern is not None and any(self.run.glob(pattern))
        if not resume:
            # a run from its begin does not pay for what was thrown away
            shutil.rmtree(self.run, ignore_errors=True)
            for path in self.path.glob("usage-*.json"):
                path.unlink()
        return [sys.executable, *arguments(self.cell, self.run, resume)]

    def has_ended(self) -> bool:
        """Whether a start of the command came to its end, so that at most measuring is left."""
        # a training says so itself, before the meter that may die with it; it cannot be continued any more
        told = any(self.run.glob(f"checkpoints/**/{FINISHED_FILE}"))
        return self.run.is_dir() and (told or any(u["returncode"] == 0 for u in read_usages(self.path)))

    def drop(self, keep: str) -> None:
        """Remove what a finished run need not keep: its checkpoints, or all but measures and usages."""
        if keep != "all":
            shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        if keep == "measures":
            shutil.rmtree(self.run, ignore_errors=True)
            self.log.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The last words of the output, on one line."""
        text = self.log.read_bytes() if self.log.is_file() else b""
        return " ".join(text[-4 * LOG_TAIL :].decode(errors="replace").split())[-LOG_TAIL:]


def read_usages(directory: Path) -> list[dict[str, Any]]:
    """What each start of the command in a cell's directory took, in their order."""
    paths = sorted(directory.glob("usage-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    return [found for path in paths if (found := read_json(path)) is not None]


def arguments(cell: Cell, run_dir: Path, resume: bool) -> list[str]:
    """What Python is to run for a cell: a script of its own for a peer, else the public command line."""
    arm = cell.arm
    given: dict[str, Any] = {"problem_name": cell.problem, "seed": cell.seed, **arm.flags}
    given |= {"use_rl": True, "output_dir": run_dir} if arm.kind == GRPO else {"log_path": run_dir}
    program = ["-m", "llmsr", "run"]
    if arm.kind == PEER:
        program = [str(locate("benchmarks/peers.py"))]
    else:
        given |= {"budget": arm.budget, "resume": True if resume else None}
    flags = [(f"--{name}", str(value)) for name, value in given.items() if value is not None]
    return [*program, *itertools.chain.from_iterable(flags)]


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file; `UserError` where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove its directory to run it anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; remove its directory to run it anew")
    return content


class Runner:
    """Runs cells of a plan below `output`; `keep` says what stays of them, see `BenchmarkSettings`.

    `jobs` cells run side by side. `seconds` after the start no cell begins and those under way are asked to
    end; they go on when the benchmark is run again. `say` is told a line per event.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        output: Path,
        keep: str,
        jobs: int = 1,
        seconds: float | None = None,
        retry_failed: bool = False,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.cells, self.output, self.keep = cells, output, keep
        self.jobs, self.retry_failed, self._say = jobs, retry_failed, say
        self._end = time.monotonic() + seconds if seconds else math.inf
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._finished = self._count = 0

    def waiting(self) -> list[CellDirectory]:
        """The cells that are not finished; `UserError` for one that was run with other settings."""
        found = []
        for cell in self.cells:
            directory = CellDirectory(cell, self.output / cell.place)
            directory.check()
            status = directory.state().get("status")
            failed = status == FAILED and not self.retry_failed
            if not failed and not (status == DONE and directory.measures.is_file()):
                found.append(directory)
        return found

    def run(self) -> bool:
        """Run what is not finished; whether every cell is finished (or failed) in the end."""
        cells = self.waiting()
        self._count = len(cells)
        if not cells:
            return True
        # a problem that is not there is told before the first hour is spent
        for problem in dict.fromkeys(cell.problem for cell in self.cells):
            load_problem(problem)
        # one process compiles what all cells will use
        program = "from llmsr.fitting import warm_up; warm_up()"
        subprocess.run([sys.executable, "-c", program], env=_environment(), check=False)
        # threads wait for processes and compute nothing themselves
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._bring_forward, cell) for cell in cells]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._stop.set()
                raise
        return not self.waiting()

    def _stopping(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._end

    def _bring_forward(self, directory: CellDirectory) -> None:
        if self._stopping():
            return
        directory.path.mkdir(parents=True, exist_ok=True)
        # none where measuring failed or was killed: a finished run is not continued
        command = [] if directory.has_ended() else directory.command()
        starts = len(list(directory.path.glob("usage-*.json"))) + bool(command)
        directory.write_state(INTERRUPTED, "under way, or ended with its machine", self.jobs, starts)
        began, code, reason = time.monotonic(), 0, ""
        if command:
            code, reason = self._metered(directory, command, starts)
        if code == 0:
            code, reason = self._measured(directory)
        status = INTERRUPTED if code == INTERRUPTED_CODE else FAILED if code else DONE
        directory.write_state(status, reason, self.jobs, starts)
        if status == DONE:
            directory.drop(self.keep)
        with self._lock:
            self._finished += status != INTERRUPTED
            line = f"[{self._finished}/{self._count}] {directory.cell.name}: {status}"
            self._say(f"{line} ({time.monotonic() - began:.0f} s){': ' + reason if reason else ''}")

    def _metered(self, directory: CellDirectory, command: list[str], starts: int) -> tuple[int, str]:
        """Run a command under the meter: its exit code and, where that is not 0, the reason."""
        files = [directory.path / f"usage-{starts}.json", directory.log, directory.run / "archive"]
        meter = [sys.executable, "-m", "llmsr.benchmark.meter", *(["--no_gpu"] * (self.jobs > 1)),
                 *map(str, files), *command]  # fmt: skip
        timeout = directory.cell.arm.timeout
        deadline = time.monotonic() + timeout if timeout else math.inf
        # a session of its own: Ctrl-C reaches it through us, in order
        process = subprocess.Popen(meter, env=_environment(), start_new_session=True)
        while process.poll() is None:
            late = time.monotonic() >= deadline
            if late or self._stopping():
                _end(process)
                told = f"ended after its {timeout:g} seconds"
                return (1, told) if late else (INTERRUPTED_CODE, "interrupted")
            time.sleep(POLL_SECONDS)
        code = process.returncode
        return code, f"exit code {code}: {directory.log_tail()}" if code else ""

    def _measured(self, directory: CellDirectory) -> tuple[int, str]:
        """Write the cell's measures in a process of their own, so that cells do not wait for one another."""
        command = [sys.executable, "-m", "llmsr.benchmark.measures", str(directory.path)]
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        fault = " ".join(done.stderr.split())[-LOG_TAIL:]
        return done.returncode, f"its measures: {fault}" if done.returncode else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a meter to end its command, and insist."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    """One thread per process, so that cells side by side do not fight for cores."""
    keys = {name: os.environ[name] for name in KEPT_KEYS if name in os.environ}
    return single_thread_environment() | keys
