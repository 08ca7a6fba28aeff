"""`python -m llmsr mcp`: the command line as tools of the Model Context Protocol, for coding agents.

Every tool is a verb run in a process of its own, so an agent and a shell do the same and see the same files.
All of them lie below the server's folder.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.cli.shared import Verb
from llmsr.config import Checked, option
from llmsr.errors import UserError
from llmsr.files import import_path
from llmsr.workers.child import start_child

SEVERAL_SECONDS = 600.0  # that a tool other than search may take
COMMAND = [sys.executable, "-m", "llmsr"]
STOP_SECONDS = 60.0  # that a search has to write its results
TOLD = (
    "Discovers equations in tables. Make a problem of a CSV file with new, begin a search, ask for its "
    "status until it is finished, then for the best equation; score fits your own ideas for the problem."
)


@dataclass(frozen=True)
class ServerSettings(Checked):
    """what is served"""

    directory: str = option(
        ".", "folder of problems and runs; it touches no file outside", metavar="DIR", positional=True
    )
    port: int = option(
        0, "serve HTTP at this port of loopback; 0: standard input and output", least=0, most=65535
    )
    search_flags: str = option("", 'flags of every search, such as "--use_api True --api_model gpt-4o-mini"')


class Tools:
    """The tools, each a method whose signature and docstring are what an agent is told of it.

    A verb that fails raises the server's ToolError with the sentence that the verb printed.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.folder = Path(settings.directory).resolve()
        self.flags = shlex.split(settings.search_flags)
        self.how: Any = {"cwd": self.folder, "env": os.environ | {"PYTHONPATH": import_path(os.environ)}}
        self.running: dict[Path, subprocess.Popen[bytes]] = {}

    def new(
        self, name: str, csv: str, target: str, description: str = "", units: str = "", meanings: str = ""
    ) -> dict[str, Any]:
        """Make a problem from a CSV file of the folder.

        name: what to call it; csv: the file's path below the folder; target: the column to find an equation
        for; description: what the data are, in a sentence; units such as "t=min,temp=K" and meanings such as
        "t=time since pouring" are optional. Answers with columns, rows and notices.
        """
        words = ["--name", self._name(name), "--csv", str(self._inside(csv)), "--target", target]
        for flag, value in (("description", description), ("units", units), ("meanings", meanings)):
            words += [f"--{flag}", value] if value else []
        return self._json("new", *words)

    def score(self, problem: str, bodies: list[str]) -> list[dict[str, Any]]:
        """Fit and score function bodies, such as "return params[0]*np.sin(x)", on a problem.

        Answers with one object per body: status, reason, NMSE on each split, constants, equation.
        """
        lines = "".join(json.dumps({"id": i, "body": body}) + "\n" for i, body in enumerate(bodies, start=1))
        printed = self._verb("score", "--problem_name", self._name(problem), given=lines)
        return [json.loads(line) for line in printed.splitlines()]

    def search(self, problem: str, run: str, samples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Begin a search for the equation of a problem and return at once.

        run: a new name for the run, which the other tools take; samples: how many answers a model is asked
        for at most. Ask for the status after some seconds.
        """
        directory = self._run(run)
        words = ["--problem_name", self._name(problem), "--log_path", str(directory)]
        words += ["--budget", str(samples), "--seed", str(seed), *self.flags]
        directory.mkdir(parents=True, exist_ok=True)
        # a client gives its server two seconds and then kills its group: less than results take to be written
        with open(directory / "mcp.log", "ab") as log:
            self.running[directory] = start_child([*COMMAND, "run", *words], log, **self.how)
        return {"run": run, "status": "running"}

    def status(self, run: str) -> dict[str, Any]:
        """How a run stands: running, finished, unfinished or failed; samples so far, the pick's errors."""
        directory = self._run(run)
        process = self.running.get(directory)
        running = process is not None and process.poll() is None
        if process is not None and process.returncode:
            said = (directory / "mcp.log").read_text(encoding="utf-8", errors="replace")
            return {"run": run, "status": "failed", "reason": _last_line(said) or "it ended without a word"}
        if running and not (directory / "archive").is_dir():
            return {"run": run, "status": "running", "samples": 0}
        found = self._json("show", str(directory))
        state = "running" if running else "finished" if found["finished"] else "unfinished"
        told = {key: found[key] for key in ("problem", "samples", "valid", "distinct")}
        return {"run": run, "status": state, **told, "nmse": (found["pick"] or {}).get("nmse")}

    def best(self, run: str) -> dict[str, Any]:
        """What a run found: the picked equation with its constants and errors, and the Pareto front."""
        return self._json("show", str(self._run(run)))

    def predict(self, run: str, rows: list[dict[str, float]]) -> list[dict[str, Any]]:
        """What the run's equation says for rows of input values, each an object from column to number."""
        with tempfile.NamedTemporaryFile("w", suffix=".csv", dir=self.folder, newline="") as table:
            writer = csv.DictWriter(table, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
            table.flush()
            printed = self._verb("predict", str(self._run(run)), "--csv", table.name)
        return list(csv.DictReader(printed.splitlines()))

    def stop(self, run: str) -> dict[str, Any]:
        """End a search that this server began; what it has found stays and can be asked for."""
        process = self.running.get(self._run(run))
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(STOP_SECONDS)
        return {"run": run, "status": "stopped"}

    def close(self) -> None:
        """Ask all searches to end with their results."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            process.wait(STOP_SECONDS)

    # ---- verbs and paths

    def _json(self, verb: str, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._verb(verb, *words, "--json"))
        return found

    def _verb(self, verb: str, *words: str, given: str = "") -> str:
        """What a verb prints on standard output."""
        streams: Any = {"input": given, "capture_output": True, "text": True, "timeout": SEVERAL_SECONDS}
        done = subprocess.run([*COMMAND, verb, *words], check=False, **streams, **self.how)
        if done.returncode:
            raise _tool_error(_last_line(done.stderr) or f"{verb} failed")
        return done.stdout

    def _inside(self, path: str) -> Path:
        """A path below the folder, links followed."""
        found = (self.folder / path).resolve()
        if not found.is_relative_to(self.folder):
            raise _tool_error(f"{path} is outside the server's folder {self.folder}")
        return found

    def _name(self, name: str) -> str:
        for place in ("data", "specs"):
            self._inside(f"{place}/{name}")
        if name.startswith("-"):
            raise _tool_error(f"{name} is no name: it begins with a dash")
        return name

    def _run(self, run: str) -> Path:
        return self._inside(f"logs/{run}")


def _tool_error(sentence: str) -> Exception:
    from mcp.server.mcpserver.exceptions import ToolError

    return ToolError(sentence)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("llmsr: ")


@Verb
def mcp(settings: ServerSettings) -> int:
    """Serve new, score, search, status, best, predict and stop to a coding agent.

    The Model Context Protocol goes over standard input and output, or with --port over HTTP on loopback. When
    the agent closes the connection, the searches that are under way end.

    example, as most agents are told of a server:
      {"mcpServers": {"llmsr": {"command": "llmsr", "args": ["mcp", "work"]}}}
    """
    try:
        from mcp.server import MCPServer
    except ImportError:
        raise UserError("llmsr mcp needs the package mcp; pip install 'llmsr[mcp]'") from None
    if not Path(settings.directory).is_dir():
        raise UserError(f"{settings.directory} is no directory; make it first")
    tools = Tools(settings)
    server = MCPServer("llmsr", instructions=TOLD, log_level="ERROR")
    for tool in (tools.new, tools.score, tools.search, tools.status, tools.best, tools.predict, tools.stop):
        server.add_tool(tool)
    try:
        if settings.port:
            server.run("streamable-http", port=settings.port)
        else:
            server.run()
    finally:
        tools.close()
    return 0
