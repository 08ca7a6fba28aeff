"""Programs that a test starts and signals, and the command line called without a process of its own."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmsr.cli import main

ROOT = Path(__file__).resolve().parents[2]


def called(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `python main.py ARGUMENTS` returns and says, in this process, whose imports are paid for."""
    out, told = io.StringIO(), io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        code = main(list(arguments))
    return subprocess.CompletedProcess(list(arguments), code, out.getvalue(), told.getvalue())


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A started program that heeds Ctrl-C and does not outlive the block.

    A shell has its background jobs ignore SIGINT, and the tests may be one.
    """
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
