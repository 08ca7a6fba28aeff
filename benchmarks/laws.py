"""How many laws a search without a model names, of problems whose laws are known.

    python benchmarks/laws.py FILE.jsonl[.xz] ... --out laws.jsonl [--jobs N] [--half tune|report]

A line of a file is a problem as LLM-SRBench's records have it: instance_id, input_vars, output_vars,
train_input, train_output, gt_expression. Each is searched as `main.py` would with a model that has nothing to
say: structure search, and refinement of what it found. The law is found where the pick agrees with it to 0.1%
on 95% of 2,000 rows of a box eight times as wide as the data's (columns that are never negative stay so);
`in_five` and `in_fifty` look at the first of all equations that were fitted. It is clean where its complexity
is at most 1.5 times the law's.
`floor` tells that the training error is what the format of the numbers allows, `acc` that 95% of the test
rows are predicted to 10%; errors are NMSE on the test rows and on those beyond. Where columns determine each
other no law of both can be told: such problems count apart. One JSON line per problem; those that stand in
--out are not run again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import resource
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.benchmark.imported import determined
from llmsr.evaluator import Evaluator
from llmsr.expression import Expression, Refusal, parse
from llmsr.expression.canonical import canonical
from llmsr.expression.graph import complexity, evaluate
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import nmse
from llmsr.prompt import Prompt
from llmsr.proposers.proposer import Completion
from llmsr.refinement.floor import at_floor
from llmsr.refinement.refiner import Refiner
from llmsr.report.front import Front, PickedFront
from llmsr.sample import Sample
from llmsr.search.search import Search
from llmsr.settings import SearchSettings

WIDER, ROWS, AGREE, SHARE, CLEAN = 8.0, 2000, 1e-3, 0.95, 1.5


def records(paths: list[Path], half: str) -> Iterator[dict[str, Any]]:
    """The problems of all files that lie in a half: by the parity of the CRC-32 of their names."""
    for path in paths:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                parity = zlib.crc32(record["instance_id"].encode()) % 2
                if half in ("all", ("tune", "report")[parity]):
                    yield record


def problem_of(record: dict[str, Any], noise: float = 0.0, rows: int = 0) -> Problem:
    """The training rows as a problem; `noise` is a share of the target's spread, `rows` how many stay."""
    names = tuple(map(str, record["input_vars"]))
    x = np.array(record["train_input"], float).reshape(-1, len(names))
    y = np.array(record["train_output"], float).reshape(len(x), -1)[:, 0]
    draw = np.random.default_rng(0)
    if rows:
        taken = np.sort(draw.permutation(len(y))[:rows])
        x, y = x[taken], y[taken]
    if noise:
        y = y + noise * np.std(y) * draw.standard_normal(len(y))
    return table_problem(x, y, Labels(names, str(record["output_vars"][0])))


def law_of(record: dict[str, Any]) -> Expression:
    """The known law; ValueError where its text is no equation."""
    text = re.sub(r"\bAbs\(", "abs(", str(record["gt_expression"]))
    for name in record["input_vars"]:
        text = re.sub(rf"\b{re.escape(name)}\([a-z]\)", name, text)  # P(t) is P
    text = re.sub(r"\ba(sin|cos|tan)\(", r"arc\1(", text)
    text = re.sub(r"\b(arc)?(sin|cos|tan|tanh|sinh|cosh|exp|log|sqrt)\(", r"np.\1\2(", text)
    found = parse(f"pi = np.pi\nreturn {text}", record["input_vars"])
    if isinstance(found, Refusal):
        raise ValueError(f"{record['instance_id']}: {found}")
    return found


def agrees(record: dict[str, Any], expression: Expression, params: np.ndarray, law: Expression) -> bool:
    """Whether an equation extrapolates like the law."""
    x = np.array(record["train_input"], float).reshape(-1, len(record["input_vars"]))
    low, high = x.min(0), x.max(0)
    wide = (high - low) * (WIDER - 1) / 2
    low, high = np.where(low >= 0, low / WIDER, low - wide), np.where(low >= 0, high + 2 * wide, high + wide)
    box = np.random.default_rng(1).uniform(low, high, (ROWS, len(low)))
    known = evaluate(law, box, np.empty(0))
    usable = np.isfinite(known) & (np.abs(known) < 1e150)
    if usable.sum() < ROWS / 50:  # the law is hardly defined beyond its data
        box = np.array(record["test_input"], float).reshape(-1, len(low))
        known = evaluate(law, box, np.empty(0))
        usable = np.isfinite(known)
    box, known = box[usable], known[usable]
    found = evaluate(expression, box, params)
    with np.errstate(all="ignore"):
        near = np.abs(found - known) <= AGREE * (np.abs(known) + 0.01 * np.median(np.abs(known)))
    return bool(near.mean() >= SHARE)


def errors(record: dict[str, Any], expression: Expression, params: np.ndarray) -> dict[str, Any]:
    """NMSE on the test rows and on those beyond, None without any, and whether 95% of the first are near."""
    found: dict[str, Any] = {"acc": False}
    for name, key in (("nmse_id", "test"), ("nmse_ood", "ood")):
        y = np.array(record.get(f"{key}_output") or [], float).ravel()
        if not len(y):
            continue
        x = np.array(record[f"{key}_input"], float).reshape(len(y), -1)
        told = evaluate(expression, x, params)
        found[name] = nmse(told, y)
        if key == "test":
            found["acc"] = bool(np.mean(np.abs(told - y) <= 0.1 * np.abs(y)) >= SHARE)
    return found


class NoModel:
    """A proposer that has nothing to say."""

    name, parallel_prompts = "none", 1

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        return []


class Kept(list[Sample]):
    """An archive in memory."""


def run(record: dict[str, Any], seconds: float, seed: int, noise: float, rows: int) -> dict[str, Any]:
    """The line of one problem."""
    problem, law = problem_of(record, noise, rows), law_of(record)
    began, cpu, kept = time.time(), _cpu(), Kept()
    settings = SearchSettings(budget=4, structure_seconds=seconds, seed=seed)
    with Evaluator(problem, workers=1) as evaluator:
        search = Search(problem, NoModel(), evaluator, kept, settings)
        search.run()
        ranked = Refiner(evaluator).ranked(kept)
    spent = _cpu() - cpu
    front = Front()
    for sample in kept:
        front.add(sample)
    picked = PickedFront.of(front.members, problem)
    line = {"id": record["instance_id"], "law": False, "in_five": False, "in_fifty": False}
    line |= {"clean": False, "floor": False, "acc": False}
    line["determined"] = bool(determined(problem.train.inputs))
    line |= {"cpu": round(spent, 1), "seconds": round(time.time() - began, 1), "fits": len(kept)}
    if picked.pick is None:
        return line
    pick = picked.pick.sample.evaluation
    size = complexity(canonical(law))
    first = [pick, *(s.evaluation for s in ranked[:49])]
    found = [agrees(record, read(problem, e.body), np.array(e.params), law) for e in first]
    small = complexity(canonical(read(problem, pick.body))) <= CLEAN * size
    judged = errors(record, read(problem, pick.body), np.array(pick.params))
    return (
        line
        | judged
        | {
            "law": found[0],
            "in_five": any(found[:6]),
            "in_fifty": any(found),
            "clean": found[0] and small,
            "floor": at_floor(problem, pick),
            "nmse": pick.nmse["train"],
            "complexity": [pick.complexity, size],
            "equation": pick.expression[:300],
        }
    )


def read(problem: Problem, body: str) -> Expression:
    found = read_body(problem.spec, body)
    assert isinstance(found, Expression)
    return found


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("laws.jsonl"), help="one JSON line per problem")
    parser.add_argument("--jobs", type=int, default=1, help="problems at once")
    parser.add_argument("--half", choices=("all", "tune", "report"), default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of structure search")
    parser.add_argument("--only", default="", help="regular expression that names must contain")
    parser.add_argument("--every", type=int, default=1, help="take every so many of the problems")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--noise", type=float, default=0.0, help="of the target's spread")
    parser.add_argument("--rows", type=int, default=0, help="training rows, 0: all")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {line["id"] for line in lines}
    wanted = [r for r in records(given.files, given.half) if re.search(given.only, r["instance_id"])]
    wanted = [r for r in wanted[:: given.every] if r["instance_id"] not in known]
    with ProcessPoolExecutor(given.jobs) as pool, given.out.open("a") as out:
        asked = [pool.submit(run, r, given.seconds, given.seed, given.noise, given.rows) for r in wanted]
        for done in as_completed(asked):
            lines.append(done.result())
            out.write(json.dumps(lines[-1]) + "\n")
            out.flush()
            told = next((kind for kind in ("law", "in_five", "in_fifty") if lines[-1][kind]), "")
            print(f"{told:8}", {k: v for k, v in lines[-1].items() if not k.startswith("in_")}, flush=True)
    summarise(lines)


def summarise(lines: list[dict[str, Any]]) -> None:
    """Print what was found: by category, of all problems and of those whose law can be told."""
    kinds = ("law", "in_five", "in_fifty", "clean", "floor", "acc")
    parts = {"all": lines, "whose law can be told": [x for x in lines if not x.get("determined")]}
    for name in sorted({category(line) for line in lines}):
        parts[name] = [line for line in lines if category(line) == name]
    for name, some in parts.items():
        told = ", ".join(f"{kind} {sum(line.get(kind, False) for line in some)}" for kind in kinds)
        print(f"{name}: {len(some)} problems; {told}")
    for kind in ("cpu", "seconds", "fits", "nmse_id", "nmse_ood"):
        values = [line[kind] for line in lines if line.get(kind) is not None]
        if values:
            print(f"{kind}: median {np.median(values):.3g}, most {max(values):.3g}, in all {sum(values):.3g}")


def category(line: dict[str, Any]) -> str:
    """Such as BPG; the transformed equations, named by volumes and chapters, are one."""
    name = re.match(r"[A-Za-z]+", line["id"])
    return name[0] if name and "." not in line["id"] else "transformed"


if __name__ == "__main__":
    main()
