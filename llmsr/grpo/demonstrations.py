"""Archives as examples to learn from: what a prompt showed, and the equation that improved on it.

Rows are in the chat format that VERL's and TRL's trainers read. A demonstration is a whole conversation
(`messages`); a preference is a prompt (`prompt`) with a better and a worse answer (`chosen`, `rejected`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from llmsr.evaluator import Evaluator
from llmsr.expression import Expression
from llmsr.expression.printing.source import to_numpy_body
from llmsr.grpo.dataset import Row
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.prompt import Chat, make_prompt
from llmsr.sample import ANSWER, REFINEMENT, Evaluation, Sample
from llmsr.search.population import Member, member_of
from llmsr.settings import PromptSettings

GAIN = 1.25  # times smaller than all that is shown, or than the answer it is preferred to, is an improvement
SHOWN = 2
LONGEST = 400  # characters of an answer of one line


def demonstrations(problem: Problem, samples: Sequence[Sample], settings: PromptSettings) -> Iterator[Row]:
    """A row for every equation of an archive that improved on those it was made from, each equation once.

    Refinements count as answers to a prompt that shows what they refine: so a model may learn from fits what
    no model wrote. `settings` say how a prompt is put; with an answer begun behind `return` an answer is one
    line, whatever its author wrote.
    """
    seen: set[str] = set()
    for sample, shown in _improvements(problem, samples):
        answer = _answer(problem, sample.evaluation, settings)
        if answer is None or sample.evaluation.canonical in seen:
            continue
        seen.add(sample.evaluation.canonical)
        chat = _chat(problem, shown, settings)
        yield {
            "messages": [*chat.messages, _said(chat, answer)],
            "problem": problem.name,
            "nmse": _error(sample.evaluation),
            "shown_nmse": min(member.nmse for member in shown),
        }


def preferences(problem: Problem, samples: Sequence[Sample], settings: PromptSettings) -> Iterator[Row]:
    """A row for every prompt with an improvement: its best answer, and the worst of those it also brought.

    Answers that are no equations are the worst of all, and are shown as their models wrote them.
    """
    asked: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.kind == ANSWER:
            asked[sample.prompt].append(sample)
    improved = {sample.id: shown for sample, shown in _improvements(problem, samples)}
    for group in asked.values():
        best, worst = (end(group, key=lambda s: _error(s.evaluation)) for end in (min, max))
        if best.id not in improved or _error(worst.evaluation) < GAIN * _error(best.evaluation):
            continue
        chat = _chat(problem, improved[best.id], settings)
        chosen, rejected = _answer(problem, best.evaluation, settings), _as_written(problem, worst, settings)
        if chosen is None or not rejected:
            continue
        yield {
            "prompt": list(chat.messages),
            "chosen": [_said(chat, chosen)],
            "rejected": [_said(chat, rejected)],
            "problem": problem.name,
        }


def _improvements(problem: Problem, samples: Sequence[Sample]) -> Iterator[tuple[Sample, list[Member]]]:
    """The equations that are clearly better than all that they were made from, which is beside them."""
    archived = {sample.number: sample.evaluation for sample in samples if sample.kind == ANSWER}
    with Evaluator(problem, workers=1) as evaluator:
        archived[0] = evaluator.evaluate(problem.spec.seed_body)
    for sample in samples:
        if sample.kind not in (ANSWER, REFINEMENT) or not sample.evaluation.ok:
            continue
        made_from = (sample.number,) if sample.kind == REFINEMENT else sample.parents
        parents = [archived[number] for number in made_from if number in archived]
        members = [member_of(0, parent) for parent in parents if parent.ok]
        # an answer may have been shown a refinement of its parent, which is better than the parent is
        shown = sorted(
            (m for m in members if m.nmse >= GAIN * _error(sample.evaluation)), key=lambda m: -m.nmse
        )
        if shown and len(shown) == len(members):
            yield sample, shown[-SHOWN:]


def _error(evaluation: Evaluation) -> float:
    error = evaluation.nmse.get("train")
    return math.inf if error is None or not evaluation.ok else error


def _chat(problem: Problem, shown: Sequence[Member], settings: PromptSettings) -> Chat:
    return make_prompt(problem, [member.version() for member in shown], settings).form(chat=True)


def _answer(problem: Problem, evaluation: Evaluation, settings: PromptSettings) -> str | None:
    """What a model is to write behind what its answer is begun with; None where it is no single line."""
    if settings.begin_answer != "return":
        return "\n".join(f"    {line}" for line in evaluation.body.strip("\n").splitlines())
    equation = read_body(problem.spec, evaluation.body)
    if not isinstance(equation, Expression):  # it calls an equation that its prompt showed
        return None
    line = to_numpy_body(equation, problem.spec.params_name).strip()
    fits = line.startswith("return ") and "\n" not in line and len(line) <= LONGEST
    return line.removeprefix("return") if fits else None


def _as_written(problem: Problem, sample: Sample, settings: PromptSettings) -> str:
    """An answer as a model wrote it, or as it is to be written where it is an equation."""
    written = _answer(problem, sample.evaluation, settings) if sample.evaluation.ok else None
    return written or sample.completion.rpartition("return")[2].rstrip()


def _said(chat: Chat, answer: str) -> Mapping[str, str]:
    fenced = "\n```" if chat.begun.startswith("```") else ""
    return {"role": "assistant", "content": f"{chat.begun}{answer}{fenced}"}
