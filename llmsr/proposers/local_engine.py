"""Completions from LLM-SR's local engine: `POST /completions` with {prompt, repeat_prompt, params}."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from llmsr.errors import UserError
from llmsr.prompt import Prompt, cut_at_stops
from llmsr.proposers.proposer import Completion, estimated_tokens, scrubbed
from llmsr.proposers.retry import Transient, retry_after_seconds, with_retries
from llmsr.settings import ProposerConfig


class LocalEngine:
    """Asks the engine at 127.0.0.1:`port`, which answers {"content": [text, ...]}.

    The protocol counts no tokens, so theirs are guesses. Faults are retried as for other servers; an
    engine that never answered is a UserError.
    """

    def __init__(self, config: ProposerConfig) -> None:
        if config.port is None or not 0 < config.port < 65536:
            raise UserError(f"--port must be the port of the local engine, 1 to 65535, it is {config.port}")
        self.config = config
        self.url = f"http://127.0.0.1:{config.port}/completions"
        self.name = f"local-engine:{config.port}"
        self.parallel_prompts = config.parallel_prompts or 1
        self._closing = threading.Event()
        self._answered = False
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions of one request."""
        return with_retries(
            lambda: self._request(prompt.text, n, seed),
            retries=self.config.retries,
            seed=seed,
            closing=self._closing,
            service=self.url,
        )

    def close(self) -> None:
        self._closing.set()

    def _request(self, prompt: str, n: int, seed: int) -> list[Completion]:
        params = {
            "do_sample": self.config.temperature > 0,
            "temperature": self.config.temperature or None,
            "top_p": self.config.top_p,
            "top_k": None,
            "max_new_tokens": self.config.max_tokens,
            "seed": seed,
            "add_special_tokens": False,
            "skip_special_tokens": True,
        }
        data = json.dumps({"prompt": prompt, "repeat_prompt": n, "params": params}).encode()
        request = urllib.request.Request(self.url, data, {"Content-Type": "application/json"})
        started = time.monotonic()
        try:
            with self._opener.open(request, timeout=self.config.timeout) as response:
                content = _content(response.read())
        except urllib.error.HTTPError as error:
            self._refused(error)
        except TimeoutError:
            raise Transient("timeout", f"no answer within {self.config.timeout:g} s") from None
        except (http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise Transient("timeout", f"no answer within {self.config.timeout:g} s") from None
            if isinstance(reason, ConnectionRefusedError) and not self._answered:
                raise UserError(f"no engine answers at {self.url}: start it, or check --port") from None
            raise Transient("connection", f"the connection failed: {scrubbed(str(reason))}") from None
        self._answered = True
        seconds = (time.monotonic() - started) / len(content)
        texts = [cut_at_stops(text) for text in content[:n]]
        return [Completion(text, estimated_tokens(text), "stop", seconds, True) for text in texts]

    def _refused(self, error: urllib.error.HTTPError) -> None:
        told = f"status {error.code}: {scrubbed(str(error.reason))}"
        if error.code == 429 or error.code >= 500:
            kind = "rate_limit" if error.code == 429 else "server"
            raise Transient(kind, told, retry_after_seconds(error.headers.get("Retry-After")))
        raise UserError(f"{self.url} refuses the request ({told}): is it LLM-SR's engine?")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _content(raw: bytes) -> list[str]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise Transient("answer", f"the answer is not JSON: {scrubbed(repr(raw[:80]))}") from None
    content = answer.get("content") if isinstance(answer, dict) else None
    if isinstance(content, str):
        content = [content]
    if not isinstance(content, list) or not content or not all(isinstance(text, str) for text in content):
        raise Transient("answer", "the answer holds no completions under content")
    return content
