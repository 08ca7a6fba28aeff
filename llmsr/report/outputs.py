"""The files of a run's result, written and refreshed while it goes on.

    result.json  equations.csv  best_equation.py  best_equation.tex  report.html
    curve.csv                     of a training run

Of a training over several problems each problem has these in `results/<problem>/`, and result.json, curve.csv
and report.html beside that folder are about all. Nothing here decides anything for the run: it only watches,
so the clock may say when files are refreshed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.problem.loading import Problem
from llmsr.report.equation import description
from llmsr.report.front import Front, PickedFront
from llmsr.report.history import History, curve_csv, learning_curve
from llmsr.report.recorded_runs import SEARCH, TRAINING, Recorded
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
        self._picked = PickedFront((), (), None)
        self._every_seconds = every_seconds
        self._changed = False
        self._next = time.monotonic() + every_seconds

    def __call__(self, sample: Sample, totals: Totals) -> None:
        self.add(sample)
        self.refresh(totals)

    def add(self, sample: Sample) -> None:
        """Take note of a sample without writing anything."""
        self.history.add(sample)
        self._changed |= self.front.add(sample)

    def refresh(self, totals: Totals) -> bool:
        """Write the files if it is time for that; whether it was."""
        began = time.monotonic()
        if began < self._next + (0.0 if self._changed else IDLE_SECONDS):
            return False
        self.finish(totals, complete=False)
        ended = time.monotonic()
        self._next = ended + max(self._every_seconds, (ended - began) / COST_SHARE)
        return True

    def finish(self, totals: Totals, complete: bool = True) -> dict[str, Any]:
        """Write all files and hand back what `result.json` says; `complete` tells whether the run is over.

        What a run found is in its archive, so a fault in a file for people must not end the run: it is told
        on standard error and `report` repeats it. A file that cannot be written is a `UserError`.
        """
        try:
            return self._write(totals, complete)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            fault = f"{type(error).__name__}: {error}"
            print(f"llmsr: the report could not be written ({fault}); the archive is whole", file=sys.stderr)
            result = self._counts(totals)
            _write_json(self.output, result)
            return result

    def picked_front(self) -> PickedFront:
        """The front as equations with its pick; each equation is made once."""
        self._picked = PickedFront.of(
            self.front.members, self.problem, self.rule, self.within, known=self._picked.equations
        )
        return self._picked

    def result(self, totals: Totals, finished: bool = True) -> dict[str, Any]:
        """What `result.json` says, as plain data; nothing is written."""
        return self._result(totals, finished, self.picked_front())

    def _write(self, totals: Totals, finished: bool) -> dict[str, Any]:
        # late: a search should not wait for what its first refresh needs
        from llmsr.report.run_page import report_page

        self._changed = False
        front = self.picked_front()
        result = self._result(totals, finished, front)
        _write_json(self.output, result)
        files = {"equations.csv": front.to_csv()}
        if front.pick is not None:
            files |= {"best_equation.py": front.pick.python(), "best_equation.tex": front.pick.tex()}
        if result.get("curve"):
            files["curve.csv"] = curve_csv(result["curve"])
        files["report.html"] = report_page(
            result, self.history, self.problem, self.settings, self.mode, front
        )
        for name, text in files.items():
            write_file(self.output / name, text)
        return result

    def _counts(self, totals: Totals) -> dict[str, Any]:
        """The outcome without the front; `best` is None where no sample was valid.

        It is the sample of least training loss; test_id and test_ood are reported, never selected on.
        """
        best = totals.best
        return {
            "problem": self.problem.name,
            "note": self.problem.note,
            "samples": totals.samples,
            "valid": totals.valid,
            "distinct": totals.distinct,
            "refinements": totals.refinements,
            "tokens": totals.tokens,
            "failed_prompts": totals.failed_prompts,
            "failures": dict(totals.failures),
            "best": None if best is None else description(best, self.problem.target),
        }

    def _result(self, totals: Totals, finished: bool, front: PickedFront) -> dict[str, Any]:
        history = self.history
        entries = [
            {**equation.to_json(), "score": score}
            for equation, score in zip(front.equations, front.scores, strict=True)
        ]
        result = self._counts(totals) | {
            "selection": self.rule,
            "pick": None if front.picked is None else entries[front.picked],
            "front": entries,
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


def outputs_of(run: Recorded, **options: Any) -> tuple[Outputs, Totals]:
    """The outputs of a recorded run and its totals, ready to be written or looked at."""
    outputs = Outputs(run.output, run.problem(), run.settings, mode=run.mode, **options)
    totals = Totals()
    for sample in run.samples:
        outputs.add(sample)
        totals.add(sample)
    return outputs, totals


def write_run(
    directory: Path, runs: Sequence[tuple[Outputs, Totals]], complete: bool = True
) -> dict[str, Any]:
    """Write all files of a run and hand back what its `result.json` says; `runs` are its problems."""
    results = [outputs.finish(totals, complete) for outputs, totals in runs]
    if len(runs) == 1:
        return results[0]
    return write_several(directory, [outputs for outputs, _ in runs], results)


def write_several(
    directory: Path, runs: Sequence[Outputs], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write the files about all problems of a run and hand back what `result.json` says.

    `results` are what the problems' own files say; their counts are summed, and nothing else is.
    """
    from llmsr.report.comparison import problems_page

    counts = ("samples", "valid", "distinct", "tokens", "fits", "fit_seconds", "cpu_seconds")
    whole = {
        "problem": ",".join(result["problem"] for result in results),
        **{name: sum(result.get(name, 0) for result in results) for name in counts},
        "seconds": max(result.get("seconds", 0.0) for result in results),
        **{name: results[0].get(name) for name in ("mode", "trainer", "base_model")},
        "finished": all(result.get("finished") for result in results),
        "problems": list(results),
        "curve": learning_curve([run.history for run in runs]),
    }
    _write_json(directory, whole)
    if whole["curve"]:
        write_file(directory / "curve.csv", curve_csv(whole["curve"]))
    problems = [
        (
            run.picked_front(),
            run.history,
            run.problem.name,
            str((run.output / "report.html").relative_to(directory)),
        )
        for run in runs
    ]
    write_file(directory / "report.html", problems_page(problems, whole))
    return whole


def _write_json(directory: Path, result: Mapping[str, Any]) -> None:
    write_file(directory / "result.json", json.dumps(result, indent=2) + "\n")
