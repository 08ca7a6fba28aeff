"""One run of another program, written as a run of ours: an archive of the equations that it reported."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmsr.archive import Archive
from llmsr.benchmark.peers import PEERS, PeerSettings
from llmsr.config import Parser, add_options, as_mapping, option, resolve
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.run_directory import RunLock, write_configuration
from llmsr.sample import Sample

Report = Callable[[str], None]


@dataclass(frozen=True)
class PeerRun:
    """problem and run"""

    problem_name: str = option("oscillator1", "the problem's name: its folder below data_dir")
    spec_path: str | None = option(None, "spec file (default: specs/specification_<problem>_numpy.txt)")
    data_dir: str = option("data", "folder that holds <problem>/{train,test_id,test_ood}.csv")
    log_path: str = option("logs/peer", "the run's directory")
    seed: int = option(0, "seed of the program's own random draws")


class Budget:
    """The CPU seconds of this process, all its threads together, since this was made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.process_time()

    @property
    def left(self) -> float:
        return self.seconds - (time.process_time() - self._began)


def main(words: Sequence[str]) -> int:
    parser = Parser(prog="llmsr benchmark peer", description="Run another program.")
    add_options(parser, PeerRun, PeerSettings)
    run, settings = resolve(PeerRun, PeerSettings, given=vars(parser.parse_args(words)))
    module, package = PEERS[settings.peer]
    try:
        fit = importlib.import_module(module).fit
    except ImportError as error:
        raise UserError(f"{settings.peer} is not here ({error}): pip install {package}") from None
    problem = load_problem(run.problem_name, run.spec_path, run.data_dir)
    with (
        RunLock(run.log_path),
        Evaluator(problem, workers=1) as evaluator,
        Archive(run.log_path, settings.peer) as archive,
    ):
        write_configuration(archive.path.parents[1], as_mapping(run, settings))
        report = _Reporter(evaluator, archive, settings.peer)
        fit(problem, settings, run.seed, Budget(settings.cpu_seconds), report)
    print(f"{settings.peer}: {report.count} equations")
    return 0


class _Reporter:
    """Archives an equation's body as a sample, unless it was the last one already."""

    def __init__(self, evaluator: Evaluator, archive: Archive, name: str) -> None:
        self.count = 0
        self._evaluator, self._archive, self._name = evaluator, archive, name
        self._began = time.monotonic()
        self._last = ""

    def __call__(self, body: str) -> None:
        if body == self._last:
            return
        self._last = body
        self.count += 1
        elapsed = round(time.monotonic() - self._began, 3)
        evaluation = self._evaluator.evaluate(body)
        self._archive.append(Sample(self.count, body, evaluation, proposer=self._name, elapsed=elapsed))
