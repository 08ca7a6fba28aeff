"""Problems drawn from the grammar, as folders of CSV files and specs: to train a policy over many of them.

    python training/synthetic_problems.py 500
    python main.py --use_rl --problem_name 'synthetic/*' --memory islands

A problem is a law of the grammar with constants, columns that are called and described like those of a
textbook, rows from a box, and test rows from a box of twice its width. The laws of the four shipped problems
are left out, and so is what a line fits. `laws.json` beside the data has the law of each; no prompt does.
Problems of the same numbers and seed are the same, so that those beyond the first 500 are held out:

    python training/synthetic_problems.py 50 --first 501
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().with_name("skeleton_lm")))

from corpus import KINDS
from held_out import law_in
from textbook import Textbook
from vocabulary import QUANTITIES, TARGETS
from words import kind_of

from llmsr.benchmark.imported import Imported, write_problem
from llmsr.errors import UserError
from llmsr.expression import Refusal, evaluate, parse
from llmsr.files import write_file
from llmsr.problem.columns import Quantity, identifiers
from llmsr.problem.loading import SPLITS
from llmsr.problem.split import nmse
from llmsr.proposers.grammar import drawn_tree
from llmsr.proposers.grammar.trees import body_text, count_params

COLLECTION = "synthetic"
ROWS = {"train": 400, "test_id": 100, "test_ood": 100}
MOST_PARAMS = 6  # of a law
BOXES = {"+": (0.2, 4.0), "-": (-2.5, 2.5)}  # of columns that are positive, and of signed ones
STEEPEST = 1e4  # the largest value of a target over its median, beyond which a few rows decide everything
LINE = 1e-3  # NMSE below which a problem is a straight line


@dataclass(frozen=True)
class Law:
    """The law of a problem: a body, and the values of its constants."""

    law: str
    params: tuple[float, ...]


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Write problems drawn from the grammar as data and specs.")
    parser.add_argument("count", type=int, help="how many")
    parser.add_argument("--first", type=int, default=1, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="of the target, in its standard deviations")
    given = parser.parse_args(words)
    laws_file = Path("data") / COLLECTION / "laws.json"
    laws = json.loads(laws_file.read_text(encoding="utf-8")) if laws_file.is_file() else {}
    for number in range(given.first, given.first + given.count):
        name = f"{number:04d}"
        problem, law = next(problems(name, Random(f"problem {number} {given.seed}"), given.noise))
        write_problem(problem, COLLECTION)
        laws[name] = asdict(law)
    write_file(laws_file, json.dumps(laws, indent=1) + "\n")
    print(f"{given.count} problems, for --problem_name '{COLLECTION}/*'", file=sys.stderr)
    return 0


def problems(name: str, rng: Random, noise: float = 0.0) -> Iterator[tuple[Imported, Law]]:
    """Problems of that name without end, each with its law."""
    while True:
        columns = _columns(rng)
        signed = frozenset(i for i, (_, sign) in enumerate(columns) if sign == "-")
        kinds = [KINDS.get(kind_of(q.meaning)) for q, _ in columns]
        tree = drawn_tree(rng, Textbook(len(columns), signed, kinds, None), MOST_PARAMS)
        if law_in(tree, len(columns)):
            continue
        names = [q.name for q, _ in columns]
        law = body_text(tree, names).strip()
        # three digits, as a person would write them
        params = tuple(
            float(f"{rng.choice((1, 1, 1, -1)) * 10 ** rng.uniform(-0.7, 0.7):.3g}")
            for _ in range(count_params(tree))
        )
        splits = _rows(rng, law, names, [sign for _, sign in columns], params, noise)
        if splits is not None:
            target = _free("y", names)
            meanings = {q.name: q.meaning for q, _ in columns} | {target: rng.choice(TARGETS)}
            yield Imported(name, tuple(names), target, meanings, splits, True), Law(law, params)


def _columns(rng: Random) -> list[tuple[Quantity, str]]:
    """One to four columns of different names, each with its sign."""
    count = rng.choices((1, 2, 3, 4), (20, 40, 25, 15))[0]
    found: dict[str, tuple[Quantity, str]] = {}
    while len(found) < count:
        meaning, sign, names = rng.choice(QUANTITIES)
        (name,) = identifiers([rng.choice(names.split())])  # as a spec would call it
        if all(meaning != q.meaning for q, _ in found.values()):
            found.setdefault(name, (Quantity(name, meaning), sign))
    return list(found.values())


def _free(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else _free(f"{name}_out", taken)


def _rows(
    rng: Random, law: str, names: list[str], signs: list[str], params: tuple[float, ...], noise: float
) -> dict[str, np.ndarray] | None:
    """Rows of every split, the target last; None where the law is no problem worth asking."""
    numbers = np.random.default_rng(rng.getrandbits(63))
    expression = parse(law, names)
    if isinstance(expression, Refusal):
        return None
    low, high = np.transpose([BOXES[sign] for sign in signs])
    splits = {}
    for split in SPLITS:
        rows = numbers.uniform(low, high, (ROWS[split], len(names)))
        if split == "test_ood":  # as far outside as the box is wide, on the side that a column has
            rows = np.where(rows >= (low + high) / 2, rows + (high - low) / 2, rows)
            rows = np.where((rows < (low + high) / 2) & (low < 0), rows - (high - low) / 2, rows)
        with np.errstate(all="ignore"):
            target = evaluate(expression, rows, np.asarray(params))
        if not np.isfinite(target).all():
            return None
        splits[split] = np.column_stack([rows, target])
    target = splits["train"][:, -1]
    middle = np.median(np.abs(target))
    if target.std() < 1e-3 or np.abs(target).max() > STEEPEST * max(middle, 1e-3):
        return None
    line = np.column_stack([splits["train"][:, :-1], np.ones(len(target))])
    fitted = line @ np.linalg.lstsq(line, target, rcond=None)[0]
    if nmse(fitted, target) < LINE:
        return None
    for split in ("train",) if noise else ():
        splits[split][:, -1] += noise * target.std() * numbers.standard_normal(len(target))
    return splits


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"synthetic_problems.py: {error}")
