"""How a run went: a row of numbers per record, kept as it comes, and the tables that pages are made of."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.report.front import SPLITS, loss_of
from llmsr.sample import GUESS, REFINEMENT, Sample

if TYPE_CHECKING:
    import pandas as pd

FAILED, REPEATED, NEW, REFINED = range(4)  # what a record is: three kinds of answers, and refinements
KINDS_OF_REASONS = 2000  # counted apart; what comes later is counted by its status alone
REASON_CHARACTERS = 100
NMSE = [f"nmse_{split}" for split in SPLITS]
COLUMNS = ("number", "kind", "samples", "seconds", "tokens", "island", "step", "reward", "loss",
           "complexity", "parent", *NMSE)  # fmt: skip
LATEST = 12  # records that are kept whole


class History:
    """What became of a run's records, in the order in which they came.

    `add` is told of every answer and refinement. The tables are DataFrames over `COLUMNS`: `samples` and
    `tokens` count the answers so far, `seconds` the run's time, `loss` is what the run minimised, `parent`
    the best record that the answer's prompt showed, and nan stands for what a record does not have. `latest`
    are the last records themselves.
    """

    def __init__(self, samples: Sequence[Sample] = ()) -> None:
        # eight bytes a cell: a run of a million records keeps them all
        self._columns = {name: array("d") for name in COLUMNS}
        self._known: set[str] = set()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.samples = self.tokens = self.fits = self.refinement_fits = self.deadlines = 0
        self.seconds = self.generation_seconds = self.fit_seconds = self.cpu_seconds = 0.0
        self.by_proposer: dict[str, Counter[str]] = {}
        self.latest: deque[Sample] = deque(maxlen=LATEST)
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Take note of a record; of an answer with an equation whether an earlier one had it."""
        self.latest.append(sample)
        evaluation = sample.evaluation
        fitted = evaluation.evaluations > 0
        self.fit_seconds += evaluation.fit_seconds
        self.cpu_seconds += evaluation.cpu_seconds
        self.deadlines += evaluation.deadline_reached
        self.seconds = max(self.seconds, sample.elapsed)
        if sample.kind in (REFINEMENT, GUESS):  # what no model wrote
            kind = REFINED
            self.refinement_fits += fitted
        else:
            kind = FAILED if not evaluation.ok else REPEATED if evaluation.canonical in self._known else NEW
            self.samples += 1
            self.tokens += sample.tokens
            self.generation_seconds += sample.seconds
            self.fits += fitted
            told = {"samples": 1, "valid": evaluation.ok, "new": kind == NEW, "tokens": sample.tokens,
                    "prompt_tokens": sample.prompt_tokens, "cost": sample.cost}  # fmt: skip
            self.by_proposer.setdefault(sample.proposer, Counter()).update(told)
        if kind == NEW:
            self._known.add(evaluation.canonical)
        elif kind == FAILED:
            key = (evaluation.status, evaluation.reason[:REASON_CHARACTERS])
            full = len(self.reasons) >= KINDS_OF_REASONS and key not in self.reasons
            self.reasons[(evaluation.status, "other reasons") if full else key] += 1
        found = evaluation.ok
        row = (sample.number, kind, self.samples, sample.elapsed, self.tokens, sample.island, sample.step,
               sample.reward if kind != REFINED else None, loss_of(sample) if found else None,
               evaluation.complexity if found else None,
               # prompts show equations in ascending order of score
               sample.parents[-1] if sample.parents else None,
               *(evaluation.nmse.get(split) if found else None for split in SPLITS))  # fmt: skip
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(math.nan if value is None else value)
        self.__dict__.pop("records", None)

    @property
    def proposer(self) -> str:
        """The names of all who were asked, separated by commas."""
        return ",".join(filter(None, self.by_proposer))

    @property
    def cost(self) -> float:
        """What all answers cost, 0 without prices."""
        return sum(told["cost"] for told in self.by_proposer.values())

    @property
    def proposers(self) -> list[dict[str, Any]]:
        """What each proposer's answers came to: samples, valid and new ones, tokens, money."""
        return [{"proposer": name, **told} for name, told in self.by_proposer.items()]

    @cached_property
    def records(self) -> pd.DataFrame:
        """All records so far, a row each."""
        import pandas as pd

        return pd.DataFrame({name: np.array(column) for name, column in self._columns.items()})

    @property
    def answers(self) -> pd.DataFrame:
        """The records that are no refinements, with whether each is `valid` and `new`."""
        records = self.records[self.records.kind != REFINED]
        return records.assign(valid=records.kind != FAILED, new=records.kind == NEW)

    def best(self, refinements: bool = True) -> pd.DataFrame:
        """The records that were better than all before them, by the loss; without refinements on demand."""
        records = self.records if refinements else self.records[self.records.kind != REFINED]
        return improvements(records, "loss")

    def lineage(self, number: int) -> pd.DataFrame:
        """The answer of a number and what it came from, the youngest first; empty for the spec's own."""
        answers = self.answers.drop_duplicates("number").set_index("number", drop=False)
        line: list[float] = []
        following = float(number)
        while following in answers.index and following not in line:
            line.append(following)
            following = answers.parent[following]
        return answers.loc[line]

    def islands(self) -> dict[int, pd.DataFrame]:
        """Per island the records with a training error below all before them there."""
        found = self.records.dropna(subset=["island", "nmse_train"]).groupby("island")
        return {int(island): improvements(records, "nmse_train") for island, records in found}

    def steps(self) -> pd.DataFrame:
        """One row per training step, see `step_table`."""
        return step_table([self])

    def stretches(self, parts: int) -> pd.DataFrame:
        """Samples so far and shares of valid and new answers, for up to `parts` stretches of the run."""
        answers = self.answers
        size = max(1, -(-len(answers) // parts))
        grouped = answers.groupby((answers.samples - 1) // size)
        return grouped.agg(samples=("samples", "last"), valid=("valid", "mean"), new=("new", "mean"))


def improvements(records: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows whose value in a column is below that of every row before them."""
    values = records[column].fillna(math.inf)
    return records[values < values.cummin().shift(fill_value=math.inf)]


def step_table(histories: Sequence[History]) -> pd.DataFrame:
    """One row per training step of all: answers, mean reward, shares of valid and new, best NMSE."""
    import pandas as pd

    answers = pd.concat([history.answers for history in histories]).dropna(subset=["step"])
    return answers.groupby("step").agg(
        answers=("kind", "size"), reward=("reward", "mean"), valid=("valid", "mean"), new=("new", "mean"),
        nmse_train=("nmse_train", "min"),
    )  # fmt: skip


def learning_curve(histories: Sequence[History]) -> list[dict[str, Any]]:
    """One point per step: answers so far, mean reward, shares of valid and of new ones, best error so far.

    `distinct` is the share of answers with an equation that no earlier answer had. Several histories are
    those of a run's problems: their answers are counted together, and there is no one best error.
    """
    table = step_table(histories)
    best = table[[]].reindex(columns=NMSE)
    if len(histories) == 1 and len(table):
        found = histories[0].best()[NMSE]
        # the last record of a step, a refinement of it too, tells which best equation the step ended with
        ends = histories[0].records.reset_index().groupby("step")["index"].last()
        places = found.index.searchsorted(ends, side="right") - 1
        best = found.reset_index(drop=True).reindex(places).set_index(table.index)
    told = table.assign(samples=table.answers.cumsum(), distinct=table.new).reset_index()
    told = told.astype({"step": int})[["step", "samples", "reward", "valid", "distinct"]]
    told = told.join(best.add_prefix("best_").reset_index(drop=True)).astype(object)
    return [{str(k): v for k, v in row.items()} for row in told.where(told.notna(), None).to_dict("records")]


def curve_csv(points: Sequence[Mapping[str, Any]]) -> str:
    """The curve as CSV; a cell is empty where there was no valid equation yet."""
    import pandas as pd

    return pd.DataFrame(points, dtype=object).to_csv(index=False, lineterminator="\n")
