"""A real HTTP server on loopback that speaks OpenAI's protocol and misbehaves when told to.

    with FakeServer() as server:
        server.plan("429", "garbage")          # the next two requests; after that it is healthy
        ... api_base=server.base ...
        server.requests                        # what it was asked, (path, headers, body)

It also answers LLM-SR's local engine protocol at `/completions`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = "    return params[0] * x + params[1]\n"
MODEL = "fake-model"


class FakeServer:
    """The server; `plan` says how the next completion requests go, `always` how all of them go."""

    def __init__(self, *, models: tuple[str, ...] = (MODEL,), lists_models: bool = True) -> None:
        self.models = models
        self.lists_models = lists_models
        self.list_behaviour = "ok"
        self.always = "ok"
        self.text = BODY
        # said in place of `text`: a text, or a whole message
        self.reply: Callable[[dict[str, Any]], str | dict[str, Any]] | None = None
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda asked: None  # with status 400, and this
        self.send: Callable[[dict[str, Any]], bytes] = lambda answer: json.dumps(answer).encode()
        self.retry_after = "0"
        self.hang_seconds = 3.0
        self.redirect_to = "http://127.0.0.1:9/elsewhere"
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.times: list[float] = []
        self._plan: deque[str] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.base = f"http://127.0.0.1:{self.port}/v1"

    def plan(self, *behaviours: str) -> None:
        self._plan.extend(behaviours)

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_behaviour(self) -> str:
        with self._lock:
            return self._plan.popleft() if self._plan else self.always

    def answer(self, path: str, asked: dict[str, Any], count: int | None = None) -> dict[str, Any]:
        n = asked.get("n", 1) if count is None else count
        text = self.reply(asked) if self.reply else self.text
        if path.endswith("/chat/completions"):
            said = text if isinstance(text, dict) else {"content": text}
            choices = [{"index": i, "message": {"role": "assistant"} | said} for i in range(n)]
        else:
            choices = [{"index": i, "text": text} for i in range(n)]
        choices = [choice | {"finish_reason": "stop"} for choice in choices]
        usage = {"prompt_tokens": 10, "completion_tokens": 7 * n, "total_tokens": 10 + 7 * n}
        return {"id": "1", "object": "chat.completion", "model": MODEL, "choices": choices, "usage": usage}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, b"")
        elif self.fake.list_behaviour != "ok":
            self._misbehave(self.fake.list_behaviour, {})
        elif self.path.endswith("/models") and self.fake.lists_models:
            self._json(200, {"object": "list", "data": [{"id": model} for model in self.fake.models]})
        else:
            self._error(404, "Not Found")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(raw)
        fake = self.fake
        if fake._closing.is_set():  # a connection kept alive would be served beyond the server's end
            self.close_connection = True
            return
        fake.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, asked))
        fake.times.append(time.monotonic())
        behaviour = fake.next_behaviour()
        if behaviour != "ok":
            self._misbehave(behaviour, asked)
        elif message := fake.refuse(asked):
            self._error(400, message)
        elif self.path == "/completions":
            self._json(200, {"content": [fake.text] * asked["repeat_prompt"]})
        elif asked.get("model") not in fake.models:
            self._error(404, f"The model `{asked.get('model')}` does not exist", code="model_not_found")
        else:
            self._send(200, fake.send(fake.answer(self.path, asked)))

    def _misbehave(self, behaviour: str, asked: dict[str, Any]) -> None:
        fake = self.fake
        if behaviour == "401":  # as some services do, it repeats the key that it was sent
            self._error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
        elif behaviour == "429":
            self._error(429, "Rate limit reached", headers={"Retry-After": fake.retry_after})
        elif behaviour == "quota":
            self._error(429, "You exceeded your current quota", code="insufficient_quota")
        elif behaviour == "garbage":
            self._send(200, b'{"choices": [{"te\xff\x00', "application/json")
        elif behaviour == "html":
            self._send(200, b"<html>maintenance</html>", "text/html")
        elif behaviour == "deep":
            self._send(200, b"[" * 100_000, "application/json")
        elif behaviour == "empty choices":
            self._json(200, fake.answer(self.path, asked, count=0))
        elif behaviour == "null choices":
            self._json(200, {"choices": None, "error": {"message": "upstream died"}})
        elif behaviour == "no text":
            self._json(200, {"choices": [{"index": 0}]})
        elif behaviour == "no usage":
            self._json(200, {k: v for k, v in fake.answer(self.path, asked).items() if k != "usage"})
        elif behaviour == "null content":
            message = {"role": "assistant", "content": None}
            self._json(200, {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]})
        elif behaviour == "one choice":
            self._json(200, fake.answer(self.path, asked, count=1))
        elif behaviour == "half":
            self._half(json.dumps(fake.answer(self.path, asked)).encode())
        elif behaviour == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif behaviour == "hang":
            fake._closing.wait(fake.hang_seconds)
            self.close_connection = True
        elif behaviour == "redirect":
            self._send(307, b"", headers={"Location": fake.redirect_to})
        elif behaviour == "no n" and asked.get("n", 1) > 1:
            self._error(400, "n must be 1 for this model")
        elif behaviour == "no seed" and "seed" in asked:
            self._error(400, "Unknown field: seed")
        elif behaviour == "no extras" and "chat_template_kwargs" in asked:
            self._error(400, "Unknown field: chat_template_kwargs")
        elif behaviour == "new limit" and "max_tokens" in asked:
            self._error(400, "Unsupported parameter: use 'max_completion_tokens' instead", param="max_tokens")
        elif behaviour == "no chat" and self.path.endswith("/chat/completions"):
            self._error(400, "default chat template is no longer allowed, you must provide a chat template")
        elif behaviour.isdigit():
            self._error(int(behaviour), "the fault that was asked for")
        else:
            self._json(200, fake.answer(self.path, asked))

    def _half(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.close_connection = True

    def _error(
        self, status: int, message: str, headers: dict[str, str] | None = None, **fields: str | None
    ) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | fields
        self._send(status, json.dumps({"error": error}).encode(), headers=headers)

    def _json(self, status: int, content: Any) -> None:
        self._send(status, json.dumps(content).encode())

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has gone
            self.close_connection = True
