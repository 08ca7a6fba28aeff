"""`python -m llmsr runs DIR`: a table over all runs below a directory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from llmsr.config import Parser
from llmsr.report.overview import as_records, format_overview, overview
from llmsr.report.text import plain


def parser() -> argparse.ArgumentParser:
    """The flags of `runs`."""
    parser = Parser(
        prog="llmsr runs",
        description="A table over all runs below DIR, one line per run and problem. Errors and size are "
        "those of the equation with the least training error, which need not be the one that `show` picks.",
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", default="logs", help="where runs are (default: logs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sort", choices=("run", "train", "ood"), default="run", help="order of the lines")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    rows, faults = overview(given.directory)
    if given.sort != "run":
        split = "train" if given.sort == "train" else "test_ood"
        rows.sort(
            key=lambda row: (
                row.problem,
                value if (value := row.nmse.get(split)) is not None else float("inf"),
            )
        )
    for fault in faults:
        print(f"llmsr: left out: {plain(fault)}", file=sys.stderr)
    if given.json:
        print(json.dumps(as_records(rows), indent=2))
    elif rows:
        print(format_overview(rows))
    return 0 if rows else 2
