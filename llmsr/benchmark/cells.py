"""The state of one run of a benchmark in its directory, and the command that brings it forward.

cells/<problem>/<arm>/seed<k>/
    cell.json            what was asked, and how it stands
    usage-<n>.json       what start n of the command took (see meter)
    output.log           what it printed
    run/                 the run itself: archive, report, checkpoints
    measures.json        what everything later reads
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.benchmark.plan import GRPO, PEER, SEARCH, Cell
from llmsr.benchmark.problems import location
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import FINISHED_FILE

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
LOG_TAIL = 600  # characters of the output that a failure quotes


@dataclass(frozen=True)
class CellDirectory:
    """A cell's place on disk."""

    cell: Cell
    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def measures(self) -> Path:
        return self.path / "measures.json"

    @property
    def log(self) -> Path:
        return self.path / "output.log"

    def state(self) -> dict[str, Any]:
        """What `cell.json` says; empty where the cell was never started. `UserError` if it cannot be read."""
        return read_json(self.path / "cell.json") or {}

    def write_state(self, status: str, reason: str, jobs: int, starts: int) -> None:
        content = asked(self.cell) | {"status": status, "reason": reason, "jobs": jobs, "starts": starts}
        write_file(self.path / "cell.json", json.dumps(content, indent=1) + "\n")

    def check(self) -> None:
        """`UserError` if what was run here is not what is asked now."""
        state, wanted = self.state(), asked(self.cell)
        for key in wanted:
            if state and state.get(key) != wanted[key]:
                raise UserError(
                    f"{self.path} was run with {key} {state.get(key)!r}, the configuration says "
                    f"{wanted[key]!r}; "
                    "choose another --output_dir, or remove that directory to run it anew"
                )

    def command(self) -> tuple[list[str], bool]:
        """The command line that begins or continues the run, and whether it continues one.

        What cannot be continued is removed first: a training without a checkpoint, a peer's run.
        """
        resume = self._resumable()
        if not resume:
            shutil.rmtree(self.run, ignore_errors=True)
            for path in self.path.glob("usage-*.json"):
                path.unlink()
        return [sys.executable, "-m", "llmsr", *arguments(self.cell, self.run, resume)], resume

    def _resumable(self) -> bool:
        if self.cell.arm.kind == SEARCH:
            return any((self.run / "archive").glob("*.jsonl"))
        if self.cell.arm.kind == GRPO:
            return any(self.run.glob("checkpoints/**/latest_checkpointed_iteration.txt"))
        return False

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
        try:
            text = self.log.read_bytes()[-4 * LOG_TAIL :].decode(errors="replace")
        except OSError:
            return ""
        return " ".join(text.split())[-LOG_TAIL:]


def read_usages(directory: Path) -> list[dict[str, Any]]:
    """What each start of the command in a cell's directory took, in their order."""
    paths = sorted(directory.glob("usage-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    return [found for path in paths if (found := read_json(path)) is not None]


def asked(cell: Cell) -> dict[str, Any]:
    """What tells one run from another, as plain data."""
    arm = cell.arm
    return {"problem": cell.problem, "arm": arm.name, "kind": arm.kind, "seed": cell.seed,
            "budget": arm.budget, "flags": dict(arm.flags)}  # fmt: skip


def arguments(cell: Cell, run_dir: Path, resume: bool) -> list[str]:
    """The arguments of the public command line for a cell."""
    arm = cell.arm
    where = location(cell.problem)
    given: dict[str, Any] = {**where, "seed": cell.seed, **arm.flags}
    if arm.kind == PEER:
        return ["benchmark", "peer", *_flags(given), "--log_path", str(run_dir)]
    given["budget"] = arm.budget
    if resume:
        given["resume"] = True
    if arm.kind == GRPO:
        return ["run", "--use_rl", *_flags(given), "--output_dir", str(run_dir)]
    return ["run", *_flags(given), "--log_path", str(run_dir)]


def _flags(given: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    return words


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
