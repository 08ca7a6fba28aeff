"""What each part of a chat prompt is worth: the product's own prompts, a model's answers, one line a variant.

    python tests/gpu/prompt_trial.py MODEL OUT.jsonl [--prompts 48] [--answers 8] [--only "NAME;NAME"]

Answers are drawn as a search with `--proposer transformers` draws them, on a GPU where there is one (keep it
small elsewhere). OUT.jsonl gets every answer with what became of it; the table goes to standard output:

    tokens     the median of an answer            distinct   different equations among the valid
    cut        answers that met the token limit   copies     valid answers that repeat a shown equation
    valid      answers that could be fitted       better     answers with a smaller error than all shown
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmsr.evaluator import Evaluator
from llmsr.grpo.dataset import build_pool
from llmsr.models.chat_template import ChatTemplate, end_tokens, stop_test
from llmsr.models.loading import load_model
from llmsr.models.sampler import Drawing, Sampler
from llmsr.models.sampler import Prompt as Tokens
from llmsr.problem.loading import Problem, load_problem
from llmsr.prompt import Chat, Prompt, cut_at_stops, make_prompt, version_bodies
from llmsr.search.population import Member
from llmsr.settings import PromptSettings, ProposerConfig

POOL = 40
ANSWERS_TOGETHER = 256


@dataclass(frozen=True)
class Variant:
    """How a model is asked: `meanings` of the columns told or not, as a chat or not, at which temperature.

    `reworded` are pairs: words of the prompt and those that stand in their place.
    """

    settings: PromptSettings = field(default_factory=PromptSettings)
    meanings: bool = True
    chat: bool = True
    temperature: float = 1.0
    reworded: tuple[tuple[str, str], ...] = ()

    def asked(self, prompt: Prompt) -> Chat:
        """The prompt as this variant puts it."""
        made = prompt.form(self.chat)
        for was, put in self.reworded:
            told = tuple({**m, "content": m["content"].replace(was, put)} for m in made.messages)
            made = replace(made, messages=told)
        return made


CONSTANTS = ("use params[0], params[1] and so on", "use params[0] to params[9], and no others,")
NAMES = ("numpy is np.", "numpy is np; there are no other names.")
SHORT = ("Write one equation", "Write one short equation")

VARIANTS: dict[str, Variant] = {
    "return": Variant(),
    "return, temperature 0.9": Variant(temperature=0.9),
    "return, temperature 0.8": Variant(temperature=0.8),
    "return, all constants": Variant(reworded=(CONSTANTS,)),
    "return, short": Variant(reworded=(SHORT,)),
    "return, names": Variant(reworded=(NAMES,)),
    "return, constants and short": Variant(reworded=(CONSTANTS, SHORT)),
    "return, all three": Variant(reworded=(CONSTANTS, NAMES, SHORT)),
    "return, all three, temperature 0.8": Variant(temperature=0.8, reworded=(CONSTANTS, NAMES, SHORT)),
    "return, ranges": Variant(PromptSettings(context="columns")),
    "return, no meanings": Variant(meanings=False),
    "return, constants": Variant(PromptSettings(context="constants")),
    "return, rows": Variant(PromptSettings(context="rows")),
    "return, residuals": Variant(PromptSettings(context="residuals")),
    "header": Variant(PromptSettings(begin_answer="header")),
    "free": Variant(PromptSettings(begin_answer="none")),
    "raw completion": Variant(chat=False),
}


@dataclass(frozen=True)
class Drawn:
    """One answer: its text with what was begun, its tokens, and whether it met the limit."""

    text: str
    tokens: int
    cut: bool


class Drawer:
    """Draws answers from the model of a folder."""

    def __init__(self, model: str) -> None:
        self.tokenizer, self.model = load_model(ProposerConfig(), model)
        self.ends = end_tokens(self.model, self.tokenizer)

    def template(self, variant: Variant) -> ChatTemplate:
        """The way from a variant's messages to tokens."""
        return ChatTemplate(self.tokenizer, "auto" if variant.chat else "plain")

    def draw(self, prompts: Sequence[Prompt], variant: Variant, n: int) -> list[list[Drawn]]:
        """n answers to each prompt."""
        asked, template = [variant.asked(prompt) for prompt in prompts], self.template(variant)
        stops = asked[0].stops
        limit = variant.settings.answer_tokens if variant.chat else 512
        drawing = Drawing(variant.temperature, limit, self.ends, stop_test(self.tokenizer, stops))
        sampler, drawn = Sampler(self.model, drawing), []
        together = max(1, ANSWERS_TOGETHER // n)
        for first in range(0, len(asked), together):
            part = asked[first : first + together]
            encoded = [template.encode(one) for one in part]
            tokens = [Tokens(ids, n, first + i, preface) for i, (ids, preface) in enumerate(encoded)]
            for one, samples in zip(part, sampler.sample(tokens), strict=True):
                texts = [self.tokenizer.decode(s.tokens, skip_special_tokens=True) for s in samples]
                drawn.append(
                    [
                        Drawn(one.begun + cut_at_stops(text, stops), len(s.tokens), s.reason == "length")
                        for text, s in zip(texts, samples, strict=True)
                    ]
                )
        return drawn


def shown_members(problem: Problem, pool: Sequence[Member], count: int) -> list[list[Member]]:
    """What each prompt shows, worst first: two equations, or one in a fifth of the prompts."""
    rng = Random(f"trial {problem.name}")
    sizes = [2 if rng.random() < 0.8 else 1 for _ in range(count)]
    return [[pool[i] for i in sorted(rng.sample(range(len(pool)), size))] for size in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--problems", default="oscillator1,bactgrow")
    parser.add_argument("--only", default=";".join(VARIANTS), help="variants, with semicolons between them")
    given = parser.parse_args()
    drawer = Drawer(given.model)
    print(
        "| problem | variant | prompt | tokens | cut | valid | distinct | copies | better | best NMSE | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with open(given.out, "w", encoding="utf-8") as out:
        for name in given.problems.split(","):
            problem = load_problem(name)
            with Evaluator(problem, fit_timeout=5.0) as evaluator:
                shown = shown_members(problem, build_pool(problem, evaluator, POOL, 0), given.prompts)
                for variant in given.only.split(";"):
                    started = time.monotonic()
                    records = tried(variant, problem, evaluator, shown, drawer, given.answers)
                    out.writelines(json.dumps(record) + "\n" for record in records)
                    print(line(name, variant, records, time.monotonic() - started), flush=True)


def tried(
    name: str,
    problem: Problem,
    evaluator: Evaluator,
    shown: Sequence[Sequence[Member]],
    drawer: Drawer,
    n: int,
) -> list[dict]:
    """Every answer to a variant's prompts, and what became of it."""
    variant = VARIANTS[name]
    told = problem if variant.meanings else replace(problem, spec=replace(problem.spec, docstring=""))
    versions = [[member.version() for member in members] for members in shown]
    prompts = [make_prompt(told, one, variant.settings) for one in versions]
    answers, template = drawer.draw(prompts, variant, n), drawer.template(variant)
    waiting = [
        (number, one, evaluator.submit(one.text, version_bodies(problem.spec, versions[number])))
        for number, group in enumerate(answers)
        for one in group
    ]
    records = []
    for number, one, future in waiting:
        found = future.result()
        nmse = found.nmse.get("train") if found.ok else None
        records.append(
            {
                "problem": problem.name,
                "variant": name,
                "prompt": number,
                "text": one.text,
                "tokens": one.tokens,
                "cut": one.cut,
                "prompt_tokens": template.count(variant.asked(prompts[number])),
                "status": found.status,
                "reason": found.reason,
                "canonical": found.canonical,
                "nmse": nmse,
                "copy": found.ok and found.canonical in {m.canonical for m in shown[number]},
                "better": nmse is not None and nmse < 0.999 * min(m.nmse for m in shown[number]),
            }
        )
    return records


def line(problem: str, variant: str, records: Sequence[dict], seconds: float) -> str:
    """A variant's row of the table."""
    valid = [record for record in records if record["status"] == "ok"]
    share = len(records) / 100
    cells = [
        problem,
        variant,
        f"{median(record['prompt_tokens'] for record in records):.0f}",
        f"{median(record['tokens'] for record in records):.0f}",
        f"{sum(record['cut'] for record in records) / share:.0f}%",
        f"{len(valid) / share:.0f}%",
        f"{100 * len({record['canonical'] for record in valid}) / max(1, len(valid)):.0f}%",
        f"{100 * sum(record['copy'] for record in valid) / max(1, len(valid)):.0f}%",
        f"{sum(record['better'] for record in records) / share:.0f}%",
        f"{min((record['nmse'] for record in valid if record['nmse'] is not None), default=1.0):.1e}",
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
