"""What each part of a chat prompt is worth: the product's own prompts, a model's answers, one line a variant.

    python tests/gpu/prompt_trial.py MODEL OUT.jsonl [--prompts 48] [--answers 8] [--only "NAME;NAME"]

With vllm installed the answers are drawn on the GPU in one process, else by transformers on the CPU (keep it
small there). OUT.jsonl gets every answer with what became of it; the table goes to standard output:

    tokens     the median of an answer            distinct   different equations among the valid
    cut        answers that met the token limit   copies     valid answers that repeat a shown equation
    valid      answers that could be fitted       better     answers with a smaller error than all shown
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmsr.evaluator import Evaluator
from llmsr.grpo.memory import build_pool
from llmsr.models.chat_template import ChatTemplate
from llmsr.problem.loading import Problem, load_problem
from llmsr.prompt import Chat, Prompt, cut_at_stops, make_prompt, version_bodies
from llmsr.search.population import Member
from llmsr.settings import PromptSettings

POOL = 40

# name: (settings, whether the columns' meanings are told, whether the model is asked as a chat)
VARIANTS: dict[str, tuple[PromptSettings, bool, bool]] = {
    "return": (PromptSettings(), True, True),
    "return, ranges": (PromptSettings(context="columns"), True, True),
    "return, no meanings": (PromptSettings(), False, True),
    "return, constants": (PromptSettings(context="constants"), True, True),
    "return, rows": (PromptSettings(context="rows"), True, True),
    "return, residuals": (PromptSettings(context="residuals"), True, True),
    "header": (PromptSettings(begin_answer="header"), True, True),
    "free": (PromptSettings(begin_answer="none"), True, True),
    "raw completion": (PromptSettings(), True, False),
}


@dataclass(frozen=True)
class Drawn:
    """One answer: its text with what was begun, its tokens, and whether it met the limit."""

    text: str
    tokens: int
    cut: bool


Draw = Callable[[Sequence[Prompt], bool, int, int], list[list[Drawn]]]


def by_vllm(model: str) -> tuple[Draw, ChatTemplate]:
    """Answers of a vLLM engine in this process."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model,
        max_model_len=4096,
        gpu_memory_utilization=0.8,
        generation_config="vllm",
        enable_prefix_caching=True,
    )
    template = ChatTemplate(engine.get_tokenizer())

    def draw(prompts: Sequence[Prompt], chat: bool, n: int, limit: int) -> list[list[Drawn]]:
        made = [_asked(prompt, template, chat) for prompt in prompts]
        params = [
            SamplingParams(
                n=n, temperature=1.0, top_p=1.0, max_tokens=limit, stop=list(one.stops) or None, seed=i
            )
            for i, (_, one) in enumerate(made)
        ]
        asked = [{"prompt_token_ids": encoder.encode(one)[0]} for encoder, one in made]
        return [
            [Drawn(one.begun + c.text, len(c.token_ids), c.finish_reason == "length") for c in output.outputs]
            for output, (_, one) in zip(engine.generate(asked, params, use_tqdm=False), made, strict=True)
        ]

    return draw, template


def by_transformers(model: str) -> tuple[Draw, ChatTemplate]:
    """Answers of a model in this process, on a CPU."""
    from llmsr.models.chat_template import end_tokens, stop_test
    from llmsr.models.loading import load_model
    from llmsr.models.sampler import Drawing, Sampler
    from llmsr.models.sampler import Prompt as Tokens
    from llmsr.settings import ProposerConfig

    tokenizer, loaded = load_model(ProposerConfig(device="cpu"), model)
    template = ChatTemplate(tokenizer)
    ends = end_tokens(loaded, tokenizer)

    def draw(prompts: Sequence[Prompt], chat: bool, n: int, limit: int) -> list[list[Drawn]]:
        made = [_asked(prompt, template, chat) for prompt in prompts]
        sampler = Sampler(loaded, Drawing(1.0, limit, ends, stop_test(tokenizer, made[0][1].stops)))
        drawn = []
        for first in range(0, len(made), 8):
            part = made[first : first + 8]
            tokens = [
                Tokens(*_plain_order(encoder.encode(one), n, first + i))
                for i, (encoder, one) in enumerate(part)
            ]
            for (_, one), samples in zip(part, sampler.sample(tokens), strict=True):
                texts = [
                    cut_at_stops(tokenizer.decode(s.tokens, skip_special_tokens=True), one.stops)
                    for s in samples
                ]
                drawn.append(
                    [
                        Drawn(one.begun + text, len(s.tokens), s.reason == "length")
                        for text, s in zip(texts, samples, strict=True)
                    ]
                )
        return drawn

    return draw, template


def _plain_order(encoded: tuple[list[int], int], n: int, seed: int) -> tuple[list[int], int, int, int]:
    tokens, preface = encoded
    return tokens, n, seed, preface


def _asked(prompt: Prompt, template: ChatTemplate, chat: bool) -> tuple[ChatTemplate, Chat]:
    encoder = template if chat else ChatTemplate(template.tokenizer, "plain")
    return encoder, prompt.form(chat)


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
    draw, template = (by_vllm if importlib.util.find_spec("vllm") else by_transformers)(given.model)
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
                    records = tried(variant, problem, evaluator, shown, draw, template, given.answers)
                    out.writelines(json.dumps(record) + "\n" for record in records)
                    print(line(name, variant, records, time.monotonic() - started), flush=True)


def tried(
    variant: str,
    problem: Problem,
    evaluator: Evaluator,
    shown: Sequence[Sequence[Member]],
    draw: Draw,
    template: ChatTemplate,
    n: int,
) -> list[dict]:
    """Every answer to a variant's prompts, and what became of it."""
    settings, meanings, chat = VARIANTS[variant]
    told = problem if meanings else replace(problem, spec=replace(problem.spec, docstring=""))
    versions = [[member.version() for member in members] for members in shown]
    prompts = [make_prompt(told, one, settings) for one in versions]
    answers = draw(prompts, chat, n, settings.answer_tokens if chat else 512)
    waiting = [
        (number, one, evaluator.submit(one.text, version_bodies(problem.spec, versions[number])))
        for number, group in enumerate(answers)
        for one in group
    ]
    records = []
    for number, one, future in waiting:
        found = future.result()
        encoder, asked = _asked(prompts[number], template, chat)
        nmse = found.nmse.get("train") if found.ok else None
        records.append(
            {
                "problem": problem.name,
                "variant": variant,
                "prompt": number,
                "text": one.text,
                "tokens": one.tokens,
                "cut": one.cut,
                "prompt_tokens": encoder.count(asked),
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
