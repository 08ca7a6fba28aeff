"""Counts this house: lines, modules, circles and floors of llmsr/, and how many modules one sample passes.

    python scripts/house.py              the table
    python scripts/house.py --ways       with the modules that each way passes
    python scripts/house.py --no_trace   without the ways, in a second

A way is counted while it is gone: a real body, a real search sample and a real GRPO answer, every call of the
parent and of its workers recorded (`scripts/tracing`), after a warm-up that has started everything.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRACING = ROOT / "scripts" / "tracing"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("answer_text", "config", "files", "interruption"),
    ("declarations",),
    ("settings",),
    ("expression", "workers"),
    ("completion", "problem"),
    ("fitting", "sample"),
    ("archive", "run_directory"),
    ("evaluator",),
    ("context",),
    ("prompt",),
    ("models", "pictures", "tools"),
    ("proposers", "refinement"),
    ("search",),
    ("report", "reward"),
    ("grpo",),
    ("estimator", "benchmark"),
    ("cli",),
    ("llmsr", "__main__"),
)
"""The rooms from the ground up: a room imports only from floors below its own."""

BODY = "    a = params[0] * np.sin(x)\n    b = params[1] * v**3\n    return a + b + params[2] * x\n"
DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|pragma:|ruff:|mypy:)")


@dataclass(frozen=True)
class Module:
    """One file of the package; `imports` are the modules that it needs when it runs, late imports too."""

    name: str
    lines: int
    comments: int
    imports: frozenset[str]


def read_modules(root: Path = ROOT) -> dict[str, Module]:
    """Every module of llmsr/ by its name."""
    paths = {_module_name(path, root): path for path in sorted((root / "llmsr").rglob("*.py"))}
    return {name: _read_module(name, path, frozenset(paths)) for name, path in paths.items()}


def _module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _read_module(name: str, path: Path, known: frozenset[str]) -> Module:
    text = path.read_text(encoding="utf-8")
    imports = frozenset(_imports(ast.parse(text), known)) - {name}
    return Module(name, len(text.splitlines()), _comment_lines(text), imports)


def _imports(node: ast.AST, known: frozenset[str]) -> Iterator[str]:
    """The modules of the package that the code imports; what only a type checker imports is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in known)
        elif isinstance(child, ast.ImportFrom) and child.module in known:
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield inner if inner in known else child.module
        else:
            yield from _imports(child, known)


def _comment_lines(text: str) -> int:
    """Lines with a comment for people; directives to tools are none."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = {t.start[0] for t in tokens if t.type == tokenize.COMMENT and not DIRECTIVE.match(t.string)}
    return len(found)


def import_circles(modules: dict[str, Module]) -> list[tuple[str, ...]]:
    """The groups of modules that import one another, each sorted (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(modules[name].imports):
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                circles.append(tuple(sorted(group)))

    for name in modules:
        if name not in order:
            visit(name)
    return sorted(circles)


def room_of(name: str) -> str:
    """The room of a module: the folder or file below llmsr/ that holds it."""
    return name.split(".")[1] if "." in name else name


def upward_imports(modules: dict[str, Module]) -> list[str]:
    """Every import from the same floor or from above, as `importer -> imported`; a KeyError: no such room."""
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return sorted(
        f"{module.name} -> {other}"
        for module in modules.values()
        for other in module.imports
        if room_of(other) != room_of(module.name)
        and floors[room_of(other)] >= floors[room_of(module.name)]
        and other != "llmsr"  # its version
    )


# ---- ways


@dataclass(frozen=True)
class Way:
    """What one sample passed: the modules, and how often a call went from one of them to another."""

    modules: tuple[str, ...]
    jumps: int


Mark = Callable[[], None]


def one_body(folder: Path, mark: Mark) -> None:
    """One body of three lines through the evaluator: read, looked up, fitted."""
    from llmsr.evaluator import Evaluator
    from llmsr.problem.loading import load_problem

    with Evaluator(load_problem("oscillator1"), workers=1) as evaluator:
        evaluator.evaluate("")
        mark()
        assert evaluator.evaluate(BODY).ok
        mark()


def one_sample(folder: Path, mark: Mark) -> None:
    """One sample of the search, from the prompt to the archive; the grammar proposes, nothing is refined."""
    from llmsr.archive import Archive
    from llmsr.evaluator import Evaluator
    from llmsr.problem.loading import load_problem
    from llmsr.proposers.choice import make_proposer
    from llmsr.search.search import Search
    from llmsr.settings import ProposerConfig, SearchSettings

    problem = load_problem("oscillator1")
    settings = SearchSettings(budget=1, samples_per_prompt=1, refine="off")
    with Evaluator(problem, workers=1) as evaluator, Archive(folder) as archive:
        search = Search(
            problem, make_proposer(ProposerConfig(proposer="grammar")), evaluator, archive, settings
        )
        mark()
        assert search.run().valid == 1
        mark()


def one_answer(folder: Path, mark: Mark) -> None:
    """One answer of a training through the reward function that VERL calls."""
    from llmsr.grpo.answer_archive import set_number
    from llmsr.grpo.plan import make_plan
    from llmsr.grpo.reward_function import compute_score_of
    from llmsr.grpo.run_record import write_run_files
    from llmsr.grpo.settings import GrpoConfig
    from llmsr.problem.loading import load_problem

    config = GrpoConfig(output_dir=str(folder), batch_size=2, rollout_n=2, workers=1)
    plan = make_plan(config, cuda=False)
    write_run_files(plan, [load_problem(config.problem_name)])
    set_number(plan.run_dir, 0)
    compute_score = compute_score_of(plan.run_dir)
    info = {"problem": "oscillator1", "index": 0, "split": "train", "versions": "{}", "shown": "[]"}
    compute_score("llmsr/oscillator1", "", "oscillator1", info)
    mark()
    assert compute_score("llmsr/oscillator1", BODY, "oscillator1", info)["valid"] == 1.0
    mark()


WAYS = {"body": one_body, "search sample": one_sample, "GRPO answer": one_answer}


def trace(way: str) -> Way:
    """Go a way in a process of its own that records every call in it and in its workers."""
    with tempfile.TemporaryDirectory() as folder:
        traces = Path(folder) / "traces"
        traces.mkdir()
        path = os.pathsep.join([str(TRACING), str(ROOT)])
        marks = _run(way, folder, {"LLMSR_TRACE": str(traces), "PYTHONPATH": path})
        steps = _steps_between(traces, *marks)
    modules = {callee for _, callee in steps} | {caller for caller, _ in steps if caller != "-"}
    return Way(tuple(sorted(modules)), len(steps))


def compile_kernels() -> None:
    """Fill numba's cache: a compilation that is recorded takes minutes."""
    with tempfile.TemporaryDirectory() as folder:
        _run("body", folder, {"LLMSR_TRACE": folder})


def _run(way: str, folder: str, environment: dict[str, str]) -> list[dict[str, int]]:
    """Go a way in a new process; the lengths of all traces at its two marks come back."""
    command = [sys.executable, str(Path(__file__).resolve()), "--go", way, "--folder", folder]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr}")
    marks: list[dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return marks


def _go(way: str, folder: Path) -> None:
    """Go a way; the lengths of all traces at its two marks are the last line on standard output."""
    marks: list[dict[str, int]] = []
    traces = Path(os.environ["LLMSR_TRACE"])

    def mark() -> None:
        marks.append({path.name: path.stat().st_size for path in traces.iterdir()})

    WAYS[way](folder / "run", mark)
    print(json.dumps(marks))


def _steps_between(traces: Path, before: dict[str, int], after: dict[str, int]) -> list[tuple[str, str]]:
    steps = []
    for process, end in after.items():
        text = (traces / process).read_bytes()[before.get(process, 0) : end].decode()
        steps += [(caller, callee) for caller, callee in map(str.split, text.splitlines())]
    return steps


# ---- the table


def table(modules: dict[str, Module], ways: dict[str, Way]) -> str:
    """All figures as Markdown: the house, its rooms, the ways."""
    lines = sum(module.lines for module in modules.values())
    longest = max(modules.values(), key=lambda module: module.lines)
    comments = sum(module.comments for module in modules.values())
    figures = [
        ("lines", f"{lines:,}"),
        ("modules", str(len(modules))),
        ("longest module", f"{longest.lines} ({longest.name})"),
        ("modules above 400 lines", str(sum(m.lines > 400 for m in modules.values()))),
        ("comment lines", f"{comments / lines:.1%}"),
        ("import circles", str(len(import_circles(modules)))),
        ("imports against the floors", str(len(upward_imports(modules)))),
        *(
            (f"modules that one {name} passes", f"{len(w.modules)} ({w.jumps} jumps)")
            for name, w in ways.items()
        ),
    ]
    rows = ["| the house | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures), ""]
    rows += ["| room | lines | modules | comment lines | longest |", "|---|---:|---:|---:|---:|"]
    rooms: dict[str, list[Module]] = {}
    for module in modules.values():
        rooms.setdefault(room_of(module.name), []).append(module)
    for room, inside in sorted(rooms.items(), key=lambda item: -sum(m.lines for m in item[1])):
        total = sum(m.lines for m in inside)
        share = sum(m.comments for m in inside) / max(total, 1)
        rows.append(f"| {room} | {total:,} | {len(inside)} | {share:.1%} | {max(m.lines for m in inside)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no_trace", action="store_true", help="count files only")
    parser.add_argument("--ways", action="store_true", help="list the modules of each way")
    parser.add_argument("--go", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.go:
        _go(options.go, options.folder)
        return
    ways = {}
    if not options.no_trace:
        compile_kernels()
        ways = {name: trace(name) for name in WAYS}
    modules = read_modules()
    print(table(modules, ways))
    for circle in import_circles(modules):
        print("\ncircle: " + ", ".join(circle))
    for upward in upward_imports(modules):
        print(f"\nagainst the floors: {upward}")
    if options.ways:
        for name, way in ways.items():
            print(f"\n{name}: " + ", ".join(way.modules))


if __name__ == "__main__":
    main()
