"""Completions from a vLLM server that is started for a model and stopped with the proposer."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from llmsr.errors import UserError, scrubbed
from llmsr.models.chat_template import ChatTemplate
from llmsr.prompt import Prompt
from llmsr.proposers.openai_compatible import OpenAICompatible
from llmsr.proposers.proposer import Completion
from llmsr.settings import ProposerConfig
from llmsr.workers.child import start_child

START_SECONDS = 900.0  # a large model is read from disk and compiled for before it answers
STOP_SECONDS = 20.0
SERVED_NAME = "model"
PARALLEL_PROMPTS = 64


class VLLMServer:
    """Starts `vllm serve` for `model_path` on a free port of this machine and asks it for completions.

    The server runs in a process group of its own, which `close`, the end of this process and, on Linux,
    its sudden death bring to an end; nothing else is ever stopped. Where the model's tokenizer can be
    read here it is given tokens, as a trainer gives them; else texts and chats. Its log stays in a file; the
    last lines are shown when it does not come up.
    """

    def __init__(self, config: ProposerConfig, *, start_seconds: float = START_SECONDS) -> None:
        if not config.model_path:
            raise UserError("--proposer vllm needs --model_path MODEL")
        program = _program()
        if program is None:
            mend = "pip install -r requirements-gpu.txt, or take another --proposer"
            raise UserError(f"vllm is not installed: {mend}")
        self.name = f"vllm:{config.model_path}"
        template = _template(config)  # what is wrong with it is said before the server takes its minutes
        # another process may take it in between: then the server fails at once and says so
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [*program, *_arguments(config, port)]
        handle, path = tempfile.mkstemp(".log", "llmsr-vllm-")
        self._log, self.log_path = os.fdopen(handle, "w+b"), Path(path)
        base = f"http://127.0.0.1:{port}"
        try:
            self._process = start_child(command, self._log)
        except OSError as error:
            raise UserError(f"cannot start {command[0]}: {error.strerror}") from None
        atexit.register(self.close)
        try:
            self._wait_until_healthy(f"{base}/health", start_seconds)
            parallel = config.parallel_prompts or PARALLEL_PROMPTS
            served = replace(config, api_base=f"{base}/v1", api_model=SERVED_NAME, parallel_prompts=parallel)
            self._client = OpenAICompatible(served, send_key=False, template=template)
        except BaseException:
            self._stop()
            raise
        self.parallel_prompts = self._client.parallel_prompts

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions of one request; UserError once the server has died."""
        if self._process.poll() is not None:
            raise UserError(f"vllm ended during the run with code {self._process.returncode}: {self._tail()}")
        return self._client.propose(prompt, n, seed)

    def close(self) -> None:
        if getattr(self, "_client", None) is not None:
            self._client.close()
        self._stop()
        atexit.unregister(self.close)

    def _wait_until_healthy(self, url: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        # a proxy cannot reach a server of this machine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                told = f"vllm ended with code {code} before it served {self.name[5:]}"
                raise UserError(f"{told}: {self._tail()}")
            # not up yet: nobody listens, or it answers 503
            with contextlib.suppress(OSError), opener.open(url, timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise UserError(f"vllm did not serve {self.name[5:]} within {seconds:g} s: {self._tail()}")

    def _tail(self) -> str:
        """The last telling lines of the server's log, and where the rest is."""
        text = self.log_path.read_bytes()[-8192:].decode(errors="replace")
        lines = list(filter(None, map(str.strip, text.splitlines())))
        telling = [line for line in lines if "Error" in line or "error" in line] or lines
        return f"{scrubbed(' | '.join(telling[-3:])) or 'it logged nothing'} (log: {self.log_path})"

    def _stop(self) -> None:
        """End the server's process group: asked first, then killed."""
        for kind, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            try:
                os.killpg(self._process.pid, kind)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and _group_lives(self._process):
                time.sleep(0.05)
        self._process.wait()
        self._log.close()


def _arguments(config: ProposerConfig, port: int) -> list[str]:
    command = ["serve", str(config.model_path), "--host", "127.0.0.1", "--port", str(port)]
    # sampled as in training: a model's own configuration may set top_k or a repetition penalty
    command += ["--served-model-name", SERVED_NAME, "--generation-config", "vllm"]
    command += ["--gpu-memory-utilization", str(config.gpu_memory_utilization)]
    if config.dtype != "auto":
        command += ["--dtype", config.dtype]
    if config.trust_remote_code:
        command.append("--trust-remote-code")
    try:
        return command + shlex.split(config.vllm_args)
    except ValueError as error:
        raise UserError(f"--vllm_args {config.vllm_args!r} cannot be read: {error}") from None


def _template(config: ProposerConfig) -> ChatTemplate | None:
    """The model's way from chats to tokens; None where its tokenizer is the server's alone."""
    from llmsr.models.loading import load_tokenizer
    from llmsr.proposers.transformers_model import TEMPLATE_MODES

    try:
        tokenizer = load_tokenizer(str(config.model_path), config.trust_remote_code)
    except UserError:
        return None
    return ChatTemplate(tokenizer, TEMPLATE_MODES[config.api_mode])


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # collects the leader, which would count as alive while it is a zombie
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _program() -> list[str] | None:
    """How to run vllm: the program on PATH or beside this Python, else the package by its module."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which("vllm", path=places)
    if found is not None:
        return [found]
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main"]
    return None
