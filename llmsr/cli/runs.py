"""`python -m llmsr runs DIR`: a table over all runs below a directory."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmsr.cli.shared import print_json
from llmsr.config import Parser
from llmsr.report.comparison import format_runs, runs_table
from llmsr.report.display import line_width
from llmsr.report.markup import plain


def parser() -> Parser:
    """The flags of `runs`."""
    parser = Parser(
        prog="llmsr runs",
        description="A table over all runs below DIR, one line per run and problem: settings in which they "
        "differ, costs, and errors, size and equation of the one that `show` picks.",
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", default="logs", help="where runs are (default: logs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        default="run",
        help="order of the lines: any column of --json, such as learning_rate, or train, id, ood for an "
        "error (default: run)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    table, faults = runs_table(given.directory, given.sort)
    for fault in faults:
        print(f"llmsr: left out: {plain(fault)}", file=sys.stderr)
    if given.json:
        print_json(table.to_dict("records"))
    elif len(table):
        print(format_runs(table, line_width()))
    return 0 if len(table) else 2
