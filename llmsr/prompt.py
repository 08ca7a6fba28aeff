"""What a model is asked: the problem's own words and a few earlier equations, worst first.

A prompt has two forms. Models that only continue text read the spec itself, followed by the earlier equations
as `equation_v0`, `equation_v1` and the header of the next one. Chat models read a task in words and go on
with an answer that is begun for them, so that what they write is the equation and nothing else. Search and
training ask in the same words.
"""

from __future__ import annotations

import ast
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from llmsr.context import MOST_COLUMNS, Known, meaning, notes, version_nmse
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec
from llmsr.settings import BEGINNINGS, FREE_STOPS, PromptSettings

if TYPE_CHECKING:
    from llmsr.tools import Tools

INSTRUCTION = "Complete the last function: an equation that fits the data better than the earlier versions."
ROLE = "You are a physicist who finds equations from data."
EARLIER = "Earlier equations and their "
REQUEST = "Write one equation of another structure with a smaller error."
FREE_ANSWER = " Answer with one Python code block that holds the function and nothing else."

STOPS = ("\ndef ", "\nclass ", "\n```", "\nif __name__")
"""Texts that end a raw completion: whatever begins at the margin is no longer the body."""

LONGEST_TASK = 1200  # characters; a longer description would crowd out the equations

Message = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """An earlier equation as a prompt shows it; `sample` is its number in the run, 0 for the spec's own."""

    body: str
    score: float
    sample: int | None = None
    params: tuple[float, ...] | None = None
    nmse: float | None = None


@dataclass(frozen=True)
class Picture:
    """A PNG image, and in words what it shows."""

    png: bytes
    words: str


@dataclass(frozen=True)
class Chat:
    """Messages, the text that the answer is begun with, and the texts that end it.

    The begun text is part of the prompt: a model is not asked for it and not trained on it. `thinking` is the
    number of tokens that thoughts may take before the answer; 0: there are none. The `picture` belongs to the
    user's first message, for models that see.
    """

    messages: tuple[Message, ...]
    begun: str = ""
    stops: tuple[str, ...] = ()
    thinking: int = 0
    picture: Picture | None = None

    def free(self) -> Chat:
        """The same chat for a model whose answer cannot be begun: it answers with a code block of its own."""
        if not self.begun:
            return self
        *others, question = self.messages
        asked = {**question, "content": question["content"] + FREE_ANSWER}
        return replace(self, messages=(*others, asked), begun="", stops=FREE_STOPS)

    def without_system(self) -> Chat:
        """The same chat for a model whose template knows no system role: the user says all."""
        if len(self.messages) < 2 or self.messages[0]["role"] != "system":
            return self
        system, user, *others = self.messages
        said = {"role": user["role"], "content": f"{system['content']}\n\n{user['content']}"}
        return replace(self, messages=(said, *others))


@dataclass(frozen=True)
class Prompt:
    """A prompt in both forms: `text` is continued as it stands, `chat` is answered.

    `shorten` makes one that shows less, for a model whose context it exceeds; None where nothing can go.
    `tools` may be called before the answer, by chat models alone.
    """

    text: str
    chat: Chat | None = None
    shorten: Callable[[], Prompt] | None = field(default=None, compare=False)
    tools: Tools | None = field(default=None, compare=False)

    def rewritten(self, rewrite: Callable[[str], str]) -> Prompt:
        """The bare text as `rewrite` changes it, and the shorter prompts likewise."""
        shorten = self.shorten
        return Prompt(rewrite(self.text), shorten=shorten and (lambda: shorten().rewritten(rewrite)))

    def form(self, chat: bool) -> Chat:
        """The form for a chat model or for one that continues text, whose only message is that text."""
        bare = ({"role": "user", "content": self.text},)
        return (self.chat or Chat(bare)) if chat else Chat(bare, stops=STOPS)


def make_prompt(
    problem: Problem,
    versions: Sequence[Version],
    settings: PromptSettings,
    refusals: Sequence[str] = (),
    first: int = 0,
) -> Prompt:
    """The prompt that shows `versions`, in ascending order of score, of which `first` is the lowest number.

    `refusals` are the reasons of recent failures, oldest first. The shorter prompt leaves out the worst
    version and all that `settings.context` adds; what it still shows keeps its name, since answers call it.
    """
    names = [version_name(problem.spec, first + i) for i in range(len(versions))]
    told = notes(settings.kinds, Known(problem, names, versions, refusals))
    text = build_prompt(problem.spec, versions, told, first)
    bare = replace(settings, context="none")
    shorten = partial(make_prompt, problem, versions[1:], bare, (), first + 1) if versions else None
    return Prompt(text, _chat(problem, versions, settings, refusals), shorten)


def build_prompt(spec: Spec, versions: Sequence[Version], notes: Sequence[str] = (), first: int = 0) -> str:
    """The text that a model continues with a function body, indented by four spaces.

    `versions` come in ascending order of score, numbered from `first`; `notes` are lines that stand as
    comments above them. The last line is the header of the next version.
    """
    parts = [f"{INSTRUCTION}\n\n{spec.preface.strip()}\n"]
    notes = (*filter(None, [spec.form.words]), *notes)
    if notes:
        parts.append("".join(f"# {note}\n" for note in notes))
    parts += [
        _header(spec, number, first) + indent_body(version.body)
        for number, version in enumerate(versions, first)
    ]
    parts.append(_header(spec, first + len(versions), first))
    return "\n\n".join(parts)


def version_bodies(spec: Spec, versions: Sequence[Version]) -> dict[str, str]:
    """Name to body of the equations a prompt shows: what a completion may call."""
    return {version_name(spec, i): version.body for i, version in enumerate(versions)}


def version_name(spec: Spec, number: int) -> str:
    """The name of the number-th equation of a prompt, for example `equation_v0`."""
    return f"{spec.function_name}_v{number}"


def indent_body(body: str) -> str:
    """The body at four spaces, without empty lines at its ends."""
    return textwrap.indent(textwrap.dedent(body.strip("\n")), "    ").rstrip() + "\n"


def preface_end(text: str) -> int:
    """Where what all prompts of a problem share ends: above the earlier equations.

    Any value is right; this one saves most where a prompt's beginning is read once for many.
    """
    chat = text.find(f"\n{EARLIER}")
    if chat >= 0:
        return chat
    opening = text.find('"""', max(text.find("\ndef "), 0))
    closing = text.find('"""', opening + 3) if opening >= 0 else -1
    return closing + 3 if closing >= 0 else 0


def cut_at_stops(text: str, stops: Sequence[str] = STOPS) -> str:
    """An answer up to the first of its stops; one at the very start does not count."""
    ends = [end for stop in stops if (end := text.find(stop, 1)) > 0]
    return text[: min(ends)] if ends else text


def _header(spec: Spec, number: int, first: int) -> str:
    name = version_name(spec, number)
    header = re.sub(rf"\bdef\s+{re.escape(spec.function_name)}\b", f"def {name}", spec.header, count=1)
    if number == first:
        docstring = spec.docstring
    else:
        docstring = f"Improved version of `{version_name(spec, number - 1)}`."
    return f'{header.rstrip()}\n    """{docstring}"""\n' if docstring else f"{header.rstrip()}\n"


# ---- the form for chat models


def _chat(
    problem: Problem, versions: Sequence[Version], settings: PromptSettings, refusals: Sequence[str]
) -> Chat:
    """What all prompts of a problem share comes first, so that servers read it once; equations stand last."""
    spec, kinds = problem.spec, settings.kinds
    header = f"def {spec.function_name}({', '.join((*spec.columns, spec.params_name))}):\n"
    known = Known(problem, [f"equation {i + 1}" for i in range(len(versions))], versions, refusals)
    varying = notes([kind for kind in kinds if kind in ("constants", "residuals", "refusals")], known)
    parts = [
        _task(spec.text) or f"Find an equation for {problem.target}.",
        "Columns:\n" + "\n".join(f"- {line}" for line in _columns(problem, kinds)),
        _constants(spec),
        *("\n".join(notes([kind], known)) for kind in kinds if kind == "rows"),
        *_shown(problem, known, header, labelled=bool(varying)),
        "\n".join(f"- {line}" for line in varying),
    ]
    question = "\n\n".join([*filter(None, parts), REQUEST])
    messages = ({"role": "system", "content": ROLE}, {"role": "user", "content": question})
    opening, _ = BEGINNINGS.get(settings.begin_answer, ("", ()))
    chat = Chat(messages, f"```python\n{header}{opening}", settings.stops)
    if settings.thinks:
        return replace(chat.free(), stops=(), thinking=settings.thinking_tokens)
    return chat if settings.begin_answer in BEGINNINGS else chat.free()


@lru_cache(maxsize=64)
def _task(text: str) -> str:
    """The sentences of a spec's docstring on one line."""
    words = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    return textwrap.shorten(words, LONGEST_TASK, placeholder=" ...")


def _columns(problem: Problem, kinds: Sequence[str]) -> list[str]:
    if "columns" in kinds:
        return list(notes(["columns"], Known(problem, [], [])))
    spec = problem.spec
    told = [(name, meaning(spec, name)) for name in spec.columns[:MOST_COLUMNS]]
    return [f"{name}: {words}" if words else name for name, words in told]


def _constants(spec: Spec) -> str:
    params, module = spec.params_name, "torch is torch" if spec.dialect == "torch" else "numpy is np"
    return (
        f"`{params}` holds up to {spec.max_params} constants that are fitted to the data; use {params}[0], "
        f"{params}[1] and so on wherever a number is unknown. {module}. {spec.form.words}"
    ).rstrip()


def _shown(problem: Problem, known: Known, header: str, labelled: bool) -> list[str]:
    """The earlier equations under their errors; `labelled` ones can be spoken of."""
    if not known.versions:
        return []
    errors = [version_nmse(problem, version) for version in known.versions]
    by_error = problem.spec.least_squares and all(map(math.isfinite, errors))
    what = "errors on the data (NMSE, smaller is better)" if by_error else "scores (higher is better)"
    shown = [f"{EARLIER}{what}:"]
    for name, version, error in zip(known.names, known.versions, errors, strict=True):
        figure = f"error {error:.2e}" if by_error else f"score {version.score:.4g}"
        label = f"{name}, {figure}" if labelled else figure
        shown.append(f"{label.capitalize()}:\n```python\n{header}{indent_body(version.body)}```")
    return shown
