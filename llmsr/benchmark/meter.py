"""What a command costs: seconds, CPU seconds of all its processes, peak memory, GPU seconds, over time.

    python -m llmsr.benchmark.meter [--no_gpu] USAGE.json LOG ARCHIVE COMMAND...

A process of its own, so that daemons and orphans of the command are its children in the end (child subreaper)
and their CPU time is counted when they are reaped, however they ended. Memory is the proportional set size
summed over the process tree, so that shared pages count once; where the kernel does not tell it, the resident
size. Both peaks are of samples, a second or more apart. The GPUs' memory is the machine's, so that it tells
of the command only where nothing else uses them; --no_gpu leaves them out. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from llmsr.workers.process import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, kill_children, prctl

FIRST_INTERVAL, LAST_INTERVAL = 0.5, 2.0  # seconds between samples; a scan of /proc takes milliseconds
WRITE_SECONDS = 10.0
GRACE_SECONDS = 60.0  # for the command to end by itself once it was asked to
MOST_TICKS = 400
CLOCK = os.sysconf("SC_CLK_TCK")


Tick = tuple[float, float, float, int]


@dataclass
class Usage:
    """What one start of a command took so far.

    `ticks` are (seconds, CPU seconds, GPU seconds, records archived) in the order of time: the first look at
    every number of records, and the last one before it if that was later than its own first. GPU seconds are
    those during which the machine's GPUs held more memory than before the start, times such GPUs; both GPU
    figures are None where there is no GPU. `returncode` is None while it runs, negative for a signal.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_host_bytes: int = 0
    gpu_seconds: float | None = None
    peak_gpu_bytes: int | None = None
    returncode: int | None = None
    ticks: list[Tick] = field(default_factory=list)


def main(argv: list[str]) -> int:
    watch_gpu = argv[0] != "--no_gpu"
    usage_path, log_path, archive, *command = argv if watch_gpu else argv[1:]
    parent = os.getppid()
    meter = Meter(Path(archive), Path(usage_path), watch_gpu)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, meter.stop)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be followed
        return 1
    with open(log_path, "ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    code = meter.watch(child).returncode
    return code if code is not None and code >= 0 else 1


class Meter:
    """Watches one started command until it and all that it started have ended."""

    def __init__(self, archive: Path, usage_path: Path, watch_gpu: bool = True) -> None:
        self.usage_path = usage_path
        self.usage = Usage()
        self._lines = Lines(archive)
        self._gpus = Gpus(watch_gpu)
        self._began = time.monotonic()
        self._asked: float | None = None  # when this process was asked to end
        self._told = False  # the command was asked to end
        self._still: Tick | None = None  # the latest look, if nothing had come since the one before it

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal: the command is asked to end, and ended where it does not."""
        self._asked = self._asked or time.monotonic()

    def watch(self, child: subprocess.Popen[bytes]) -> Usage:
        """The final usage, which is also in the usage file; written there now and then before."""
        interval, written, last = FIRST_INTERVAL, self._began, self._began
        while self._waits(child, interval):
            now = time.monotonic()
            self._sample(now - last)
            last = now
            if now - written > WRITE_SECONDS:
                with contextlib.suppress(OSError):  # a disk that is full for a while ends no run
                    self._write()
                written = time.monotonic()
            interval = min(LAST_INTERVAL, interval * 1.1)
        kill_children(None)
        self.usage.seconds = time.monotonic() - self._began
        self.usage.cpu_seconds = _reaped_seconds() - self._gpus.cpu_seconds
        self._tick(last=True)
        self.usage.returncode = child.returncode
        self._write()
        return self.usage

    def _waits(self, child: subprocess.Popen[bytes], seconds: float) -> bool:
        """Wait, passing on a request to end; whether the command still runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and child.poll() is None:
            if self._asked is not None and not self._told:
                child.terminate()
                self._told = True
            elif self._asked is not None and time.monotonic() - self._asked > GRACE_SECONDS:
                child.kill()
            time.sleep(0.02)
        return child.poll() is None

    def _sample(self, passed: float) -> None:
        usage, tree = self.usage, process_tree(os.getpid())
        usage.seconds = time.monotonic() - self._began
        spent = _reaped_seconds() - self._gpus.cpu_seconds
        usage.cpu_seconds = spent + sum(tree.values())
        usage.peak_host_bytes = max(usage.peak_host_bytes, sum(map(memory_bytes, tree)))
        held = self._gpus.held()
        if held is not None:
            usage.peak_gpu_bytes = max(usage.peak_gpu_bytes or 0, sum(held))
            usage.gpu_seconds = (usage.gpu_seconds or 0.0) + passed * sum(1 for one in held if one > 0)
        self._tick()

    def _tick(self, last: bool = False) -> None:
        usage = self.usage
        row = (round(usage.seconds, 2), round(usage.cpu_seconds, 2), round(usage.gpu_seconds or 0.0, 2),
               self._lines.count())  # fmt: skip
        if not last and usage.ticks and row[3] == usage.ticks[-1][3]:
            self._still = row  # a stall ends here if the next look finds more
            return
        usage.ticks += [row] if self._still is None else [self._still, row]
        self._still = None
        if len(usage.ticks) > MOST_TICKS:
            usage.ticks[:] = thinned(usage.ticks)

    def _write(self) -> None:
        # whoever reads meanwhile finds a whole file
        temporary = self.usage_path.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(self.usage)), encoding="utf-8")
        os.replace(temporary, self.usage_path)


def thinned(ticks: Sequence[Tick]) -> list[Tick]:
    """Half of them, with both ends: those whose seconds the ticks beside them tell least, so stalls stay."""

    def untold(i: int) -> float:
        (t0, _, _, n0), (t1, _, _, n1), (t2, _, _, n2) = ticks[i - 1 : i + 2]
        return abs(t1 - t0 - (t2 - t0) * (n1 - n0) / max(1, n2 - n0))

    inner = sorted(range(1, len(ticks) - 1), key=untold, reverse=True)[: len(ticks) // 2 - 2]
    return [ticks[i] for i in sorted({0, len(ticks) - 1, *inner})]


class Lines:
    """Counts the records of an archive as they come; refinements are left out."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._read: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        for path in self.archive.glob("*.jsonl"):
            if path.name.startswith("refine"):
                continue
            with contextlib.suppress(OSError), open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                while block := file.read(2**20):
                    self._count += block.count(b"\n")
                self._read[path] = file.tell()
        return self._count


def process_tree(root: int) -> dict[int, float]:
    """CPU seconds of all living descendants of a process, those of children they waited for included."""
    parents, seconds = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            words = text.rpartition(")")[2].split()  # a program's name may hold spaces
            parents[int(name)] = int(words[1])
            seconds[int(name)] = sum(map(int, words[11:15])) / CLOCK
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return {pid: seconds[pid] for pid in tree if pid in seconds and pid != root}


def memory_bytes(pid: int) -> int:
    """The proportional set size of a process, else its resident size; 0 where it is gone."""
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            text = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
            return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key))
    return 0


class Gpus:
    """Memory of the NVIDIA GPUs that the command may use, beyond what was held at the start."""

    def __init__(self, watch: bool) -> None:
        self.cpu_seconds = 0.0  # of the asking itself, which is not the command's
        tool, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = [] if visible is None else [f"--id={visible}"]
        asked = [tool or "", "--query-gpu=memory.used", "--format=csv,noheader,nounits", *chosen]
        self._query = asked if watch and tool and visible != "" else None
        self._before = self._used()

    def held(self) -> list[int] | None:
        """Bytes per GPU, None where there is none."""
        used = self._used()
        if self._before is None or used is None or len(used) != len(self._before):
            return None
        return [max(0, now - before) for now, before in zip(used, self._before, strict=True)]

    def _used(self) -> list[int] | None:
        if self._query is None:
            return None
        before = _reaped_seconds()
        try:
            told = subprocess.run(self._query, capture_output=True, text=True, timeout=10, check=True).stdout
            return [int(line) * 2**20 for line in told.split()] or None
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        finally:
            self.cpu_seconds += _reaped_seconds() - before


def _reaped_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
