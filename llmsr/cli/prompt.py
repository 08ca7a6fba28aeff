"""`python -m llmsr prompt`: the prompt that a search or a training sends, as its model reads it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from llmsr.archive import read_archive
from llmsr.cli.shared import Verb, print_json
from llmsr.config import option
from llmsr.declarations import Declarations
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import Problem, load_problem
from llmsr.prompt import Chat, Prompt, make_prompt
from llmsr.search.population import Member
from llmsr.search.search import member_of
from llmsr.settings import ProblemSettings, PromptSettings

SHOWN = 2


@dataclass(frozen=True)
class PromptChoice(ProblemSettings, Declarations):
    """which prompt"""

    log_path: str | None = option(
        None, "a run whose two best equations are shown (default: the spec's own equation)"
    )
    model_path: str | None = option(
        None, "model whose template and tokens are used, a hub id or a local directory"
    )
    form: str = option(
        "auto",
        "chat: a task in words, the answer begun; text: the spec, to be continued; auto: what the model "
        "reads, without --model_path the embedded one",
        choices=("auto", "chat", "text"),
    )
    trust_remote_code: bool = option(
        False, "run Python code that comes with a model; only for models you trust"
    )
    json: bool = option(False, "print messages, begun text and stops as JSON")


@Verb
def prompt(choice: PromptChoice, settings: PromptSettings) -> int:
    """Print the prompt as its model reads it.

    examples:
      python -m llmsr prompt --problem_name bactgrow                        to the embedded model
      python -m llmsr prompt --form chat                                    to a chat model, whichever it is
      python -m llmsr prompt --model_path Qwen/Qwen2.5-Coder-0.5B-Instruct  through this model's template
    """
    problem = load_problem(choice.problem_name, choice.spec_path, choice.data_dir, choice)
    members = _shown(problem, choice.log_path)
    made = make_prompt(problem, [member.version() for member in members], settings)
    chat, text, tokens = _as_read(made, choice)
    if choice.json:
        print_json(asdict(chat))
        return 0
    print(text)
    counted = "" if tokens is None else f"{tokens} tokens; "
    ends = ", ".join(map(repr, chat.stops)) or "its own end"
    print(f"{counted}the answer ends at {ends}", file=sys.stderr)
    return 0


def _shown(problem: Problem, log_path: str | None) -> list[Member]:
    """The equations that the prompt shows, worst first."""
    if log_path:
        evaluated = [(s.number, s.evaluation) for s in read_archive(Path(log_path))]
    else:
        with Evaluator(problem, workers=1) as evaluator:
            evaluated = [(0, evaluator.evaluate(problem.spec.seed_body))]
    members = [member_of(number, evaluation) for number, evaluation in evaluated if evaluation.ok]
    # one equation in two spellings would fill both places
    different = {member.canonical: member for member in sorted(members, key=lambda member: member.score)}
    return sorted(different.values(), key=lambda member: member.score)[-SHOWN:]


def _as_read(prompt: Prompt, choice: PromptChoice) -> tuple[Chat, str, int | None]:
    """The form that is sent, its text, and its tokens where a model counts them."""
    if choice.model_path is None:
        chat = prompt.form(choice.form == "chat")
        said = [f"[{message['role']}]\n{message['content']}" for message in chat.messages]
        begun = [f"[assistant, begun]\n{chat.begun}"] if chat.begun else []
        return chat, "\n\n".join([*said, *begun]) if choice.form == "chat" else prompt.text, None
    from llmsr.models.chat_template import ChatTemplate
    from llmsr.models.loading import load_tokenizer

    tokenizer = load_tokenizer(choice.model_path, choice.trust_remote_code)
    template = ChatTemplate(tokenizer, {"auto": "auto", "chat": "model", "text": "plain"}[choice.form])
    chat = template.fitting(prompt.form(not template.plain))
    return chat, template.text(chat), template.count(chat)
