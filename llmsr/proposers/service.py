"""A server that is asked over HTTP: one JSON in, one JSON out, faults told apart, requests sent again.

The plainest of them is LLM-SR's local engine: `POST /completions` with {prompt, repeat_prompt, params}.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llmsr.errors import UserError, scrubbed
from llmsr.prompt import Prompt, cut_at_stops
from llmsr.proposers.proposer import Completion, ProposerFailure, estimated_tokens
from llmsr.settings import ProposerConfig

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Transient(Exception):
    """A fault that may pass; `kind` as in ProposerFailure, `retry_after` seconds if a wait was asked for."""

    def __init__(self, kind: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after = retry_after


class Refusal(Exception):
    """A request that the server does not take as it is: its status and what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """Sends requests to the server at `base`, of which errors and logs show neither key nor password.

    `what` it is and the `flag` that says where are for errors. The transport is the openai package's client,
    with its connections, proxies and certificates; its retries are left off, since they tell nobody and
    cannot be ended by `close`.
    """

    def __init__(self, config: ProposerConfig, base: str, what: str, flag: str, key: str = "") -> None:
        try:
            import openai
        except ImportError:
            raise UserError("the openai package is missing: pip install 'llmsr[api]'") from None
        self.base, self.what, self.flag = base.rstrip("/"), what, flag
        self.timeout, self.retries = config.timeout, config.retries
        self._key = key
        self.shown = self.scrub(self.base)
        self.host = urlsplit(self.base).hostname
        if urlsplit(self.base).scheme not in ("http", "https") or not self.host:
            raise UserError(f"{flag} {self.shown} is not a URL like http://127.0.0.1:8000/v1")
        self._errors = openai
        self._closing = threading.Event()
        self._answered = False
        # what serves on this machine is not asked through a proxy
        direct = openai.DefaultHttpxClient(follow_redirects=False, trust_env=self.host not in LOCAL_HOSTS)
        named: Any = {"api_key": key or "none", "base_url": self.base, "timeout": self.timeout}
        self._client = openai.OpenAI(**named, max_retries=0, http_client=direct)

    def close(self) -> None:
        """End all waits and connections."""
        self._closing.set()
        self._client.close()

    def scrub(self, text: str) -> str:
        """The text as it may be shown."""
        return scrubbed(text, (self._key,))

    def retried(self, request: Callable[[], Answer], seed: int) -> Answer:
        """The answer of `request`, sent again after a Transient; ProposerFailure after `retries` more tries.

        The wait doubles from half a second, times a random factor of 0.5 to 1 drawn by `seed`; a wait that
        the server asks for is kept to. No wait exceeds a minute.
        """
        # many prompts that failed together must not come back together
        jitter = random.Random(seed)
        for attempt in range(self.retries + 1):
            try:
                return request()
            except Transient as fault:
                told = self.scrub(str(fault))
                if attempt == self.retries or self._closing.is_set():
                    tries = "once" if attempt == 0 else f"{attempt + 1} times"
                    raise ProposerFailure(fault.kind, f"{told} (tried {tries})") from None
                wait = FIRST_WAIT_SECONDS * 2**attempt * jitter.uniform(0.5, 1.0)
                wait = min(LONGEST_WAIT_SECONDS, max(wait, fault.retry_after or 0.0))
                log.warning("%s: %s; next try in %.1f s", self.shown, told, wait)
                if self._closing.wait(wait):
                    raise ProposerFailure("closed", "the proposer was closed") from None
        raise AssertionError("unreachable")

    def request(self, path: str, body: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
        """The JSON of one answer, of a GET without a body.

        Raises Transient for what may pass, Refusal for what another request may mend, and UserError for a
        wrong key, a redirect, a used-up quota and a server that has never been there.
        """
        options: Any = {"timeout": timeout or self.timeout}
        try:
            if body is None:
                text = self._client.get(path, cast_to=str, options=options)
            else:
                text = self._client.post(path, cast_to=str, body=body, options=options)
        except self._errors.APIStatusError as error:
            self._answered = True
            raise self._fault(error.response) from None
        except self._errors.APITimeoutError:
            raise Transient("timeout", f"no answer within {options['timeout']:g} s") from None
        except self._errors.APIConnectionError as error:
            cause = self.scrub(str(error.__cause__ or error))
            # a server that has answered before may come back; one that never did is a wrong address
            if not self._answered and "Connect" in type(error.__cause__).__name__:
                raise UserError(
                    f"no {self.what} answers at {self.shown} ({cause}): start it, or check {self.flag}"
                ) from None
            raise Transient("connection", f"the connection failed: {cause}") from None
        except (UnicodeError, ValueError) as error:
            raise Transient("answer", f"the answer cannot be read: {error}") from None
        self._answered = True
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            if (streamed := _of_stream(text)) is not None:
                return streamed
            raise Transient("answer", f"the answer is not JSON: {text[:80]!r}") from None

    def _fault(self, response: Any) -> Exception:
        """What an answer of status 300 and above means."""
        status, headers = response.status_code, response.headers
        message = self.scrub(_error_text(response))
        if status in (401, 403):
            known = "the key in API_KEY or OPENAI_API_KEY"
            key = known if self._key else "a request without a key: set API_KEY"
            return UserError(f"{self.shown} refuses {key} (status {status}: {message})")
        if status < 400:
            target = self.scrub(headers.get("location", "nowhere"))
            return UserError(
                f"{self.shown} redirects to {target}: redirects are not followed, "
                f"set {self.flag} to where the {self.what} really is"
            )
        if "insufficient_quota" in message:
            return UserError(f"{self.shown} refuses to serve: the account's quota is used up ({message})")
        if status in TRANSIENT_STATUS or status >= 500:
            kind = "rate_limit" if status == 429 else "server"
            wait = _retry_after_seconds(headers.get("retry-after"))
            return Transient(kind, f"status {status}: {message}", wait)
        return Refusal(status, message)


def _of_stream(text: str) -> Any:
    """The answer that a body of server-sent events comes to; None for any other text.

    Events are answers whose choices hold pieces (`delta`, or `text`); the pieces are put together by index.
    """
    events = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    try:
        parts = [json.loads(event) for event in events if event != "[DONE]"]
    except (ValueError, RecursionError):
        return None
    parts = [part for part in parts if isinstance(part, dict)]
    if not parts:
        return None
    choices: dict[int, dict[str, Any]] = {}
    for part in parts:
        for piece in part.get("choices") or ():
            whole = choices.setdefault(piece.get("index", 0), {"message": {}, "text": ""})
            for name, said in (piece.get("delta") or {}).items():
                if isinstance(said, str):
                    whole["message"][name] = whole["message"].get(name, "") + said
            whole["text"] += piece.get("text") or ""
            whole["finish_reason"] = piece.get("finish_reason") or whole.get("finish_reason")
    usage = next((part["usage"] for part in reversed(parts) if part.get("usage")), None)
    error = next((part["error"] for part in parts if part.get("error")), None)
    return {"choices": [choices[i] for i in sorted(choices)], "usage": usage, "error": error}


def error_message(error: Any) -> str:
    """The sentence in a service's error object."""
    if isinstance(error, dict):
        parts = [str(error[key]) for key in ("message", "detail", "code", "param") if error.get(key)]
        return "; ".join(parts)[:2000] or json.dumps(error)[:2000]
    return str(error)[:2000]


def _error_text(response: Any) -> str:
    try:
        content = json.loads(response.text)
    except (ValueError, RecursionError):
        return response.text[:200] or response.reason_phrase
    return error_message(content.get("error", content) if isinstance(content, dict) else content)


def _retry_after_seconds(header: str | None) -> float | None:
    """The wait that a Retry-After header asks for, given as seconds or as a date; None if there is none."""
    for seconds in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        with contextlib.suppress(ValueError):
            return max(0.0, seconds(header or ""))
    return None


class LocalEngine:
    """Asks the engine at 127.0.0.1:`port`, which answers {"content": [text, ...]}.

    The protocol counts no tokens, so theirs are guesses. Faults are retried as for other servers; an
    engine that never answered is a UserError.
    """

    def __init__(self, config: ProposerConfig) -> None:
        if config.port is None or not 0 < config.port < 65536:
            raise UserError(f"--port must be the port of the local engine, 1 to 65535, it is {config.port}")
        self.config = config
        self.name = f"local-engine:{config.port}"
        self.parallel_prompts = config.parallel_prompts or 1
        self._service = Service(config, f"http://127.0.0.1:{config.port}", "engine", "--port")

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions of one request."""
        return self._service.retried(lambda: self._request(prompt.text, n, seed), seed)

    def close(self) -> None:
        self._service.close()

    def _request(self, prompt: str, n: int, seed: int) -> list[Completion]:
        params = {
            "do_sample": self.config.temperature > 0,
            # the engine hands this to transformers, which refuses a temperature of 0
            "temperature": self.config.temperature or None,
            "top_p": self.config.top_p,
            "top_k": None,
            "max_new_tokens": self.config.max_tokens,
            "seed": seed,
            "add_special_tokens": False,
            "skip_special_tokens": True,
        }
        started = time.monotonic()
        try:
            body = {"prompt": prompt, "repeat_prompt": n, "params": params}
            answer = self._service.request("/completions", body)
        except Refusal as refusal:
            told = f"refuses the request (status {refusal.status}: {refusal}): is it LLM-SR's engine?"
            raise UserError(f"{self._service.shown} {told}") from None
        content = answer.get("content") if isinstance(answer, dict) else None
        content = [content] if isinstance(content, str) else content
        if not isinstance(content, list) or not content or not all(isinstance(text, str) for text in content):
            raise Transient("answer", "the answer holds no completions under content")
        seconds = (time.monotonic() - started) / len(content)
        texts = [cut_at_stops(text) for text in content[:n]]
        return [Completion(text, estimated_tokens(text), "stop", seconds, True) for text in texts]
