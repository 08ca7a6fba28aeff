"""Golden answers: what reading a text gives, kept in a file, so that a rewrite can be held against it.

    python scripts/golden.py compare                every kept answer, differences by kind; exits 1 if any
    python scripts/golden.py compare --every 10     a tenth of them
    python scripts/golden.py write                  read the kept answers anew and keep what comes out
    python scripts/golden.py write --corpus FOLDER  take the answers anew: bodies of tests and benchmarks
                                                    and a sample of the *.jsonl.xz files of FOLDER

An answer is a whole text of a language model, or a bare body. Kept are its status, the hash of its canonical
form, its complexity, three values (at made-up constants), and of every tenth one the train NMSE that a fit
reaches.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from llmsr.completion import NoBody, read_completion  # noqa: E402
from llmsr.expression import Expression, Refusal, evaluate, parse  # noqa: E402
from llmsr.expression.canonical import canonicalize  # noqa: E402
from llmsr.expression.graph import complexity  # noqa: E402
from llmsr.fitting import fit  # noqa: E402
from llmsr.problem.loading import Problem, load_problem  # noqa: E402
from llmsr.problem.spec import read_as_meant  # noqa: E402

FILE = ROOT / "tests" / "golden" / "answers.jsonl.xz"
VERSIONS = {
    "equation_v0": "    return params[0] * x + params[1] * v\n",
    "equation_v1": "    y = equation_v0(x, v, params)\n    return y + params[2] * x ** 3\n",
}
"""What bodies of the tests may call; the prompts of the kept answers were not kept."""

PARAMS = (np.linspace(0.4, 2.2, 10), np.linspace(-1.3, 1.1, 10), np.linspace(1.7, 0.2, 10))
SAME_VALUE = 1e-4  # relative; six digits are kept
SAME_NMSE = 0.01  # relative: other orders of the same operations end a fit at slightly other constants
FLOOR = 1e-10  # below it NMSE is rounding

Case = dict[str, Any]
"""One answer: "source", "text", "problem" or "columns", and under "found" what reading it gave."""


def read(case: Case) -> dict[str, Any]:
    """Status and reason of a text, and what is known of its equation if it has one."""
    expression = _expression(case)
    if isinstance(expression, tuple):
        return {"status": expression[0], "reason": expression[1][:80]}
    form = canonicalize(expression)
    if not form.expression.inputs:
        return {"status": "constant", "reason": "the inputs cancel out"}
    return {
        "status": "ok",
        "form": form.hash[:16],
        "complexity": complexity(expression),
        "values": [
            _number(float(evaluate(expression, _rows(case, expression, i), params)[0]))
            for i, params in enumerate(PARAMS)
        ],
    }


def _expression(case: Case) -> Expression | tuple[str, str]:
    if "columns" in case:
        versions = VERSIONS if case["columns"] == ["x", "v"] else None
        found: Expression | Refusal = parse(case["text"], case["columns"], versions=versions)
    else:
        spec = _problem(case["problem"]).spec
        body = read_completion(case["text"], spec.function_name)
        if isinstance(body, NoBody):
            return body.kind, body.reason
        own = body.arguments is not None and len(body.arguments) == len(spec.columns) + 1
        found = read_as_meant(spec, body.text, body.arguments if own else None).expression
    return (found.kind, found.reason) if isinstance(found, Refusal) else found


def train_nmse(case: Case) -> float | None:
    """The train NMSE of a problem's answer after its fit, None where there is no finite one."""
    expression, problem = _expression(case), _problem(case["problem"])
    assert isinstance(expression, Expression)
    found = fit(canonicalize(expression), problem, mode="best", deadline=30.0)
    if found.status != "ok" or found.loss is None:
        return None
    return _number(found.loss / float(np.var(problem.train.target)))


@cache
def _problem(name: str) -> Problem:
    return load_problem(
        name, data_dir=ROOT / "data", spec_path=ROOT / "specs" / f"specification_{name}_numpy.txt"
    )


def _rows(case: Case, expression: Expression, number: int) -> np.ndarray:
    """One row: of the problem's data, or made up for other columns."""
    if "problem" in case:
        inputs = _problem(case["problem"]).train.inputs
        return inputs[[(number + 1) * len(inputs) // 4]]
    return np.random.default_rng(number).uniform(-1.5, 1.5, (1, len(expression.columns)))


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


# ---- what differs


def difference(kept: dict[str, Any], found: dict[str, Any]) -> str | None:
    """The kind of difference between two readings of a text, None where they agree."""
    if kept["status"] != found["status"]:
        return f"status: {kept['status']} -> {found['status']}"
    if kept["status"] != "ok":
        return None
    if not all(_close(a, b) for a, b in zip(kept["values"], found["values"], strict=True)):
        return "values"
    for key in ("form", "complexity"):
        if kept[key] != found[key]:
            return {"form": "canonical form, values equal", "complexity": "complexity, form equal"}[key]
    if "nmse" not in kept or "nmse" not in found:
        return None
    old, new = (math.inf if entry["nmse"] is None else max(entry["nmse"], FLOOR) for entry in (kept, found))
    if old == new or abs(new - old) <= SAME_NMSE * min(old, new):
        return None
    return "train NMSE: larger" if new > old else "train NMSE: smaller"


def _close(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else abs(a - b) <= SAME_VALUE * max(abs(a), abs(b)) + 1e-12


def compare(cases: Iterable[Case], fits: bool = True) -> dict[str, list[tuple[Case, dict[str, Any]]]]:
    """The differing cases by kind of difference, each with what reading it gives."""
    kinds = defaultdict(list)
    for case in cases:
        found = read(case)
        if fits and found["status"] == "ok" and "nmse" in case["found"]:
            found["nmse"] = train_nmse(case)
        kind = difference(case["found"], found)
        if kind is not None:
            kinds[kind].append((case, found))
    return kinds


def report(cases: list[Case], kinds: dict[str, list[tuple[Case, dict[str, Any]]]], shown: int) -> str:
    """The differences for people: counts by source and kind, then up to `shown` texts of each kind."""
    lines = [f"{len(cases)} answers, {sum(map(len, kinds.values()))} differ"]
    for kind, differing in sorted(kinds.items()):
        sources = Counter(case["source"] for case, _ in differing)
        by_source = ", ".join(f"{n} {source}" for source, n in sources.most_common())
        lines.append(f"\n{kind}: {len(differing)} ({by_source})")
        for case, found in differing[:shown]:
            lines += [f"  kept  {json.dumps(case['found'])}", f"  found {json.dumps(found)}"]
            lines.append("    | " + case["text"].strip()[-600:].replace("\n", "\n    | "))
    return "\n".join(lines)


# ---- the file


def load(path: Path = FILE) -> list[Case]:
    """The kept answers of a file of JSON lines, compressed by xz."""
    return _lines(path)


def save(cases: list[Case], path: Path) -> None:
    text = "\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))


def with_findings(cases: Iterable[Case], fits: bool = True) -> Iterator[Case]:
    """The cases with what reading them gives; of every tenth one of a problem the equation is fitted too."""
    for number, case in enumerate(cases):
        found = read(case)
        if fits and number % 10 == 0 and "problem" in case and found["status"] == "ok":
            found["nmse"] = train_nmse(case)
        yield case | {"found": found}


def collected(corpus: Path, keep: int) -> Iterator[Case]:
    """The bodies of tests and benchmarks, and `keep` answers of a corpus (0: all), evenly over its kinds."""
    for path in sorted((ROOT / "tests" / "support" / "bodies").glob("*.jsonl")):
        for entry in _lines(path):
            yield {"source": f"tests/{path.stem}", "columns": entry["columns"], "text": entry["body"]}
    for path in sorted((ROOT / "benchmarks" / "corpus").glob("*.jsonl")):
        for entry in _lines(path):
            yield {"source": "benchmarks", "problem": entry["problem"], "text": entry["body"]}
    groups: dict[tuple[str, str], dict[str, Case]] = defaultdict(dict)
    for path in sorted(corpus.glob("*.jsonl.xz")):
        for entry in _lines(path):
            source = entry.get("form", "training")
            text: str = entry.get("text") or entry["completion"]
            problem: str = entry.get("problem", "oscillator1")
            case = {"source": source, "problem": problem, "text": text}
            groups[path.name if source == "training" else source, problem].setdefault(text, case)
    share = keep / sum(map(len, groups.values())) if keep else 1.0
    for _, group in sorted(groups.items()):
        cases = list(group.values())
        chosen = np.linspace(0, len(cases) - 1, math.ceil(share * len(cases))).astype(int)
        yield from (cases[i] for i in sorted(set(chosen.tolist())))


def _lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def main() -> int:
    """Runs one verb; 1 if a comparison finds differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("compare", "write"))
    parser.add_argument("--file", type=Path, default=FILE, help="the kept answers (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="compare every N-th answer only")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="texts shown of each kind")
    parser.add_argument("--no-fits", action="store_true", help="leave the train NMSE out")
    parser.add_argument("--corpus", type=Path, help="a folder of *.jsonl.xz files of answers to sample")
    parser.add_argument("--keep", type=int, default=3_000, metavar="N", help="answers to sample; 0: all")
    args = parser.parse_args()
    if args.verb == "compare":
        cases = load(args.file)[:: args.every]
        kinds = compare(cases, fits=not args.no_fits)
        print(report(cases, kinds, args.show))
        return int(bool(kinds))
    cases = list(collected(args.corpus, args.keep)) if args.corpus else load(args.file)
    save(list(with_findings(cases, not args.no_fits)), args.file)
    print(f"{len(cases)} answers, {args.file.stat().st_size} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
