"""The verbs about runs: `show`, `report`, `plot`, `runs` and `compare`."""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

from llmsr.cli.shared import Verb, print_json
from llmsr.config import Checked, names_or_none, option
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.report.comparison import as_table, compared_runs, comparison_page, format_runs, runs_table
from llmsr.report.display import format_result, line_width
from llmsr.report.exports import FORMS, latex_table
from llmsr.report.figures import FORMATS, write_figures
from llmsr.report.front import RULES
from llmsr.report.markup import plain
from llmsr.report.runs import Outputs, read_run, write_run

SELECTION = "which equation is picked: " + ", ".join(RULES) + ", or a row of the front (see docs/tutorial.md)"
EXPORTS = (*FORMS, "latex_table")


@dataclass(frozen=True)
class ShownSettings(Checked):
    """what is picked and printed"""

    directory: str = option(
        MISSING, "the run's directory (--log_path or --output_dir)", metavar="DIR", positional=True
    )
    select: str = option("best", SELECTION)
    bootstrap: int = option(
        0, "fits to resampled rows that give the pick's constants their errors; 0: the Jacobian does", least=0
    )
    json: bool = option(False, "print JSON")
    form: str | None = option(
        None, "print the pick alone, as text in this form, or the front as a LaTeX table", choices=EXPORTS
    )

    def outputs(self) -> list[Outputs]:
        """What the run found, once per problem."""
        runs = read_run(self.directory)
        return [run.outputs(rule=self.select, bootstrap=self.bootstrap) for run in runs]


@Verb
def show(shown: ShownSettings) -> int:
    """Print the front and the best equation of a run; nothing is written."""
    if shown.form:
        print("\n".join(_exported(outputs, shown.form) for outputs in shown.outputs()), end="")
        return 0
    results = [outputs.result() for outputs in shown.outputs()]
    if shown.json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        print("\n\n".join(map(format_result, results)))
    return 0


def _exported(outputs: Outputs, form: str) -> str:
    front = outputs.picked_front()
    if front.pick is None:
        raise UserError(f"{outputs.output} has no valid equation yet; let the run go on")
    try:
        if form == "latex_table":
            return latex_table(front.table(), ("complexity", "rounded_latex", "nmse_train"))
        return FORMS[form](front.pick)
    except ValueError as error:
        raise UserError(str(error)) from None


@Verb
def report(shown: ShownSettings) -> int:
    """Write result.json, equations.csv, best_equation.* and report.html anew, and print what they say."""
    whole = write_run(Path(shown.directory), shown.outputs())
    print(f"written to {shown.directory}: report.html and the equations", file=sys.stderr)
    if shown.json:
        print_json(whole)
    else:
        print("\n\n".join(map(format_result, whole.get("problems") or [whole])))
    return 0


@dataclass(frozen=True)
class PlotSettings:
    """what is written"""

    output: str | None = option(None, "folder of the figures (default: DIR/figures)", metavar="DIR")
    formats: str = option(",".join(FORMATS), "comma-separated: " + ", ".join(FORMATS))


@Verb
def plot(shown: ShownSettings, given: PlotSettings) -> int:
    """Write front, prediction, residual and convergence of a run as figures for a paper; name the files."""
    formats = names_or_none("formats", given.formats, FORMATS)
    for run in shown.outputs():
        folder = Path(given.output) if given.output else run.output / "figures"
        several = given.output and run.output != Path(shown.directory)
        for path in write_figures(run, folder / run.problem.name if several else folder, formats):
            print(path)
    return 0


@dataclass(frozen=True)
class TableSettings:
    """which runs"""

    directory: str = option("logs", "where runs are", metavar="DIR", positional=True)
    json: bool = option(False, "print JSON", switch=True)
    sort: str = option(
        "run",
        "order of the lines: any column of --json, such as learning_rate, or train, id, ood for an error",
        metavar="COLUMN",
    )


@Verb
def runs(given: TableSettings) -> int:
    """Print a table over all runs below DIR, one line per run and problem.

    It has settings in which they differ, costs, and errors, size and equation of the one that `show` picks.
    """
    table, faults = runs_table(given.directory, given.sort)
    # one broken run must not hide the table of all others
    for fault in faults:
        print(f"llmsr: left out: {plain(fault)}", file=sys.stderr)
    if given.json:
        print_json(table.to_dict("records"))
    elif len(table):
        print(format_runs(table, line_width()))
    return 0 if len(table) else 2


@dataclass(frozen=True)
class ComparedSettings:
    """which runs"""

    directories: tuple[str, ...] = option(
        MISSING, "directories of runs", metavar="DIR", positional=True, many=True
    )
    output: str | None = option(
        None, "write a page of curves and figures, such as compare.html", metavar="FILE"
    )
    json: bool = option(False, "print JSON", switch=True)


@Verb
def compare(given: ComparedSettings) -> int:
    """Print the figures of several runs; with --output also write a page with their curves."""
    compared = compared_runs(given.directories)
    if given.output:
        write_file(Path(given.output), comparison_page(compared))
        print(f"written to {given.output}", file=sys.stderr)
    table = as_table(compared)
    if given.json:
        print_json(table.to_dict("records"))
    else:
        print(format_runs(table, line_width()))
    return 0
