"""Runs the cells of a benchmark, several side by side, each by the public command line under a meter.

What is finished is skipped, what was interrupted goes on. A cell that fails is written down and the rest go
on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmsr.benchmark.cells import DONE, FAILED, INTERRUPTED, CellDirectory
from llmsr.benchmark.plan import Cell
from llmsr.benchmark.problems import load
from llmsr.workers.pool import single_thread_environment

KEPT_KEYS = ("API_KEY", "OPENAI_API_KEY", "HF_TOKEN")  # a proposer may need them; fits do not get them
STOP_SECONDS = 90.0  # for a run to end by itself: the sample in flight, its report
POLL_SECONDS = 0.1
INTERRUPTED_CODE = 130  # of the command line, with the results so far


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
        self.cells = cells
        self.output = output
        self.keep = keep
        self.jobs = jobs
        self.retry_failed = retry_failed
        self._say = say
        self._end = time.monotonic() + seconds if seconds else None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._finished = 0
        self._count = 0

    def directory(self, cell: Cell) -> CellDirectory:
        return CellDirectory(cell, self.output / cell.place)

    def waiting(self) -> list[CellDirectory]:
        """The cells that are not finished; `UserError` for one that was run with other settings."""
        found = []
        for cell in self.cells:
            directory = self.directory(cell)
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
        for problem in dict.fromkeys(cell.problem for cell in self.cells):
            load(problem)
        _warm_up()
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
        return self._stop.is_set() or (self._end is not None and time.monotonic() >= self._end)

    def _bring_forward(self, directory: CellDirectory) -> None:
        if self._stopping():
            return
        directory.path.mkdir(parents=True, exist_ok=True)
        command: list[str] = []  # none where measuring failed or was killed: a finished run is not continued
        if not directory.has_ended():
            command, _ = directory.command()
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
        usage = directory.path / f"usage-{starts}.json"
        meter = [sys.executable, "-m", "llmsr.benchmark.meter", *(["--no_gpu"] * (self.jobs > 1)),
                 str(usage), str(directory.log),
                 str(directory.run / "archive"), *command]  # fmt: skip
        timeout = directory.cell.arm.timeout
        process = subprocess.Popen(meter, env=_environment(), start_new_session=True)
        deadline = time.monotonic() + timeout if timeout else None
        reason = ""
        while process.poll() is None:
            late = deadline is not None and time.monotonic() >= deadline
            if late or self._stopping():
                reason = f"ended after its {timeout:g} seconds" if late else "interrupted"
                _end(process)
                break
            time.sleep(POLL_SECONDS)
        if reason:
            return (INTERRUPTED_CODE if reason == "interrupted" else 1), reason
        if process.returncode:
            return process.returncode, f"exit code {process.returncode}: {directory.log_tail()}"
        return 0, ""

    def _measured(self, directory: CellDirectory) -> tuple[int, str]:
        """Write the cell's measures in a process of their own, so that cells do not wait for one another."""
        command = [sys.executable, "-m", "llmsr", "benchmark", "measure", str(directory.path)]
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            return done.returncode, f"its measures: {' '.join(done.stderr.split())[-600:]}"
        return 0, ""


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


def _warm_up() -> None:
    """Let one process compile what all cells will use."""
    program = "from llmsr.fitting.search import warm_up; warm_up()"
    subprocess.run([sys.executable, "-c", program], env=_environment(), check=False)
