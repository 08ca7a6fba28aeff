"""`python -m llmsr compare A B ...`: figures and curves of several runs, in the terminal and in one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from llmsr.cli.shared import print_json
from llmsr.config import Parser
from llmsr.files import write_file
from llmsr.report.comparison import as_table, compare, comparison_page, format_runs
from llmsr.report.display import line_width


def parser() -> Parser:
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
    table = as_table(compared)
    if given.json:
        print_json(table.to_dict("records"))
    else:
        print(format_runs(table, line_width()))
    return 0
