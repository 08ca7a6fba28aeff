"""Problems of LLM-SRBench (arXiv 2504.10415) as ours: folders of CSV files and specs.

    python benchmarks/import_llm_srbench.py DIR            a copy of the dataset nnheui/llm-srbench
    python benchmarks/import_llm_srbench.py FILE.jsonl     records with their rows in them

Read in DIR: `lsr_bench_data.hdf5`, a group per problem with a table for train, test and out-of-distribution
test; and `data/lsr_*.parquet` with name, symbols, symbol_descs, symbol_properties and expression of each
problem. The layout is what its dataset card and public descriptions say; no original file was at hand. So
the order of a table's columns is not assumed: it is the one, output first or last, in which the known
expression predicts the output. A record of the second kind has instance_id, input_vars, output_vars,
train_input, train_output, test_input, test_output and perhaps ood_input, ood_output, gt_expression,
description.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.config import Parser
from llmsr.errors import UserError
from llmsr.expression import Refusal, evaluate, parse
from llmsr.files import write_file
from llmsr.problem.columns import Quantity, identifiers, spec_text
from llmsr.problem.loading import SPLITS, nmse

FOLDER = "llmsrbench"
CONFIRMED = 1e-6  # NMSE of the known expression on the rows
CHECKED_ROWS = 200
_FUNCTION = re.compile(r"\b(sin|cos|tan|tanh|sinh|cosh|exp|log|sqrt|asin|acos|atan)\(")
_NUMPY = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}


@dataclass(frozen=True)
class Imported:
    """A problem to write: input and target names with their meanings, and rows per split, target last.

    `confirmed` tells that the known expression predicts the target from these columns.
    """

    name: str
    inputs: tuple[str, ...]
    target: str
    meanings: Mapping[str, str]
    splits: Mapping[str, np.ndarray]
    confirmed: bool


def parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = Parser(
        prog="import_llm_srbench.py", description="Write problems of LLM-SRBench as data and specs."
    )
    parser.add_argument("source", metavar="PATH", help="a copy of the dataset, or a .jsonl file of records")
    parser.add_argument("--only", metavar="TEXT", default="", help="import names that contain TEXT")
    return parser


def main(words: Sequence[str]) -> int:
    given = parser().parse_args(words)
    source = Path(given.source)
    if not source.exists():
        raise UserError(f"{source}: no such file or directory")
    count = 0
    for problem in read_dataset(source) if source.is_dir() else read_records(source):
        if given.only in problem.name:
            write_problem(problem, Path("data") / FOLDER, Path("specs") / FOLDER)
            count += 1
            note = "" if problem.confirmed else "  (its expression does not confirm the order of its columns)"
            print(f"{FOLDER}/{problem.name}{note}")
    if not count:
        raise UserError(
            f"{source} holds no problem" + (f" whose name contains {given.only!r}" if given.only else "")
        )
    print(f"{count} problems; name them in a benchmark as {FOLDER}/NAME", file=sys.stderr)
    return 0


def read_dataset(folder: Path) -> Iterator[Imported]:
    """The problems of a copied dataset; `UserError` where a file is missing or a problem has no rows."""
    tables, metadata = folder / "lsr_bench_data.hdf5", sorted(folder.glob("data/lsr_*.parquet"))
    if not tables.is_file() or not metadata:
        raise UserError(f"{folder} must hold lsr_bench_data.hdf5 and data/lsr_*.parquet")
    try:
        import h5py
    except ImportError:
        raise UserError("reading LLM-SRBench's HDF5 file needs h5py: pip install h5py") from None
    import pyarrow.parquet as pq

    with h5py.File(tables) as file:
        groups = _groups(file)
        for path in metadata:
            for record in pq.read_table(path).to_pylist():
                name = str(record["name"])
                if name not in groups:
                    raise UserError(f"{tables} has no rows of {name}, which {path.name} names")
                group = file[groups[name]]
                found = {_split(key): np.asarray(group[key], dtype=float) for key in group if _split(key)}
                yield arranged(record, found)


def _groups(file: Any) -> dict[str, str]:
    """The path of every group that holds a table of training rows, by its last name."""
    found: dict[str, str] = {}

    def visit(path: str, item: Any) -> None:
        if hasattr(item, "keys") and any(_split(key) == "train" for key in item):
            found[path.rpartition("/")[2]] = path

    file.visititems(visit)
    return found


def _split(key: str) -> str:
    """Which split a table's name means; empty for none."""
    lowered = key.lower()
    if "ood" in lowered:
        return "test_ood"
    return "train" if "train" in lowered else "test_id" if "test" in lowered else ""


def arranged(record: Mapping[str, Any], tables: Mapping[str, np.ndarray]) -> Imported:
    """The problem of a record with its columns in the order that its expression confirms."""
    symbols = [str(symbol) for symbol in record["symbols"]]
    properties = [str(p) for p in record.get("symbol_properties") or []]
    outputs = [s for s, p in zip(symbols, properties, strict=False) if p.upper().startswith("O")]
    target = outputs[0] if outputs else symbols[0]
    variables = [
        s for i, s in enumerate(symbols)
        if s != target and (len(properties) != len(symbols) or properties[i].upper().startswith("V"))
    ]  # fmt: skip
    meanings = dict(zip(symbols, map(str, record.get("symbol_descs") or []), strict=False))
    width = next(iter(tables.values())).shape[1]
    if width != len(variables) + 1:
        variables = [s for s in symbols if s != target]
    if width != len(variables) + 1:
        raise UserError(f"{record['name']}: {width} columns, but its symbols are {', '.join(symbols)}")
    orders = [np.roll(np.arange(width), -1), np.arange(width)]  # output first, then output last
    for order in orders:
        moved = {split: rows[:, order] for split, rows in tables.items()}
        if predicts(str(record.get("expression") or ""), variables, moved["train"]):
            return Imported(_plain(record["name"]), tuple(variables), target, meanings, moved, True)
    first = {split: rows[:, orders[0]] for split, rows in tables.items()}
    return Imported(_plain(record["name"]), tuple(variables), target, meanings, first, False)


def read_records(path: Path) -> Iterator[Imported]:
    """The problems of a file with one JSON record per line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            inputs, target = tuple(map(str, record["input_vars"])), str(record["output_vars"][0])
            splits = {}
            for split, key in zip(SPLITS, ("train", "test", "ood"), strict=True):
                if record.get(f"{key}_input"):
                    rows = np.asarray(record[f"{key}_input"], dtype=float)
                    outputs = np.asarray(record[f"{key}_output"], dtype=float).reshape(len(rows), -1)
                    splits[split] = np.column_stack([rows, outputs[:, 0]])
            name, train = _plain(record["instance_id"]), splits["train"]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path}, line {number} is no record of a problem ({error!r})") from None
        known = predicts(str(record.get("gt_expression") or ""), inputs, train)
        yield Imported(name, inputs, target, {}, splits, known)


def predicts(expression: str, inputs: Sequence[str], rows: np.ndarray) -> bool:
    """Whether an expression over the inputs gives the last column of the rows."""
    text = expression
    for name in inputs:
        text = re.sub(rf"\b{re.escape(name)}\([a-z]\)", name, text)  # P(t) is P
    text = _FUNCTION.sub(lambda m: f"np.{_NUMPY.get(m[1], m[1])}(", text)
    try:
        found = parse(f"return {text}", inputs)
    except ValueError:  # a name that is no column of ours
        return False
    if isinstance(found, Refusal):
        return False
    some = rows[:: max(1, len(rows) // CHECKED_ROWS)]
    with np.errstate(all="ignore"):
        return bool(nmse(evaluate(found, some[:, :-1], np.empty(0)), some[:, -1]) < CONFIRMED)


def write_problem(problem: Imported, data_dir: Path, spec_dir: Path) -> None:
    """Write a problem's CSV files and its spec, which does not tell the expression."""
    *names, target = identifiers([*problem.inputs, problem.target])
    header = ",".join([*names, target])
    for split, rows in problem.splits.items():
        lines = [header, *(",".join(map(repr, map(float, row))) for row in rows)]
        write_file(data_dir / problem.name / f"{split}.csv", "\n".join(lines) + "\n")
    quantities = [
        Quantity(name, problem.meanings.get(symbol, ""))
        for name, symbol in zip((*names, target), (*problem.inputs, problem.target), strict=True)
    ]
    write_file(
        spec_dir / f"specification_{problem.name}_numpy.txt", spec_text(quantities[:-1], quantities[-1])
    )


def _plain(name: Any) -> str:
    return re.sub(r"\W+", "_", str(name)).strip("_") or "problem"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"import_llm_srbench.py: {error}")
