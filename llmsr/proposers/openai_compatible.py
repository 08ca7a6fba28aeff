"""Completions from any server with OpenAI's protocol: OpenAI, vLLM, SGLang, Ollama, llama.cpp and others."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from llmsr.errors import UserError
from llmsr.models.chat_template import ChatTemplate
from llmsr.prompt import Chat, Prompt, cut_at_stops
from llmsr.proposers.dialect import FEWEST_TOKENS, NOT_UNDERSTOOD, ONE_BY_ONE, Dialect, TooLong
from llmsr.proposers.proposer import Completion, ProposerFailure, estimated_tokens
from llmsr.proposers.service import Refusal, Service, Transient, error_message
from llmsr.settings import ProposerConfig

if TYPE_CHECKING:
    from llmsr.tools import Tools

log = logging.getLogger(__name__)

OPENAI_BASE = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
OPENAI_MODEL = "gpt-3.5-turbo"  # LLM-SR's default
START_TIMEOUT_SECONDS = 10.0
SINGLE_REQUESTS = 8  # in flight for one prompt, where the server gives one completion per request
PROBE_QUESTION = "Write a Python function that returns the sum of a and b."
# whatever goes on behind this begins with a plus; a new answer begins with a fence or a word
PROBE_BEGUN = "```python\ndef add(a, b):\n    return a"
PROBE_TOKENS = 8
PATHS = {"chat": "/chat/completions", "completion": "/completions"}
TOOLS = re.compile(r"\btools?\b")
PICTURES = re.compile(r"image|multi-?modal|vision")
MOST_CALLS = 8  # in one reply
THOUGHT = "<think>"  # opens reasoning, as models write it


class OpenAICompatible:
    """Asks `api_base` for completions.

    The key comes from API_KEY or OPENAI_API_KEY; servers of one's own need none. Rate limits, faults of
    the server, timeouts, cut connections and answers that are no answers are retried with growing
    waits, then raise ProposerFailure. A wrong key, a wrong model, a redirect and a server that is not
    there raise UserError at once. What a server does not know (n above 1, a seed, a stop list) is left
    out from then on, with a warning. Chats are put with their answers begun where a first trial shows that
    the server goes on with what is begun. With `template` the server is given tokens: what it shares with
    training is then the same to the last token.
    """

    def __init__(
        self, config: ProposerConfig, *, send_key: bool = True, template: ChatTemplate | None = None
    ) -> None:
        self.config = config
        key = (os.environ.get("API_KEY") or os.environ.get("OPENAI_API_KEY") or "") if send_key else ""
        self._service = Service(config, config.api_base or OPENAI_BASE, "server", "--api_base", key)
        self._is_openai = self._service.host == OPENAI_HOST
        if self._is_openai and not key:
            told = "needs a key: set API_KEY or OPENAI_API_KEY, or give --api_base"
            raise UserError(f"{self._service.shown} {told}")
        self._served = self._served_models()
        self.model = config.api_model or self._only_model()
        self.name = f"openai:{self.model}"
        self.parallel_prompts = config.parallel_prompts or 8
        self._singles = ThreadPoolExecutor(SINGLE_REQUESTS, thread_name_prefix="completions")
        self._template = template
        # OpenAI refuses fields that its own protocol does not have
        unknown = frozenset({"chat_template_kwargs"} if self._is_openai else ())
        auto, mode = config.api_mode == "auto", config.api_mode
        self._dialect = (
            Dialect("completion") if template else Dialect("chat" if auto else mode, auto, unknown)
        )
        self.calls_tools = self.sees = template is None and mode != "completion"
        self._learning = threading.Lock()
        self._continues: bool | None = None
        self._probing = threading.Lock()
        self._told: set[str] = set()

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions, from one request where the server can; with tools from conversations."""
        completions: list[Completion] = []
        if prompt.tools is not None:
            while len(completions) < n:
                completions += self._converse(prompt, prompt.tools, seed + len(completions))
            return completions[:n]
        if n > 1 and not self._dialect.one_by_one:
            completions = self._ask(prompt, n, seed)
            if 0 < len(completions) < n:
                self._learn(replace(self._dialect, one_by_one=True), ONE_BY_ONE, f"it gave one of {n}")
        # some servers give one completion whatever n is
        missing = range(len(completions), n)
        if len(missing) > 1:
            asked = [self._singles.submit(self._ask, prompt, 1, seed + i) for i in missing]
            return completions + [c for future in asked for c in future.result()]
        return completions + [c for i in missing for c in self._ask(prompt, 1, seed + i)]

    def close(self) -> None:
        self._singles.shutdown(wait=False, cancel_futures=True)
        self._service.close()

    # ---- the start

    def _served_models(self) -> list[str]:
        """The names of the models that are served; none where the server does not list them."""
        try:
            served = self._service.request("/models", timeout=min(START_TIMEOUT_SECONDS, self.config.timeout))
        except Refusal:
            return []
        except Transient as fault:
            log.warning("%s: no list of models (%s)", self._service.shown, fault)
            return []
        entries = served.get("data") if isinstance(served, dict) else None
        entries = entries if isinstance(entries, list) else []
        return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]

    def _only_model(self) -> str:
        if self._is_openai:
            return OPENAI_MODEL
        if len(self._served) == 1:
            return self._served[0]
        choice = f": it serves {', '.join(self._served[:5])}" if self._served else ""
        raise UserError(f"say which model of {self._service.shown} to ask, with --api_model{choice}")

    # ---- requests

    def _ask(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """Up to n completions of one request; none if the server turned out to take one at a time.

        A prompt over the model's context leaves room for a shorter answer, is made shorter, or fails alone.
        """
        most: int | None = None
        while True:
            try:
                return self._service.retried(partial(self._request, prompt, n, seed, most), seed)
            except _Adapted:
                if n > 1 and self._dialect.one_by_one:
                    return []
            except TooLong as fault:
                self._warn_once("going on with shorter prompts, or shorter answers to long ones", str(fault))
                if fault.room and FEWEST_TOKENS <= fault.room < (most or fault.room + 1):
                    most = fault.room
                elif prompt.shorten is not None:
                    prompt, most = prompt.shorten(), None
                else:
                    raise ProposerFailure(
                        "prompt_too_long",
                        f"the prompt is too long for {self.model}: lower --max_tokens or take a model of "
                        f"longer context ({fault})",
                    ) from None

    def _request(self, prompt: Prompt, n: int, seed: int, most: int | None) -> list[Completion]:
        """One request, one answer; _Adapted after giving something up."""
        dialect = self._dialect
        if self._template is not None:
            chat = prompt.form(not self._template.plain)
        else:
            chat = prompt.form(dialect.mode == "chat")
            chat = chat.free() if chat.begun and not self._continues_answers() else chat
        further: dict[str, Any] = {"n": n} if n > 1 else {}
        if self._template is not None:
            further |= {"prompt": self._template.encode(chat)[0], "add_special_tokens": False}
        answer, seconds = self._post(dialect, chat, seed, most, further)
        completions = _completions(answer, dialect.mode, chat, n, seconds)
        # cut off before the answer began
        if any(c.finish_reason == "length" and _answer_of(c.text) == "" for c in completions):
            self._warn_once(
                "an answer is reasoning alone and was cut off",
                f"raise --max_tokens from {self.config.max_tokens}, or give thoughts room by --thinking on",
            )
        return completions

    def _post(
        self, dialect: Dialect, chat: Chat, seed: int, most: int | None, further: dict[str, Any]
    ) -> tuple[Any, float]:
        """The JSON that the server answers, and the seconds it took."""
        body = {"model": self.model} | dialect.body(self.config, chat, seed, most) | further
        started = time.monotonic()
        try:
            return self._service.request(PATHS[dialect.mode], body), time.monotonic() - started
        except Refusal as refusal:
            raise self._refused(refusal, dialect, body) from None

    # ---- conversations

    def _converse(self, prompt: Prompt, tools: Tools, seed: int) -> list[Completion]:
        """What one conversation brings: the equations that were evaluated in it, and the answer at its end.

        Tokens and seconds of replies that evaluate nothing count with the next completion.
        """
        chat = tools.asked(prompt.form(True))
        found: list[Completion] = []
        tokens, shown, seconds = 0, 0, 0.0
        for left in range(tools.turns, -1, -1):
            said, calls = self._reply(chat, tools.schemas, "auto" if left else "none", seed)
            tokens, seconds = tokens + said.tokens, seconds + said.seconds
            shown += said.prompt_tokens
            tried = [equation for call in calls if (equation := tools.equation_of(call)) is not None]
            if not calls or not (left or tried):
                found.append(replace(said, tokens=tokens, prompt_tokens=shown, seconds=seconds))
                break
            for equation in tried:
                share = replace(said, tokens=tokens // len(tried), seconds=seconds / len(tried))
                share = replace(share, prompt_tokens=shown // len(tried))
                found.append(replace(share, text=equation, finish_reason="tool_calls"))
            if tried:
                tokens, shown, seconds = 0, 0, 0.0
            results = [{"role": "tool", "tool_call_id": c["id"], "content": tools.call(c)} for c in calls]
            reply = {"role": "assistant", "content": said.text, "tool_calls": calls}
            chat = replace(chat, messages=(*chat.messages, reply, *results))
        return found

    def _reply(
        self, chat: Chat, schemas: Sequence[Mapping[str, Any]], choice: str, seed: int
    ) -> tuple[Completion, list[dict[str, Any]]]:
        """A reply in a conversation, and the tools that it calls; `choice` is auto, or none at its end."""
        further = {"tools": list(schemas), "tool_choice": choice}

        def asked() -> tuple[Completion, list[dict[str, Any]]]:
            dialect = self._dialect
            if dialect.mode != "chat":
                raise UserError(
                    f"{self._service.shown} does not chat, so it calls no tools: leave out --turns"
                )
            answer, seconds = self._post(dialect, chat, seed, None, further)
            return _completions(answer, "chat", chat, 1, seconds)[0], _tool_calls(answer)

        while True:
            try:
                return self._service.retried(asked, seed)
            except _Adapted:
                continue
            except TooLong as fault:
                told = f"a conversation is too long for {self.model}: lower --turns or --max_tokens ({fault})"
                raise ProposerFailure("prompt_too_long", told) from None

    def _continues_answers(self) -> bool:
        """Whether the server goes on with an answer that is begun; found out by asking once."""
        with self._probing:
            if self._continues is None:
                chat = Chat(({"role": "user", "content": PROBE_QUESTION},), PROBE_BEGUN)
                dialect = self._dialect
                body = {"model": self.model} | dialect.body(self.config, chat, 0, PROBE_TOKENS)
                if "temperature" in body:
                    body["temperature"] = 0.0
                try:
                    answer = self._service.request(PATHS["chat"], body)
                    told = _choice_text(answer["choices"][0], "chat") or ""
                    self._continues = told.removeprefix(PROBE_BEGUN).lstrip()[:1] == "+"
                except Refusal as refusal:
                    if refusal.status not in NOT_UNDERSTOOD:
                        # the request that the trial is part of would fare no better
                        raise self._refused(refusal, dialect, body) from None
                    self._continues = False
                except (LookupError, TypeError):
                    return False
                if not self._continues:
                    self._warn_once("going on with answers that begin by themselves", "it begins anew")
            return self._continues

    def _refused(self, refusal: Refusal, dialect: Dialect, body: dict[str, Any]) -> Exception:
        """What to raise: _Adapted where what the server does not know is given up, else UserError."""
        if "tools" in body and TOOLS.search(str(refusal).lower()):
            return UserError(
                f"{self.model} of {self._service.shown} calls no tools ({refusal}): leave out --turns, or "
                "serve it so that it does, by vLLM with --enable-auto-tool-choice --tool-call-parser NAME"
            )
        seen = any(isinstance(message.get("content"), list) for message in body.get("messages", ()))
        if seen and PICTURES.search(str(refusal).lower()):
            blind = f"{self.model} of {self._service.shown} sees no pictures ({refusal})"
            return UserError(f"{blind}: leave out --vision")
        with self._learning:
            if self._dialect is not dialect:  # another request has taught it
                return _Adapted()
            try:
                taught = dialect.after(refusal, body, self.config)
            except TooLong as fault:
                return fault
            if taught is not None:
                self._learn(*taught, str(refusal))
                return _Adapted()
        shown = self._service.shown
        if refusal.status == 404:
            near = get_close_matches(self.model, self._served, 3, 0.3) or self._served[:3]
            served = f"; it serves {', '.join(near)}" if near else ""
            return UserError(
                f"{shown} does not know the model {self.model!r}{served}: "
                f"check --api_model and --api_base ({refusal})"
            )
        return UserError(f"{shown} refuses the request with status {refusal.status}: {refusal}")

    def _learn(self, dialect: Dialect, what: str, why: str) -> None:
        """Ask in another dialect from here on."""
        self._dialect = dialect
        if what:
            self._warn_once(f"going on with {what}", why)

    def _warn_once(self, what: str, why: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s: %s (%s)", self._service.shown, what, why)


class _Adapted(Exception):
    """The server refused something that was given up: ask again, or one by one."""


# ---- what stands in an answer


def _completions(answer: Any, mode: str, chat: Chat, n: int, seconds: float) -> list[Completion]:
    """The completions of an answer's JSON, checked piece by piece; Transient for anything else."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        error = answer.get("error") if isinstance(answer, dict) else None
        told = f": {error_message(error)}" if error else ""
        raise Transient("answer", f"the answer holds no choices{told}")
    texts = [_choice_text(choice, mode) for choice in choices[:n]]
    if any(text is None for text in texts):
        raise Transient("answer", "the answer holds a choice without text")
    read = [_read(text or "", chat) for text in texts]
    usage = answer.get("usage")
    counts, estimated = _token_counts(usage, "completion_tokens", read)
    # a server that counts nothing is not trusted with money: the prompt is counted by its characters
    prompts, unknown = _token_counts(usage, "prompt_tokens", read)
    if unknown:
        asked = estimated_tokens("".join(str(message["content"]) for message in chat.messages))
        prompts, _ = _token_counts({"prompt_tokens": asked}, "prompt_tokens", read)
    return [
        Completion(text, tokens, str(choice.get("finish_reason")), seconds / len(read), estimated, shown)
        for text, tokens, shown, choice in zip(read, counts, prompts, choices, strict=False)
    ]


def _tool_calls(answer: Any) -> list[dict[str, Any]]:
    """The calls of tools in an answer's first choice, as the next request repeats them."""
    message = answer["choices"][0].get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    found: list[dict[str, Any]] = []
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        asked = call.get("function") if isinstance(call, dict) else None
        if isinstance(asked, dict) and isinstance(asked.get("name"), str) and number < MOST_CALLS:
            arguments = asked.get("arguments")
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            function = {"name": asked["name"], "arguments": text}
            found.append({"id": str(call.get("id", number)), "type": "function", "function": function})
    return found


def _choice_text(choice: Any, mode: str) -> str | None:
    """A choice's text; "" where a chat model said nothing, None if malformed.

    Of a model that only reasoned it is the reasoning, opened as such: what stands complete in it is read.
    """
    if mode == "chat":
        choice = choice.get("message") if isinstance(choice, dict) else None
    content = choice.get("content" if mode == "chat" else "text") if isinstance(choice, dict) else 0
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if mode == "chat" and not content and isinstance(choice, dict):
        thoughts = choice.get("reasoning_content") or choice.get("reasoning")
        return THOUGHT + thoughts if isinstance(thoughts, str) else ""
    return content if isinstance(content, str) else None


def _read(text: str, chat: Chat) -> str:
    """The whole answer, what it was begun with included; thoughts are neither begun nor stopped."""
    if text.startswith(THOUGHT):
        return text
    # some servers give the begun text back
    return chat.begun + cut_at_stops(text.removeprefix(chat.begun), chat.stops)


def _answer_of(text: str) -> str:
    """What stands behind a model's thoughts; empty where it did not end them."""
    return text if not text.startswith(THOUGHT) or "</think>" in text else ""


def _token_counts(usage: Any, kind: str, texts: list[str]) -> tuple[list[int], bool]:
    """Tokens per text, and whether they are guesses; a request's total is shared out by length."""
    total = usage.get(kind) if isinstance(usage, dict) else None
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        return [estimated_tokens(text) for text in texts], True
    lengths = [len(text) + 1 for text in texts]
    ends = [total * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(texts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)], False
