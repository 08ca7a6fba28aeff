"""The files of a run's result, written and refreshed while it goes on.

    result.json  equations.csv  best_equation.py  best_equation.tex  report.html
    curve.csv                     of a training run

Nothing here decides anything for the run: it only watches, so the clock may say when files are refreshed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.problem.loading import Problem
from llmsr.report.equation import Equation
from llmsr.report.files import equation_module, equation_tex, equations_csv
from llmsr.report.front import Front, pick, scores
from llmsr.report.history import History
from llmsr.report.learning import curve_csv, learning_curve
from llmsr.report.recorded import SEARCH, TRAINING
from llmsr.report.result import front_of, result_of, write_result
from llmsr.sample import Sample
from llmsr.search.totals import Totals

EVERY_SECONDS = 20.0  # between two refreshes while the run goes on
IDLE_SECONDS = 120.0  # the same while the front stays as it is
COST_SHARE = 0.05  # of the run's time that refreshes may take


class Outputs:
    """Observes a run and keeps its files up to date; `finish` writes them a last time.

    Files are refreshed when the front has a new member, at most every `every_seconds`, else every
    IDLE_SECONDS, and never more often than lets all refreshes together take a twentieth of the time.
    """

    def __init__(
        self,
        output: str | Path,
        problem: Problem,
        settings: Mapping[str, Any],
        *,
        mode: str = SEARCH,
        rule: str = "best",
        within: float = 0.5,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.output = Path(output)
        self.problem = problem
        self.settings = dict(settings)
        self.mode = mode
        self.rule = rule
        self.within = within
        self.front = Front()
        self.history = History()
        self._equations: dict[tuple[int, str], Equation] = {}
        self._every_seconds = every_seconds
        self._changed = False
        self._next = time.monotonic() + every_seconds

    def __call__(self, sample: Sample, totals: Totals) -> None:
        self.add(sample)
        self.refresh(totals)

    def refresh(self, totals: Totals) -> bool:
        """Write the files if it is time for that; whether it was."""
        began = time.monotonic()
        if began < self._next + (0.0 if self._changed else IDLE_SECONDS):
            return False
        self.finish(totals, complete=False)
        ended = time.monotonic()
        self._next = ended + max(self._every_seconds, (ended - began) / COST_SHARE)
        return True

    def add(self, sample: Sample) -> None:
        """Take note of a sample without writing anything."""
        self.history.add(sample)
        self._changed |= self.front.add(sample)

    def finish(self, totals: Totals, complete: bool = True) -> dict[str, Any]:
        """Write all files and hand back what `result.json` says; `complete` tells whether the run is over.

        What a run found is in its archive, so a fault in a file for people must not end the run: it is told
        on standard error and `report` repeats it. A file that cannot be written is a `UserError`.
        """
        try:
            return self.write(totals, complete)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            fault = f"{type(error).__name__}: {error}"
            print(f"llmsr: the report could not be written ({fault}); the archive is whole", file=sys.stderr)
            result = result_of(self.problem, totals)
            write_result(self.output, result)
            return result

    def equations(self) -> list[Equation]:
        """The front as equations; each one is made once."""
        made = []
        for sample, score in zip(self.front.members, scores(self.front.members), strict=True):
            known = self._equations.get(_key(sample))
            if known is None or known.score != score:
                known = Equation.of(sample, self.problem, score, known)
            made.append(known)
        self._equations = {_key(equation.sample): equation for equation in made}
        return made

    def picked(self, equations: list[Equation]) -> int | None:
        """The position of the pick on the front; None where the front is empty."""
        if not equations:
            return None
        counts = [len(equation.expression.params) for equation in equations]
        rows = len(self.problem.train)
        return pick(self.front.members, self.rule, within=self.within, rows=rows, constants=counts)

    def result(self, totals: Totals, finished: bool = True) -> dict[str, Any]:
        """What `result.json` says, as plain data; nothing is written."""
        equations = self.equations()
        return self._result(totals, finished, equations, self.picked(equations))

    def write(self, totals: Totals, finished: bool) -> dict[str, Any]:
        """Write all files; `finished` tells the reader whether the run still goes on."""
        from llmsr.report.page import report_page

        self._changed = False
        equations = self.equations()
        picked = self.picked(equations)
        result = self._result(totals, finished, equations, picked)
        write_result(self.output, result)
        write_file(self.output / "equations.csv", equations_csv(equations, picked))
        if picked is not None:
            write_file(self.output / "best_equation.py", equation_module(equations[picked]))
            write_file(self.output / "best_equation.tex", equation_tex(equations[picked]))
        if result.get("curve"):
            write_file(self.output / "curve.csv", curve_csv(result["curve"]))
        page = report_page(result, self.history, self.problem, self.settings, self.mode, equations, picked)
        write_file(self.output / "report.html", page)
        return result

    def _result(
        self, totals: Totals, finished: bool, equations: list[Equation], picked: int | None
    ) -> dict[str, Any]:
        history = self.history
        result = result_of(self.problem, totals) | front_of(equations, picked, self.rule)
        result |= {
            "mode": self.mode,
            "finished": finished,
            "seconds": round(history.seconds, 3),
            "generation_seconds": round(history.generation_seconds, 3),
            "fits": history.fits,
            "refinement_fits": history.refinement_fits,
            "fit_seconds": round(history.fit_seconds, 3),
            "cpu_seconds": round(history.cpu_seconds, 3),
        }
        if self.mode == TRAINING:
            result |= {
                "trainer": self.settings.get("trainer"),
                "base_model": self.settings.get("model_path"),
                "curve": learning_curve([history]),
            }
        return result


def _key(sample: Sample) -> tuple[int, str]:
    """Tells the equations of a front apart; a sample and its refinements share a number."""
    return sample.number, sample.evaluation.canonical
