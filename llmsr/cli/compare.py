"""`python -m llmsr compare A B ...`: figures and curves of several runs, in the terminal and in one page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llmsr.config import Parser
from llmsr.files import write_file
from llmsr.report.comparison import compare, comparison_page, format_comparison
from llmsr.report.overview import as_records


def parser() -> argparse.ArgumentParser:
    """The flags of `compare`."""
    parser = Parser(
        prog="llmsr compare",
        description="Figures of several runs; with --output also a page with their curves.",
    )
    parser.add_argument("directories", metavar="DIR", nargs="+", help="directories of runs")
    parser.add_argument(
        "--output", metavar="FILE", help="write a page of curves and figures, such as compare.html"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    compared = compare(given.directories)
    if given.output:
        write_file(Path(given.output), comparison_page(compared))
        print(f"written to {given.output}", file=sys.stderr)
    print(
        json.dumps(as_records([c.row for c in compared]), indent=2)
        if given.json
        else format_comparison(compared)
    )
    return 0
