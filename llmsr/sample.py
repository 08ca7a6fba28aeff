"""The records of a run: what became of one completion, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

# Every way an evaluation can end. All but "ok" are failures with a reason.
STATUSES = (
    "ok",
    "empty",  # no function body in the text
    "syntax",  # not Python
    "unsupported",  # Python, but nothing that an equation of one row can be
    "too_large",  # beyond the limits on text, nesting or operations
    "constant",  # uses no input column
    "form",  # not of the form that the problem asks for
    "units",  # its units do not agree, where the run asks for it
    "nonfinite",  # no constants give finite values on the training rows
    "timeout",  # no result before the deadline
    "crash",  # the worker process died
    "error",  # the spec's own evaluate raised
)

# The kinds of samples.
ANSWER = "answer"  # a completion that counts against the budget
REFINEMENT = "refinement"  # an equation that was made out of a sample without a model
VALIDATION = "validation"  # an answer that only watches over a training
GUESS = "guess"  # an equation that the user begins from; its proposer is called so too

REFINE = "refine"  # proposer of refinements
STRUCTURE = "structure"  # proposer of refinements of number 0, which structure search finds in the data alone
POLICY = "policy"  # proposer of the answers that a model is trained on


@dataclass(frozen=True)
class Evaluation:
    """What one completion is worth: its equation, fitted constants and errors, or why there is none.

    `score` is what the search maximises and LLM-SR reports: what the spec's own evaluate returned, which is
    minus `train_mse` for the standard one. `params` are in the author's numbering, `max_params` long, 1.0
    where unused. `train_mse` is in squared
    units of the target; `nmse` maps a split to mean squared error over that split's variance, None where a
    prediction is not finite. `line` is 1-based in `body`. `repaired` lists what of the answer was read
    otherwise than written, such as "exp read as np.exp"; `body` has it put right.
    """

    status: str
    reason: str = ""
    line: int | None = None
    body: str = ""
    repaired: tuple[str, ...] = ()
    expression: str = ""
    latex: str = ""
    canonical: str = ""
    complexity: int | None = None
    params: tuple[float, ...] | None = None
    score: float | None = None
    train_mse: float | None = None
    nmse: Mapping[str, float | None] = field(default_factory=dict)
    fitter: str = ""
    engine: str = ""
    evaluations: int = 0
    deadline_reached: bool = False
    fit_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def worth(self) -> float:
        """The score to maximise; minus infinity for a failure."""
        return self.score if self.score is not None else -math.inf

    @property
    def penalized(self) -> bool:
        """Whether it is valid but counts less, for the reason that it has."""
        return self.ok and bool(self.reason)


@dataclass(frozen=True)
class Sample:
    """One completion and all that became of it.

    `number` counts a run's completions from 1; 0 stands for the spec's own body, which is shown in prompts
    but is no sample. `prompt` counts the run's prompts from 0; `parents` are the numbers of the samples that
    it showed. `tokens` are generated tokens, `prompt_tokens` its share of the prompt's, `cost` what both come
    to by the run's prices; `finish_reason` says why there are no more ("length": cut off), `seconds` the time
    of the request divided by its completions, `elapsed` the seconds from the run's begin to this record,
    pauses between runs and resumes left out.
    `kind` is one of ANSWER, REFINEMENT, VALIDATION and GUESS. A refinement has the number of the sample that
    it refines, which is its parent, and is its `refinement`-th from 1; so no two samples of a run share an
    `id`. Guesses are 0.1, 0.2, ...; what is made of them and of the data alone is counted on from there.
    `problem` names the problem where one run holds several; `step` and `reward` belong to training.
    """

    number: int
    completion: str
    evaluation: Evaluation
    prompt: int = 0
    island: int | None = None
    parents: tuple[int, ...] = ()
    proposer: str = ""
    kind: str = ANSWER
    refinement: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cost: float = 0.0
    finish_reason: str = ""
    seconds: float = 0.0
    elapsed: float = 0.0
    seed: int = 0
    duplicate_of: int | None = None
    step: int | None = None
    reward: float | None = None
    problem: str = ""

    @property
    def id(self) -> str:
        """`12` for sample 12, `12.3` for its third refinement."""
        return f"{self.number}.{self.refinement}" if self.refinement else str(self.number)

    def to_record(self) -> dict[str, Any]:
        """A flat mapping for JSON: the provenance and the evaluation side by side."""
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "evaluation"}
        return record | asdict(self.evaluation)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Sample:
        """The sample that `to_record` described; keys of neither class are ignored."""
        own = {f.name for f in fields(cls)} - {"evaluation"}
        inner = {f.name for f in fields(Evaluation)}
        evaluation = {k: v for k, v in record.items() if k in inner}
        evaluation["repaired"] = tuple(evaluation.get("repaired") or ())
        if evaluation.get("params") is not None:
            evaluation["params"] = tuple(float(p) for p in evaluation["params"])
        outer = {k: v for k, v in record.items() if k in own}
        outer["parents"] = tuple(outer.get("parents") or ())
        if "kind" not in outer:  # version 0.1 told the kind by the proposer
            told = {REFINE: REFINEMENT, VALIDATION: VALIDATION}
            outer["kind"] = told.get(outer.get("proposer", ""), ANSWER)
        return cls(evaluation=Evaluation(**evaluation), **outer)


def is_llm_sample(sample: Sample) -> bool:
    """Whether the sample counts against a run's budget, as the answers of a model do."""
    return sample.kind == ANSWER


def finite_or_none(value: float | None) -> float | None:
    """The number itself, or None where JSON could not hold it."""
    return value if value is not None and math.isfinite(value) else None
