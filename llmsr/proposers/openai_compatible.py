"""Completions from any server with OpenAI's protocol: OpenAI, vLLM, SGLang, Ollama, llama.cpp and others."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError
from llmsr.prompt import Chat, Prompt, cut_at_stops
from llmsr.proposers.chat_template import ChatTemplate
from llmsr.proposers.openai_answers import choice_text, error_message, error_text, token_counts
from llmsr.proposers.proposer import Completion, scrubbed
from llmsr.proposers.retry import Transient, retry_after_seconds, with_retries
from llmsr.settings import ProposerConfig

log = logging.getLogger(__name__)

OPENAI_BASE = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
OPENAI_MODEL = "gpt-3.5-turbo"  # LLM-SR's default
START_TIMEOUT_SECONDS = 10.0
SINGLE_REQUESTS = 8  # in flight for one prompt, where the server gives one completion per request
TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
OPTIONAL = ("temperature", "top_p", "seed", "stop", "chat_template_kwargs")
# fields that OpenAI's own protocol does not have
EXTRA = ("chat_template_kwargs", "continue_final_message", "add_generation_prompt", "add_special_tokens")
CONTINUING = {"continue_final_message": True, "add_generation_prompt": False}
# whatever goes on behind this begins with a plus; a new answer begins with a fence or a word
NOT_UNDERSTOOD = (400, 422)  # what servers answer to an argument that they do not know
PROBE_QUESTION = "Write a Python function that returns the sum of a and b."
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
        self.base = (config.api_base or OPENAI_BASE).rstrip("/")
        self._key = (os.environ.get("API_KEY") or os.environ.get("OPENAI_API_KEY") or "") if send_key else ""
        self.shown_base = scrubbed(self.base, (self._key,))
        self._openai = _openai_library()
        self._client = self._make_client()
        self._closing = threading.Event()
        self._singles = ThreadPoolExecutor(SINGLE_REQUESTS, thread_name_prefix="completions")
        self._served: list[str] = []
        self.model = config.api_model or ""
        self._meet_server()
        self._mode_is_open = config.api_mode == "auto"
        self._mode = "chat" if self._mode_is_open else config.api_mode
        self._template = template
        if template is not None:
            self._mode, self._mode_is_open = "completion", False
        self._continues: bool | None = None
        self._probing = threading.Lock()
        self._left_out: set[str] = set()
        self._token_limit = "max_tokens"
        self._one_by_one = False
        self.name = f"openai:{self.model}"
        self.parallel_prompts = config.parallel_prompts or 8

    # ---- the proposer

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions, from one request where the server can."""
        completions: list[Completion] = []
        if n > 1 and not self._one_by_one:
            completions = self._ask(prompt, n, seed)
            if 0 < len(completions) < n:
                self._remember_one_by_one(f"it gave {len(completions)} of {n} completions")
        missing = range(len(completions), n)
        if len(missing) > 1:
            asked = [self._singles.submit(self._ask, prompt, 1, seed + i) for i in missing]
            return completions + [c for future in asked for c in future.result()]
        return completions + [c for i in missing for c in self._ask(prompt, 1, seed + i)]

    def close(self) -> None:
        self._closing.set()
        self._singles.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    # ---- requests

    def _ask(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """Up to n completions of one request; none if the server turned out to take one at a time."""
        while True:
            try:
                return with_retries(
                    partial(self._request, self._mode, prompt, n, seed),
                    retries=self.config.retries,
                    seed=seed,
                    closing=self._closing,
                    service=self.shown_base,
                )
            except _Adapted as adapted:
                if adapted.one_by_one and n > 1:
                    return []

    def _request(self, mode: str, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """One request, one answer; Transient for faults that may pass, _Adapted after giving something up."""
        chat = self._form(mode, prompt)
        body = self._body(mode, chat, n, seed)
        endpoint = self._client.chat.completions if mode == "chat" else self._client.completions
        started = time.monotonic()
        try:
            text = endpoint.with_raw_response.create(**body).http_response.text
        except self._openai.APIStatusError as error:
            self._refused(error.response, mode, body)
            raise AssertionError("unreachable") from None
        except self._openai.APITimeoutError:
            raise Transient("timeout", f"no answer within {self.config.timeout:g} s") from None
        except self._openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Transient("connection", f"the connection failed: {self._scrub(str(cause))}") from None
        except (UnicodeError, ValueError) as error:
            raise Transient("answer", f"the answer cannot be read: {self._scrub(str(error))}") from None
        return self._completions(text, mode, chat, n, time.monotonic() - started)

    def _form(self, mode: str, prompt: Prompt) -> Chat:
        """What the server is asked: as a chat begun or free, or as a text."""
        if self._template is not None:
            return prompt.form(not self._template.plain)
        chat = prompt.form(mode == "chat")
        return chat.free() if chat.begun and not self._continues_answers() else chat

    def _continues_answers(self) -> bool:
        """Whether the server goes on with an answer that is begun; found out by asking once."""
        with self._probing:
            if self._continues is None:
                chat = Chat(({"role": "user", "content": PROBE_QUESTION},), PROBE_BEGUN)
                body = self._body("chat", chat, 1, 0) | {"temperature": 0.0, self._token_limit: 8}
                try:
                    answer = self._client.chat.completions.with_raw_response.create(**body)
                    told = choice_text(json.loads(answer.http_response.text)["choices"][0], "chat") or ""
                    self._continues = told.removeprefix(PROBE_BEGUN).lstrip().startswith("+")
                except self._openai.APIStatusError as error:
                    if error.response.status_code not in NOT_UNDERSTOOD:
                        # a fault of the service is one of the request that the trial is part of
                        self._refused(error.response, "chat", body)
                    self._continues = False
                except (self._openai.APIError, UnicodeError, ValueError, LookupError, TypeError):
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
            if urlsplit(self.base).hostname != OPENAI_HOST:
                body["chat_template_kwargs"] = {"enable_thinking": bool(chat.thinking)}
        elif self._template is not None:
            body |= {"prompt": self._template.encode(chat)[0], "add_special_tokens": False}
        else:
            body["prompt"] = chat.messages[0]["content"]
        if chat.stops:
            body["stop"] = list(chat.stops)
        if n > 1:
            body["n"] = n
        body = {name: value for name, value in body.items() if name not in self._left_out}
        extra = {name: body.pop(name) for name in EXTRA if name in body}
        if extra:
            body["extra_body"] = extra
        if self._token_limit == "max_completion_tokens" and mode == "completion":
            body["max_tokens"] = body.pop("max_completion_tokens")
        return body

    def _completions(self, text: str, mode: str, chat: Chat, n: int, seconds: float) -> list[Completion]:
        """The completions of an answer's JSON, checked piece by piece; Transient for anything else."""
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            raise Transient("answer", f"the answer is not JSON: {self._scrub(text[:80])!r}") from None
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices:
            error = answer.get("error") if isinstance(answer, dict) else None
            why = f": {self._scrub(error_message(error))}" if error else ""
            raise Transient("answer", f"the answer holds no choices{why}")
        texts = [choice_text(choice, mode) for choice in choices[:n]]
        if any(text is None for text in texts):
            raise Transient("answer", "the answer holds a choice without text")
        # some servers give the begun text back
        read = [cut_at_stops((text or "").removeprefix(chat.begun), chat.stops) for text in texts]
        counts, estimated = token_counts(answer.get("usage"), read)
        return [
            Completion(
                chat.begun + text, tokens, str(choice.get("finish_reason")), seconds / len(read), estimated
            )
            for text, tokens, choice in zip(read, counts, choices, strict=False)
        ]

    # ---- refusals

    def _refused(self, response: Any, mode: str, body: dict[str, Any]) -> None:
        """Raise what an answer of status 300 and above means."""
        status = response.status_code
        message = self._scrub(error_text(response))
        self._not_a_service(response)
        if status in TRANSIENT_STATUS or status >= 500:
            if "insufficient_quota" in message:
                raise UserError(
                    f"{self.shown_base} refuses to serve: the account's quota is used up ({message})"
                )
            kind = "rate_limit" if status == 429 else "server"
            wait = retry_after_seconds(response.headers.get("retry-after"))
            raise Transient(kind, f"status {status}: {message}", wait)
        if status in (400, 404, 405, 422, 501):
            self._adapt(status, message, mode, body)
        if status == 404:
            near = get_close_matches(self.model, self._served, 3, 0.3) or self._served[:3]
            served = f"; it serves {', '.join(near)}" if near else ""
            raise UserError(
                f"{self.shown_base} does not know the model {self.model!r}{served}: "
                f"check --api_model and --api_base ({message})"
            )
        raise UserError(f"{self.shown_base} refuses the request with status {status}: {message}")

    def _not_a_service(self, response: Any) -> None:
        """UserError for a wrong key and for a redirect."""
        status = response.status_code
        if status in (401, 403):
            told = (
                "the key in API_KEY or OPENAI_API_KEY"
                if self._key
                else "a request without a key: set API_KEY"
            )
            message = self._scrub(error_text(response))
            raise UserError(f"{self.shown_base} refuses {told} (status {status}: {message})")
        if 300 <= status < 400:
            target = self._scrub(response.headers.get("location", "nowhere"))
            raise UserError(
                f"{self.shown_base} redirects to {target}: redirects are not followed, "
                "set --api_base to where the service really is"
            )

    def _adapt(self, status: int, message: str, mode: str, body: dict[str, Any]) -> None:
        """Give up what the server does not know, once each, and raise _Adapted; return if nothing fits."""
        told = message.lower()
        no_template = re.search(r"chat[ _]template(?!_kwargs)|not a chat model", told) is not None
        no_endpoint = status in (404, 405, 501) and "model" not in told
        if mode == "chat" and self._mode_is_open and (no_template or no_endpoint):
            self._mode, self._mode_is_open = "completion", False
            self._warn(f"no chat with {self.model}, asking for raw completions ({message})")
            raise _Adapted
        if self._mode != mode:  # another thread has found out first
            raise _Adapted
        if status not in (400, 422):
            return
        if "max_completion_tokens" in told and "max_tokens" in body and mode == "chat":
            self._token_limit = "max_completion_tokens"
            raise _Adapted
        for name in OPTIONAL:
            if name in {**body, **body.get("extra_body", {})} and re.search(
                rf"(?<![\w-]){name}(?![\w-])", told
            ):
                self._left_out.add(name)
                self._warn(f"no `{name}` ({message})")
                raise _Adapted
        if "n" in body:
            self._remember_one_by_one(message)
            raise _Adapted(one_by_one=True)

    def _remember_one_by_one(self, why: str) -> None:
        if not self._one_by_one:
            self._one_by_one = True
            self._warn(f"one completion per request ({why})")

    def _warn(self, what: str) -> None:
        log.warning("%s: going on with %s", self.shown_base, what)

    # ---- the start

    def _make_client(self) -> Any:
        host = urlsplit(self.base)
        if host.scheme not in ("http", "https") or not host.hostname:
            raise UserError(f"--api_base {self.shown_base} is not a URL like http://127.0.0.1:8000/v1")
        if host.hostname == OPENAI_HOST and not self._key:
            raise UserError(
                f"{self.shown_base} needs a key: set API_KEY or OPENAI_API_KEY, or give --api_base"
            )
        return self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.base,
            timeout=self.config.timeout,
            max_retries=0,
            # what serves on this machine is not asked through a proxy
            http_client=self._openai.DefaultHttpxClient(
                follow_redirects=False, trust_env=host.hostname not in ("localhost", "127.0.0.1", "::1")
            ),
        )

    def _meet_server(self) -> None:
        """Learn which models are served; UserError when nobody answers, or the key or the name is wrong."""
        served: Any = None
        try:
            answer = self._client.models.with_raw_response.list(
                timeout=min(START_TIMEOUT_SECONDS, self.config.timeout)
            )
            served = json.loads(answer.http_response.text)
        except self._openai.APIStatusError as error:
            self._not_a_service(
                error.response
            )  # anything else may still answer requests: not all list models
        except self._openai.APITimeoutError:
            log.warning("%s: no list of models in time", self.shown_base)
        except self._openai.APIConnectionError as error:
            raise UserError(
                f"no server answers at {self.shown_base} ({self._scrub(str(error.__cause__ or error))}): "
                "start it, or check --api_base"
            ) from None
        except (ValueError, RecursionError):
            log.warning("%s: the list of models is not JSON", self.shown_base)
        entries = served.get("data") if isinstance(served, dict) else None
        if isinstance(entries, list):
            self._served = [
                str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry
            ]
        if not self.model and urlsplit(self.base).hostname == OPENAI_HOST:
            self.model = OPENAI_MODEL
        if not self.model and len(self._served) == 1:
            self.model = self._served[0]
        if not self.model:
            choice = f": it serves {', '.join(self._served[:5])}" if self._served else ""
            raise UserError(f"say which model of {self.shown_base} to ask, with --api_model{choice}")

    def _scrub(self, text: str) -> str:
        return scrubbed(text, (self._key,))


class _Adapted(Exception):
    """The server refused something that was given up: ask again, or one by one."""

    def __init__(self, one_by_one: bool = False) -> None:
        super().__init__()
        self.one_by_one = one_by_one


def _openai_library() -> Any:
    try:
        import openai
    except ImportError:
        raise UserError("the openai package is missing: pip install openai") from None
    return openai
