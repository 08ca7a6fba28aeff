"""Problems of LLM-SRBench (arXiv 2504.10415) as ours: folders of CSV files and specs.

Read are records with their rows in them, one JSON object a line (`.jsonl`, also packed as `.jsonl.xz`), or
a copy of the dataset nnheui/llm-srbench: `lsr_bench_data.hdf5`, a group per problem with a table for train,
test and out-of-distribution test; and `data/lsr_*.parquet` with name, symbols, symbol_descs,
symbol_properties and expression of each problem. The layout is what its dataset card and public descriptions
say; no original file was at hand. So the order of a table's columns is not assumed: it is the one, output
first or last, in which the known expression predicts the output. A record has instance_id, input_vars,
output_vars, train_input, train_output, test_input, test_output and perhaps ood_input, ood_output,
gt_expression, description.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.expression import Refusal, evaluate, parse
from llmsr.files import write_file
from llmsr.problem.columns import Quantity, identifiers, spec_text
from llmsr.problem.loading import SPLITS
from llmsr.problem.split import nmse

FOLDER, HIDDEN = "llmsrbench", "llmsrbench_hidden"
CONFIRMED = 1e-6  # NMSE of the known expression on the rows
CHECKED_ROWS = 200
DETERMINED = 1e-8  # share of a column's variance that a cubic in another one leaves, at most
_FUNCTION = re.compile(r"\b(sin|cos|tan|tanh|sinh|cosh|exp|log|sqrt|asin|acos|atan|abs)\(", re.IGNORECASE)
_NUMPY = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_DESCRIBED = re.compile(r"^(?:Output|Input \d+): (?P<name>\S+) - (?P<meaning>.+)$", re.MULTILINE)


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

    @property
    def notes(self) -> list[str]:
        """What is to be known of the problem, in words."""
        notes = [] if self.confirmed else ["its expression does not confirm the order of its columns"]
        for i, j in determined(self.splits["train"][:, :-1]):
            if i < j:
                notes.append(
                    f"{self.inputs[i]} and {self.inputs[j]} determine each other: no law of both is told"
                )
        return notes

    def hidden(self) -> Imported:
        """The same with columns that have no names."""
        inputs = tuple(f"x{i}" for i in range(1, len(self.inputs) + 1))
        return replace(self, inputs=inputs, target="y", meanings={})


def import_problems(source: str, only: str = "", anonymize: bool = False) -> Iterator[str]:
    """Write the problems of a source whose names contain `only` below data and specs; a line on each.

    A line begins with the name under which a benchmark runs the problem. With `anonymize` the columns are
    x1, x2, ... and y, and nothing tells what they mean. `UserError` where there is no such problem.
    """
    path, count = Path(source), 0
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    folder = HIDDEN if anonymize else FOLDER
    for problem in read_dataset(path) if path.is_dir() else read_records(path):
        if only in problem.name:
            count += 1
            write_problem(problem.hidden() if anonymize else problem, folder)
            yield f"{folder}/{problem.name}" + "".join(f"  ({note})" for note in problem.notes)
    if not count:
        raise UserError(f"{source} holds no problem" + (f" whose name contains {only!r}" if only else ""))


def determined(inputs: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (column, by) of which a cubic in the second gives the first on all rows: no law of both is known.

    A column that does not vary is given by every other one and is left out.
    """
    found = []
    for i, j in permutations(range(inputs.shape[1]), 2):
        x, y = inputs[:, j], inputs[:, i]
        if not np.ptp(x) or not np.ptp(y):
            continue
        matrix = np.vander((x - x.mean()) / x.std(), 4)
        solved, *_ = np.linalg.lstsq(matrix, y, rcond=None)
        if np.var(y - matrix @ solved) <= DETERMINED * np.var(y):
            found.append((i, j))
    return found


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
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _of_record(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise UserError(f"{path}, line {number} is no record of a problem ({error!r})") from None


def _of_record(record: Mapping[str, Any]) -> Imported:
    inputs, target = tuple(map(str, record["input_vars"])), str(record["output_vars"][0])
    splits = {}
    for split, key in zip(SPLITS, ("train", "test", "ood"), strict=True):
        if record.get(f"{key}_input"):
            rows = np.asarray(record[f"{key}_input"], dtype=float).reshape(-1, len(inputs))
            outputs = np.asarray(record[f"{key}_output"], dtype=float).reshape(len(rows), -1)
            splits[split] = np.column_stack([rows, outputs[:, 0]])
    known = predicts(str(record.get("gt_expression") or ""), inputs, splits["train"])
    meanings = {m["name"]: m["meaning"] for m in _DESCRIBED.finditer(str(record.get("description") or ""))}
    return Imported(_plain(record["instance_id"]), inputs, target, meanings, splits, known)


def predicts(expression: str, inputs: Sequence[str], rows: np.ndarray) -> bool:
    """Whether an expression over the inputs gives the last column of the rows."""
    text = expression
    for name in inputs:
        text = re.sub(rf"\b{re.escape(name)}\([a-z]\)", name, text)  # P(t) is P
    text = _FUNCTION.sub(lambda m: f"np.{_NUMPY.get(m[1].lower(), m[1].lower())}(", text)
    try:
        found = parse(f"pi = np.pi\nreturn {text}" if "pi" not in inputs else f"return {text}", inputs)
    except ValueError:  # a name that is no column of ours
        return False
    if isinstance(found, Refusal):
        return False
    some = rows[:: max(1, len(rows) // CHECKED_ROWS)]
    with np.errstate(all="ignore"):
        return bool(nmse(evaluate(found, some[:, :-1], np.empty(0)), some[:, -1]) < CONFIRMED)


def write_problem(problem: Imported, folder: str) -> None:
    """Write a problem's CSV files and its spec, which does not tell the expression, below that folder."""
    *names, target = identifiers([*problem.inputs, problem.target])
    header = ",".join([*names, target])
    for split, rows in problem.splits.items():
        lines = [header, *(",".join(map(repr, map(float, row))) for row in rows)]
        write_file(Path("data", folder, problem.name, f"{split}.csv"), "\n".join(lines) + "\n")
    quantities = [
        Quantity(name, problem.meanings.get(symbol, ""))
        for name, symbol in zip((*names, target), (*problem.inputs, problem.target), strict=True)
    ]
    write_file(
        Path("specs", folder, f"specification_{problem.name}_numpy.txt"),
        spec_text(quantities[:-1], quantities[-1]),
    )


def _plain(name: Any) -> str:
    return re.sub(r"\W+", "_", str(name)).strip("_") or "problem"
