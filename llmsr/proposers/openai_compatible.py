"""Completions from any server with OpenAI's protocol: OpenAI, vLLM, SGLang, Ollama, llama.cpp and others."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from typing import Any

from llmsr.errors import UserError
from llmsr.prompt import Chat, Prompt, cut_at_stops
from llmsr.proposers.chat_template import ChatTemplate
from llmsr.proposers.proposer import Completion, estimated_tokens
from llmsr.proposers.service import Refusal, Service, Transient, error_message
from llmsr.settings import ProposerConfig

log = logging.getLogger(__name__)

OPENAI_BASE = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
OPENAI_MODEL = "gpt-3.5-turbo"  # LLM-SR's default
START_TIMEOUT_SECONDS = 10.0
SINGLE_REQUESTS = 8  # in flight for one prompt, where the server gives one completion per request
OPTIONAL = ("temperature", "top_p", "seed", "stop", "chat_template_kwargs")
CONTINUING = {"continue_final_message": True, "add_generation_prompt": False}
NOT_UNDERSTOOD = (400, 422)  # what servers answer to an argument that they do not know
PROBE_QUESTION = "Write a Python function that returns the sum of a and b."
# whatever goes on behind this begins with a plus; a new answer begins with a fence or a word
PROBE_BEGUN = "```python\ndef add(a, b):\n    return a"


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
        self._service = Service(
            config.api_base or OPENAI_BASE,
            "server",
            "--api_base",
            timeout=config.timeout,
            retries=config.retries,
            key=key,
        )
        self._is_openai = self._service.host == OPENAI_HOST
        if self._is_openai and not key:
            raise UserError(
                f"{self._service.shown} needs a key: set API_KEY or OPENAI_API_KEY, or give --api_base"
            )
        self._served = self._served_models()
        self.model = config.api_model or self._only_model()
        self.name = f"openai:{self.model}"
        self.parallel_prompts = config.parallel_prompts or 8
        self._singles = ThreadPoolExecutor(SINGLE_REQUESTS, thread_name_prefix="completions")
        self._template = template
        self._mode_is_open = config.api_mode == "auto" and template is None
        self._mode = "chat" if self._mode_is_open else config.api_mode if template is None else "completion"
        # what is found out about the server on the way
        self._continues: bool | None = None
        self._probing = threading.Lock()
        self._left_out: set[str] = set()
        self._token_limit = "max_tokens"
        self._one_by_one = False

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions, from one request where the server can."""
        completions: list[Completion] = []
        if n > 1 and not self._one_by_one:
            completions = self._ask(prompt, n, seed)
            if 0 < len(completions) < n:
                self._remember_one_by_one(f"it gave {len(completions)} of {n} completions")
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
        """Up to n completions of one request; none if the server turned out to take one at a time."""
        while True:
            try:
                return self._service.retried(lambda: self._request(self._mode, prompt, n, seed), seed)
            except _Adapted:
                if n > 1 and self._one_by_one:
                    return []

    def _request(self, mode: str, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """One request, one answer; _Adapted after giving something up."""
        if self._template is not None:
            chat = prompt.form(not self._template.plain)
        else:
            chat = prompt.form(mode == "chat")
            chat = chat.free() if chat.begun and not self._continues_answers() else chat
        body = self._body(mode, chat, n, seed)
        started = time.monotonic()
        try:
            answer = self._service.request(_path(mode), body)
        except Refusal as refusal:
            raise self._refused(refusal, mode, body) from None
        return _completions(answer, mode, chat, n, time.monotonic() - started)

    def _continues_answers(self) -> bool:
        """Whether the server goes on with an answer that is begun; found out by asking once."""
        with self._probing:
            if self._continues is None:
                chat = Chat(({"role": "user", "content": PROBE_QUESTION},), PROBE_BEGUN)
                body = self._body("chat", chat, 1, 0) | {"temperature": 0.0, self._token_limit: 8}
                try:
                    answer = self._service.request(_path("chat"), body)
                    told = _choice_text(answer["choices"][0], "chat") or ""
                    self._continues = told.removeprefix(PROBE_BEGUN).lstrip().startswith("+")
                except Refusal as refusal:
                    if refusal.status not in NOT_UNDERSTOOD:
                        # the request that the trial is part of would fare no better
                        raise self._refused(refusal, "chat", body) from None
                    self._continues = False
                except (LookupError, TypeError):
                    return False
                if not self._continues:
                    self._warn("answers that begin by themselves, since the server begins anew")
            return self._continues

    def _body(self, mode: str, chat: Chat, n: int, seed: int) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {"model": self.model, self._token_limit: config.max_tokens + chat.thinking}
        body |= {"temperature": config.temperature, "top_p": config.top_p, "seed": seed % 2**31}
        if mode == "chat":
            body["messages"] = list(chat.messages)
            if chat.begun:
                body["messages"].append({"role": "assistant", "content": chat.begun})
                body |= CONTINUING
            # OpenAI refuses fields that its own protocol does not have
            if not self._is_openai:
                body["chat_template_kwargs"] = {"enable_thinking": bool(chat.thinking)}
        elif self._template is not None:
            body |= {"prompt": self._template.encode(chat)[0], "add_special_tokens": False}
        else:
            body["prompt"] = chat.messages[0]["content"]
        if chat.stops:
            body["stop"] = list(chat.stops)
        if n > 1:
            body["n"] = n
        if self._token_limit == "max_completion_tokens" and mode == "completion":
            body["max_tokens"] = body.pop("max_completion_tokens")
        return {name: value for name, value in body.items() if name not in self._left_out}

    # ---- refusals

    def _refused(self, refusal: Refusal, mode: str, body: dict[str, Any]) -> Exception:
        """What to raise: _Adapted where what the server does not know is given up, else UserError."""
        status, message, shown = refusal.status, str(refusal), self._service.shown
        if self._mode != mode or self._adapted(status, message, mode, body):
            return _Adapted()
        if status == 404:
            near = get_close_matches(self.model, self._served, 3, 0.3) or self._served[:3]
            served = f"; it serves {', '.join(near)}" if near else ""
            return UserError(
                f"{shown} does not know the model {self.model!r}{served}: "
                f"check --api_model and --api_base ({message})"
            )
        return UserError(f"{shown} refuses the request with status {status}: {message}")

    def _adapted(self, status: int, message: str, mode: str, body: dict[str, Any]) -> bool:
        """Whether something was given up that the refusal names, each thing once."""
        told = message.lower()
        no_template = re.search(r"chat[ _]template(?!_kwargs)|not a chat model", told) is not None
        no_endpoint = status in (404, 405, 501) and "model" not in told
        if mode == "chat" and self._mode_is_open and (no_template or no_endpoint):
            self._mode, self._mode_is_open = "completion", False
            self._warn(f"no chat with {self.model}, asking for raw completions ({message})")
            return True
        if status not in NOT_UNDERSTOOD:
            return False
        if "max_completion_tokens" in told and "max_tokens" in body and mode == "chat":
            self._token_limit = "max_completion_tokens"
            return True
        # the sentence of a refusal is all that tells which field is meant
        for name in OPTIONAL:
            if name in body and re.search(rf"(?<![\w-]){name}(?![\w-])", told):
                self._left_out.add(name)
                self._warn(f"no `{name}` ({message})")
                return True
        if "n" in body:
            self._remember_one_by_one(message)
        return "n" in body

    def _remember_one_by_one(self, why: str) -> None:
        if not self._one_by_one:
            self._one_by_one = True
            self._warn(f"one completion per request ({why})")

    def _warn(self, what: str) -> None:
        log.warning("%s: going on with %s", self._service.shown, what)


class _Adapted(Exception):
    """The server refused something that was given up: ask again, or one by one."""


def _path(mode: str) -> str:
    return "/chat/completions" if mode == "chat" else "/completions"


# ---- what stands in an answer


def _completions(answer: Any, mode: str, chat: Chat, n: int, seconds: float) -> list[Completion]:
    """The completions of an answer's JSON, checked piece by piece; Transient for anything else."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        error = answer.get("error") if isinstance(answer, dict) else None
        raise Transient(
            "answer", "the answer holds no choices" + (f": {error_message(error)}" if error else "")
        )
    texts = [_choice_text(choice, mode) for choice in choices[:n]]
    if any(text is None for text in texts):
        raise Transient("answer", "the answer holds a choice without text")
    # some servers give the begun text back
    read = [cut_at_stops((text or "").removeprefix(chat.begun), chat.stops) for text in texts]
    counts, estimated = _token_counts(answer.get("usage"), read)
    return [
        Completion(
            chat.begun + text, tokens, str(choice.get("finish_reason")), seconds / len(read), estimated
        )
        for text, tokens, choice in zip(read, counts, choices, strict=False)
    ]


def _choice_text(choice: Any, mode: str) -> str | None:
    """A choice's text; "" where a chat model said nothing (refused, or only reasoned), None if malformed."""
    if mode == "chat":
        choice = choice.get("message") if isinstance(choice, dict) else None
    content = choice.get("content" if mode == "chat" else "text") if isinstance(choice, dict) else 0
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is None and mode == "chat":
        return ""
    return content if isinstance(content, str) else None


def _token_counts(usage: Any, texts: list[str]) -> tuple[list[int], bool]:
    """Tokens per text, and whether they are guesses; a request's total is shared out by length."""
    total = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        return [estimated_tokens(text) for text in texts], True
    lengths = [len(text) + 1 for text in texts]
    ends = [total * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(texts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)], False
