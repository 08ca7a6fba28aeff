"""The files of a run: written and refreshed while it goes on, and runs read back from them.

    result.json  equations.csv  best_equation.py  best_equation.tex  report.html
    curve.csv                     of a training run

Of a training over several problems each problem has these in `results/<problem>/`, and result.json, curve.csv
and report.html beside that folder are about all. Nothing here decides anything for the run: it only watches,
so the clock may say when files are refreshed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from llmsr.archive import read_archive
from llmsr.config import read_yaml
from llmsr.declarations import declarations_of
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.fitting.uncertainty import bootstrapped
from llmsr.problem.loading import Problem, load_problem
from llmsr.report.equation import Equation, description
from llmsr.report.front import Finals, Front, PickedFront
from llmsr.report.history import History, curve_csv, learning_curve
from llmsr.report.parts import Parts
from llmsr.report.system import state_errors
from llmsr.run_directory import check_data
from llmsr.sample import GUESS, VALIDATION, Sample, finite_or_none
from llmsr.search.totals import Totals

SEARCH, TRAINING = "search", "grpo"
DEEPEST = 6  # levels of folders that are looked through for runs
MOST_PAGES = 12  # problems of a run that have files of their own: a pick takes a second
EVERY_SECONDS = 20.0  # between two refreshes while the run goes on
IDLE_SECONDS = 120.0  # the same while the front stays as it is
COST_SHARE = 0.05  # of the run's time that refreshes may take


# ---- reading


@dataclass(frozen=True)
class Recorded:
    """One run over one problem. A training run over several problems is read as one of these for each.

    `directory` is the run's, `output` where its files go; `settings` are flat, names to values. `name` is
    what it is called beside other runs.
    """

    directory: Path
    output: Path
    mode: str
    settings: Mapping[str, Any]
    problem_name: str
    samples: list[Sample]
    name: str = ""

    @cached_property
    def history(self) -> History:
        """How the run went."""
        return History(self.samples)

    def problem(self) -> Problem:
        """The problem with its data; for a training run as it was when the run began.

        `UserError` if the train rows have changed since: losses and constants would be of other data.
        """
        # a training copies its problems: the user's files may be others by the time it is read
        copies = (self.directory / "problems").resolve()
        copied = copies / self.problem_name / "specification.txt"
        if copied.is_file():
            return load_problem(self.problem_name, copied, copies)
        spec_path = self.settings.get("spec_path")
        data_dir = self.settings.get("data_dir") or "data"
        problem = load_problem(self.problem_name, spec_path, data_dir, declarations_of(self.settings))
        check_data(self.directory, problem)
        return problem

    def outputs(self, **options: Any) -> Outputs:
        """The run's files as `Outputs` with these options would write them."""
        outputs = Outputs(self.output, self.problem(), self.settings, mode=self.mode, **options)
        for sample in self.samples:
            outputs.add(sample)
        return outputs


def is_run(directory: Path) -> bool:
    """Whether a directory holds the archive of a run."""
    return (directory / "archive").is_dir()


def read_run(directory: str | Path) -> list[Recorded]:
    """The run in a directory, once per problem; `UserError` where there is none or it cannot be read."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; name the directory of a run")
    if not is_run(directory):
        below = next((p.parent for p in sorted(directory.glob("*/archive")) if p.is_dir()), None)
        hint = f"; did you mean {below}?" if below else "; name the --log_path or --output_dir of a run"
        raise UserError(f"{directory} holds no run (it has no folder archive){hint}")
    mode, settings = read_settings(directory)
    samples = [sample for sample in read_archive(directory) if sample.kind != VALIDATION]
    return by_problem(directory, mode, settings, samples)


def by_problem(
    directory: Path, mode: str, settings: Mapping[str, Any], samples: Sequence[Sample]
) -> list[Recorded]:
    """A run and its samples once per problem; of several, each has a folder of its own below `results`."""
    names = [name.strip() for name in str(settings.get("problem_name") or "").split(",") if name.strip()]
    if not names:
        raise UserError(f"{directory} does not tell its problem: neither config.yaml nor run.json names one")
    if len(names) == 1:
        return [Recorded(directory, directory, mode, settings, names[0], list(samples))]
    own: dict[str, list[Sample]] = {name: [] for name in names}
    for sample in samples:
        own.setdefault(sample.problem or names[0], []).append(sample)
    results = directory / "results"
    return [Recorded(directory, results / name, mode, settings, name, of) for name, of in own.items()]


def read_settings(directory: Path) -> tuple[str, dict[str, Any]]:
    """(mode, settings) of a run: from `config.yaml` of a search or `run.json` of a training."""
    record = directory / "run.json"
    if record.is_file():
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            settings = dict(content.get("settings") or {})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{record} cannot be read ({error}); restore it or remove it") from None
        resolved = ("trainer", "model_path", "answers_per_step", "steps")
        return TRAINING, settings | {k: content[k] for k in resolved if content.get(k) is not None}
    if (directory / "config.yaml").is_file():
        settings = read_yaml(directory / "config.yaml")
        return (TRAINING if "rollout_n" in settings else SEARCH), settings
    raise UserError(f"{directory} has neither config.yaml nor run.json; the run cannot be told from them")


def find_runs(directory: Path) -> list[Path]:
    """The directories at or below this one that hold a run, sorted; `UserError` where there is none."""
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; name one that holds runs, such as logs")
    found = []
    for path, folders, _ in os.walk(directory):
        here = Path(path)
        if is_run(here):
            found.append(here)
        if is_run(here) or len(here.relative_to(directory).parts) >= DEEPEST:
            folders.clear()
    if not found:
        hint = "name a directory such as logs or llmsr_grpo_outputs"
        raise UserError(f"there is no run below {directory}; {hint}")
    return sorted(found)


# ---- writing


class Outputs:
    """Observes a run and keeps its files up to date; `finish` writes them a last time.

    Files are refreshed when the front has a new member, at most every `every_seconds`, else every
    IDLE_SECONDS, and never more often than lets all refreshes together take a twentieth of the time.
    `rule` says which equation is picked, see `PickedFront.of`; the errors of its constants are taken from
    so many `bootstrap` fits, from the Jacobian where that is 0.
    """

    def __init__(
        self,
        output: str | Path,
        problem: Problem,
        settings: Mapping[str, Any],
        *,
        mode: str = SEARCH,
        rule: str = "best",
        bootstrap: int = 0,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.output, self.problem, self.settings = Path(output), problem, dict(settings)
        self.mode, self.rule, self.bootstrap = mode, rule, bootstrap
        self.front, self.finals = Front(), Finals(problem)
        self.guesses: list[Sample] = []
        self.history, self.totals = History(), Totals()
        self._picked = PickedFront((), (), None)
        self._parts: Parts | None = None
        self._every_seconds = every_seconds
        self._changed = False
        self._next = time.monotonic() + every_seconds

    def __call__(self, sample: Sample, totals: Totals) -> None:
        self.totals = totals
        self._note(sample)
        self.refresh()

    def add(self, sample: Sample) -> None:
        """Take note of a sample without writing anything; for runs that nobody counts elsewhere."""
        self.totals.add(sample)
        self._note(sample)

    def _note(self, sample: Sample) -> None:
        self.history.add(sample)
        self.finals.add(sample)
        self._changed |= self.front.add(sample)
        if sample.kind == GUESS:
            self.guesses.append(sample)

    def refresh(self) -> bool:
        """Write the files if it is time for that; whether it was."""
        began = time.monotonic()
        if began < self._next + (0.0 if self._changed else IDLE_SECONDS):
            return False
        self.finish(complete=False)
        ended = time.monotonic()
        self._next = ended + max(self._every_seconds, (ended - began) / COST_SHARE)
        return True

    def finish(self, complete: bool = True) -> dict[str, Any]:
        """Write all files and hand back what `result.json` says; `complete` tells whether the run is over.

        What a run found is in its archive, so a fault in a file for people must not end the run: it is told
        on standard error and `report` repeats it. A file that cannot be written is a `UserError`.
        """
        try:
            return self._write(complete)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            fault = f"{type(error).__name__}: {error}"
            print(f"llmsr: the report could not be written ({fault}); the archive is whole", file=sys.stderr)
            result = self.counts(complete)
            _write_json(self.output, result)
            return result

    def picked_front(self) -> PickedFront:
        """The front as equations with its pick; each equation is made once."""
        if self._parts is None and self.problem.spec.least_squares:
            self._parts = Parts(self.problem)
        self._picked = PickedFront.of(
            self.front.members, self.problem, self.rule, known=self._picked.equations, parts=self._parts
        )
        pick = self._picked.pick
        if self.bootstrap and pick is not None:
            errors = bootstrapped(pick.expression, pick.params, self.problem.train, self.bootstrap)
            self._picked = self._picked.with_pick(replace(pick, uncertainty=errors))
        return self._picked

    def result(self, complete: bool = True) -> dict[str, Any]:
        """What `result.json` says, as plain data; nothing is written."""
        front = self.picked_front()
        entries = [
            equation.to_json() | {"length": finite_or_none(length), **self._errors(equation)}
            for equation, length in zip(front.equations, front.lengths, strict=True)
        ]
        result = self.counts(complete) | {
            "selection": self.rule,
            "warning": front.warning,
            "pick": None if front.picked is None else entries[front.picked],
            "front": entries,
        }
        if complete and front.pick is not None:
            others = self.finals.behind([front.pick.sample])
            result["finals"] = [result["pick"], *(Equation.of(s, self.problem).to_json() for s in others)]
        if complete and (states := state_errors(self.problem, self.settings, self.output, front.pick)):
            result["integrated"] = states
        if self.mode == TRAINING:
            result["curve"] = learning_curve([self.history])
        return result

    def _errors(self, equation: Equation) -> dict[str, Any]:
        """R2 and RMSE of an equation, one per split, the latter in units of the target.

        None where its NMSE is, and where the loss is not of squares; weights count in both.
        """
        told = {
            name: (1 - error, math.sqrt(error * split.spread))
            if split.loss.squares and (error := equation.nmse.get(name)) is not None
            else (None, None)
            for name, split in self.problem.splits.items()
        }
        return {kind: {name: e[i] for name, e in told.items()} for i, kind in enumerate(("r2", "rmse"))}

    def _write(self, complete: bool) -> dict[str, Any]:
        # late: a search should not wait for what its first refresh needs
        from llmsr.report.pages import report_page

        self._changed = False
        result = self.result(complete)
        _write_json(self.output, result)
        front = self._picked
        files = {"equations.csv": front.to_csv()}
        if front.pick is not None:
            files |= {"best_equation.py": front.pick.python(), "best_equation.tex": front.pick.tex()}
        if result.get("curve"):
            files["curve.csv"] = curve_csv(result["curve"])
        files["report.html"] = report_page(result, self.history, self.problem, self.settings, front)
        for name, text in files.items():
            write_file(self.output / name, text)
        return result

    def counts(self, complete: bool = True) -> dict[str, Any]:
        """The outcome without the front; `best` is None where no sample was valid.

        It is the sample of least training loss; test_id and test_ood are reported, never selected on.
        """
        totals, best, history = self.totals, self.totals.best, self.history
        counts = ("samples", "valid", "distinct", "refinements", "tokens", "failed_prompts")
        seconds = ("seconds", "generation_seconds", "fit_seconds", "cpu_seconds")
        found = {
            "problem": self.problem.name,
            "note": self.problem.note,
            "mode": self.mode,
            "finished": complete,
            **{name: getattr(totals, name) for name in counts},
            "failures": dict(totals.failures),
            "guesses": [_guess(sample) for sample in self.guesses],
            "best": None if best is None else description(best, self.problem.target),
            **{name: round(getattr(history, name), 3) for name in seconds},
            "cost": history.cost,
            "proposers": history.proposers,
            "fits": history.fits,
            "refinement_fits": history.refinement_fits,
        }
        if self.mode == TRAINING:
            found |= {"trainer": self.settings.get("trainer"), "base_model": self.settings.get("model_path")}
        return found


def _guess(sample: Sample) -> dict[str, Any]:
    """What `result.json` says of an equation that the user began from."""
    evaluation = sample.evaluation
    said = {"guess": sample.completion, "ok": evaluation.ok, "reason": evaluation.reason}
    return said | {"equation": evaluation.expression, "nmse": dict(evaluation.nmse)}


def write_run(directory: Path, runs: Sequence[Outputs], complete: bool = True) -> dict[str, Any]:
    """Write all files of a run and hand back what its `result.json` says; `runs` are its problems.

    Of many problems, counts and the best equation of each are in `result.json`, and none has a page.
    """
    many = len(runs) > MOST_PAGES
    results = [outputs.counts(complete) if many else outputs.finish(complete) for outputs in runs]
    return results[0] if len(runs) == 1 else write_several(directory, runs, results)


def write_several(
    directory: Path, runs: Sequence[Outputs], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write the files about all problems of a run and hand back what `result.json` says.

    `results` are what the problems' own files say; their counts are summed, and nothing else is.
    """
    from llmsr.report.pages import problems_page

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
    if len(runs) > MOST_PAGES:
        return whole
    problems = [
        (run.problem.name, (run.output / "report.html").relative_to(directory).as_posix(),
         run.picked_front().pick, run.history)
        for run in runs
    ]  # fmt: skip
    write_file(directory / "report.html", problems_page(problems, whole))
    return whole


def _write_json(directory: Path, result: Mapping[str, Any]) -> None:
    write_file(directory / "result.json", json.dumps(result, indent=2) + "\n")
