"""`python -m llmsr tune`: settings of searches or trainings, tried by Optuna; the best as a YAML file."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.archive import read_archive
from llmsr.cli.shared import Verb
from llmsr.config import Checked, flags_of, option, parse_bool, read_yaml
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.settings import GrpoConfig
from llmsr.report.history import History
from llmsr.reward import NMSE_FLOOR
from llmsr.settings import ProposerConfig, RunSettings, SearchSettings

if TYPE_CHECKING:
    import optuna

SETTINGS = "trial.yaml"  # of a trial, in its directory
LOOKS = 20  # at a trial's curve, at equal numbers of samples
WARM_UP = 5  # looks before which, and trials before the first of which, nothing is pruned
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class TuneSettings(Checked):
    """what is tried, and how long"""

    config: str = option(MISSING, "YAML file of settings, and below `space` what is tried", metavar="FILE")
    output_dir: str = option("logs/tune", "folder of the trials, best.yaml, trials.csv and importance.svg")
    trials: int = option(30, "trials in all, those of earlier calls included", least=1)
    jobs: int = option(1, "trials that run side by side", least=1)
    prune: bool = option(True, "end trials early that lie behind")
    seed: int = option(0, "seed of what is tried", least=0)


@dataclass(frozen=True)
class Plan:
    """What is tried: settings that stay, and those that are drawn from lists or ranges."""

    fixed: Mapping[str, Any]
    space: Mapping[str, Any]
    training: bool

    @classmethod
    def read(cls, path: str) -> Plan:
        """The plan in a YAML file; `UserError` for a setting that is none, or a range that cannot be read."""
        fixed = read_yaml(path)
        space = fixed.pop("space", None)
        training = parse_bool(str(fixed.pop("use_rl", False)))
        if not isinstance(space, dict) or not space:
            raise UserError(f"{path} has nothing below `space`; name settings there with what to try")
        known = flags_of(*((GrpoConfig,) if training else (RunSettings, SearchSettings, ProposerConfig)))
        for name in [*fixed, *space]:
            if f"--{name}" not in known:
                kind = "training" if training else "search"
                raise UserError(f"{path}: a {kind} has no setting {name!r}")
        if not isinstance(fixed.get("budget"), int) or fixed["budget"] < 1:
            raise UserError(f"{path} needs a budget, a number of samples, so that trials compare")
        for name, tried in space.items():
            ends: list[Any] = [tried.get("low"), tried.get("high")] if isinstance(tried, dict) else [None]
            is_range = all(isinstance(end, int | float) for end in ends) and ends == sorted(set(ends))
            if not (tried and isinstance(tried, list)) and not is_range:
                raise UserError(f"{path}: {name} needs a list, or {{low: 1, high: 8}} with low below high")
        return cls(fixed, space, training)

    def draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values of the space for a trial."""
        drawn: dict[str, Any] = {}
        for name, tried in self.space.items():
            if isinstance(tried, list):
                drawn[name] = trial.suggest_categorical(name, tried)
                continue
            whole = isinstance(tried["low"], int) and isinstance(tried["high"], int)
            suggest = trial.suggest_int if whole else trial.suggest_float
            drawn[name] = suggest(name, tried["low"], tried["high"], log=bool(tried.get("log")))
        return drawn

    def command(self, directory: Path) -> list[str]:
        """The command line of a trial, whose settings stand in its directory."""
        words = [sys.executable, "-m", "llmsr", "run", *(["--use_rl"] if self.training else [])]
        words += ["--config", str(directory / SETTINGS)]
        return [*words, "--output_dir" if self.training else "--log_path", str(directory)]


def curve(directory: Path) -> np.ndarray:
    """log10 of the best training NMSE so far, one per sample of a run; 0 before the first equation."""
    records = History(read_archive(directory)).records
    best = records.nmse_train.fillna(1.0).clip(NMSE_FLOOR, 1.0).cummin()
    return np.log10(best.groupby(records.samples).min().to_numpy())


class Tuning:
    """A study over a plan below a folder. Trials are processes; `stop` ends them with their results."""

    def __init__(self, plan: Plan, given: TuneSettings) -> None:
        self.plan, self.given = plan, given
        self.folder = Path(given.output_dir)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = threading.Event()

    def run(self) -> optuna.Study:
        """Bring the study to its number of trials."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        behind = optuna.pruners.MedianPruner(WARM_UP, WARM_UP)
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name="llmsr",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=self.given.seed),
            pruner=behind if self.given.prune else optuna.pruners.NopPruner(),
        )
        states = optuna.trial.TrialState
        # what a killed call left under way is tried again
        for left in study.get_trials(states=[states.RUNNING]):
            study.tell(left.number, state=states.FAIL)
            study.enqueue_trial(left.params)
        missing = self.given.trials - len(study.get_trials(states=(states.COMPLETE, states.PRUNED)))
        if missing > 0:
            study.optimize(self._trial, missing, n_jobs=self.given.jobs, catch=(TrialFailure,))
        return study

    def stop(self) -> None:
        """End the trials that run."""
        self._stopped.set()
        for process in list(self._running):
            process.send_signal(signal.SIGTERM)

    def _trial(self, trial: optuna.Trial) -> float:
        import optuna
        import yaml

        directory = self.folder / "trials" / f"{trial.number:04d}"
        directory.mkdir(parents=True, exist_ok=True)
        drawn = self.plan.draw(trial)
        write_file(directory / SETTINGS, yaml.safe_dump({**self.plan.fixed, **drawn}, sort_keys=False))
        with open(directory / "output.log", "wb") as log:
            process = subprocess.Popen(self.plan.command(directory), stdout=log, stderr=log)
        self._running.add(process)
        try:
            behind = self._followed(trial, process, directory)
        finally:
            self._running.discard(process)
        if self._stopped.is_set():
            trial.study.stop()
            raise TrialFailure("interrupted")
        if behind:
            raise optuna.TrialPruned
        if process.returncode:
            told = (directory / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()
            raise TrialFailure(told[-1] if told else f"exit code {process.returncode}")
        found = curve(directory)
        # a run that ended at the law has nothing left to lose
        value = float(np.pad(found, (0, max(0, self.plan.fixed["budget"] - len(found))), "edge").mean())
        words = ", ".join(f"{name} {value}" for name, value in drawn.items())
        print(f"trial {trial.number}: {value:.3f} ({words})", file=sys.stderr, flush=True)
        return value

    def _followed(self, trial: optuna.Trial, process: subprocess.Popen[bytes], directory: Path) -> bool:
        """Wait for a trial's end, telling the study of its curve; whether it was ended as it lies behind."""
        step = max(1, self.plan.fixed["budget"] // LOOKS)
        told = 0
        while True:
            try:
                process.wait(POLL_SECONDS)
                return False
            except subprocess.TimeoutExpired:
                found = curve(directory) if (directory / "archive").is_dir() else np.empty(0)
            while len(found) >= (told + 1) * step:
                told += 1
                trial.report(float(found[: told * step].mean()), told)
            if told and trial.should_prune():
                process.send_signal(signal.SIGTERM)
                process.wait()
                return True


class TrialFailure(Exception):
    """A run that ended without a result; the study goes on."""


@Verb
def tune(given: TuneSettings) -> int:
    """Try settings and write the best ones. The file has settings as --config takes them, among them the
    budget, and below `space` what is tried:

      problem_name: oscillator1
      use_rl: true
      budget: 400
      space:
        memory: [none, islands, puct]
        learning_rate: {low: 1.0e-6, high: 1.0e-3, log: true}
        rollout_n: {low: 2, high: 8}

    A trial is a run. What is made least is the mean over its samples of log10 of the best NMSE on the
    training rows so far; a trial that lies above the median of the others at equal samples is ended early.
    The same command goes on where it was interrupted, or with more trials.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("llmsr tune needs the package optuna; pip install 'llmsr[tune]'") from None
    tuning = Tuning(Plan.read(given.config), given)
    try:
        study = tuning.run()
    except KeyboardInterrupt:
        tuning.stop()
        print(f"interrupted; the same command goes on in {tuning.folder}", file=sys.stderr)
        return 130
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not complete:
        raise UserError(f"no trial came to its end; {tuning.folder}/trials/*/output.log say why")
    write_found(tuning, study)
    return 0


def write_found(tuning: Tuning, study: optuna.Study) -> None:
    """best.yaml, trials.csv and importance.svg of a study; the best trial on standard output."""
    import optuna
    import yaml

    folder, plan = tuning.folder, tuning.plan
    best = {**plan.fixed, **study.best_params}
    told = f"trial {study.best_trial.number} of {len(study.trials)}: mean log10 NMSE {study.best_value:.4g}"
    write_file(folder / "best.yaml", f"# {told}\n{yaml.safe_dump(best, sort_keys=False)}")
    write_file(folder / "trials.csv", study.trials_dataframe().to_csv(index=False))
    print(told)
    for name, value in study.best_params.items():
        print(f"  {name}: {value}")
    use_rl = "--use_rl " if plan.training else ""
    print(f"next: python main.py {use_rl}--config {folder / 'best.yaml'}", file=sys.stderr)
    values = {trial.value for trial in study.trials if trial.value is not None and math.isfinite(trial.value)}
    if len(values) < 2:
        return  # nothing differs yet
    shares = optuna.importance.get_param_importances(study)
    for name, share in shares.items():
        print(f"  {share:4.0%} of the differences by {name}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(4, 0.6 + 0.3 * len(shares)), layout="constrained")
    axes = figure.add_subplot(xlabel="share of the differences between trials")
    axes.barh(list(shares)[::-1], list(shares.values())[::-1])
    figure.savefig(folder / "importance.svg", metadata={"Date": None})
