"""`python -m llmsr doctor`: what this machine can run, one line each, with the command that mends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from llmsr.cli.shared import Verb, print_json
from llmsr.config import option
from llmsr.expression.engine.kept import is_compiled
from llmsr.grpo.verl.launch import INSTALL, VERL_VERSION, VLLM_VERSION, cuda_devices, version

PYTHONS = ((3, 11), (3, 13))
LOOPBACK = {8000: "vLLM", 11434: "Ollama", 1234: "LM Studio", 8080: "llama.cpp"}
SERVER_SECONDS = 2.0
MOST_BYTES = 1_000_000  # of a server's answer
GIB = 2**30
EXTRAS = (("spreadsheets", "openpyxl", "'llmsr[tables]'"), ("parquet", "pyarrow", "'llmsr[tables]'"),
          ("units", "pint", "pint"))  # fmt: skip


@dataclass(frozen=True)
class DoctorSettings:
    """what is looked at"""

    api_base: str | None = option(None, "a server to ask too, such as http://127.0.0.1:8000/v1")
    json: bool = option(False, "print the findings as JSON")


@dataclass(frozen=True)
class Finding:
    """What a part of the machine can do: "ok", "missing", or "optional" (no search needs it).

    `mend` is a command, or what else would help; empty where nothing has to be done.
    """

    part: str
    state: str
    told: str
    mend: str = ""

    def line(self, width: int) -> str:
        mark = {"ok": "ok", "missing": "no", "optional": "-"}[self.state]
        return f"{mark:<3} {self.part:<{width}}  {self.told}{f'; {self.mend}' if self.mend else ''}"


@Verb
def doctor(settings: DoctorSettings) -> int:
    """Say what this machine can run, a line each.

    `no` stands where a search cannot, which ends with exit code 1, `-` where more could run; behind it what
    mends that.
    """
    found = [finding for look in LOOKS for finding in look(settings)]
    if settings.json:
        print_json([asdict(finding) for finding in found])
    else:
        width = max(len(finding.part) for finding in found)
        print("\n".join(finding.line(width) for finding in found))
    return int(any(finding.state == "missing" for finding in found))


def _python(settings: DoctorSettings) -> Iterator[Finding]:
    own = ".".join(map(str, sys.version_info[:3]))
    good = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    mend = "" if good else "install Python 3.11, 3.12 or 3.13"
    yield Finding("Python", "ok" if good else "missing", f"{own} at {sys.executable}", mend)
    free = shutil.disk_usage(os.getcwd()).free / GIB
    yield Finding("machine", "ok", f"{os.cpu_count()} cores, {free:.1f} GiB free on this disk")


def _fits(settings: DoctorSettings) -> Iterator[Finding]:
    found, engine = version("numba"), "numba"
    if found is None:
        yield _package("numba", "numba", "numba", "fits run on numpy, several times slower")
        return
    told = f"{found}: fits are compiled at the first run, which takes up to a minute"
    if is_compiled():
        from llmsr.fitting import warm_up

        began = time.perf_counter()
        engine = warm_up()
        told = f"{found}: fits run on {engine}, loaded in {time.perf_counter() - began:.1f} s"
    slow = engine != "numba"
    mend = "LLMSR_ENGINE=numba tells why" if slow else ""
    yield Finding("numba", "optional" if slow else "ok", told, mend)


def _models(settings: DoctorSettings) -> Iterator[Finding]:
    lacking = next((name for name in ("torch", "transformers", "safetensors") if not version(name)), "torch")
    yield _package("local models", lacking, "'llmsr[lm]'", "the grammar proposes instead of a model")
    for part, package, wanted in EXTRAS:
        yield _package(part, package, wanted)


def _package(part: str, package: str, wanted: str, lack: str = "") -> Finding:
    """Whether a part's package is there, what lacks without it, and how it is had."""
    if found := version(package):
        return Finding(part, "ok", f"{package} {found}")
    told = f"{package} is not there{f': {lack}' if lack else ''}"
    return Finding(part, "optional", told, f"pip install {wanted}")


def _training(settings: DoctorSettings) -> Iterator[Finding]:
    if devices := cuda_devices():
        sizes = ", ".join(f"{d.free / GIB:.0f} of {d.total / GIB:.0f} GiB free" for d in devices)
        yield Finding("GPU", "ok", f"{len(devices)}: {sizes}")
        if (torch := version("torch")) and "+cpu" in torch:
            told, mend = f"torch {torch} cannot use it", "pip install --upgrade torch"
            yield Finding("torch on GPU", "optional", told, mend)
    else:
        told = "none is visible: models run, and the local trainer trains, on the CPU"
        yield Finding("GPU", "optional", told)
    found = {name: version(name) for name in ("verl", "vllm")}
    wanted = {"verl": VERL_VERSION, "vllm": VLLM_VERSION}
    good = found == wanted and find_spec("transfer_queue") is not None
    told = ", ".join(f"{name} {there or 'is not there'}" for name, there in found.items())
    needed = "" if good else INSTALL if devices else f"on a machine with a GPU: {INSTALL}"
    yield Finding("VERL", "ok" if good else "optional", told, needed)


def _servers(settings: DoctorSettings) -> Iterator[Finding]:
    bases = {f"http://127.0.0.1:{port}/v1": name for port, name in LOOPBACK.items()}
    if asked := settings.api_base or os.environ.get("OPENAI_BASE_URL"):
        bases = {asked.rstrip("/"): "asked for", **bases}
    with ThreadPoolExecutor(len(bases)) as pool:
        answers = dict(zip(bases, pool.map(_models_of, bases), strict=True))
    for base, models in answers.items():
        if models is not None:
            told = f"answers with {', '.join(models[:3]) or 'no model'}{' ...' if len(models) > 3 else ''}"
            yield Finding("server", "ok", f"{base} {told}: --api_base {base}")
        elif bases[base] == "asked for":
            yield Finding("server", "missing", f"{base} does not answer", "start it, or correct the address")
    if not any(models is not None for models in answers.values()):
        ports = ", ".join(f"{port} ({name})" for port, name in LOOPBACK.items())
        told = f"none answers on this machine at {ports}"
        yield Finding("servers", "optional", told, "start one and name it with --api_base")
    key = bool(os.environ.get("OPENAI_API_KEY"))
    told = "OPENAI_API_KEY is set: --use_api asks a hosted model" if key else "OPENAI_API_KEY is not set"
    yield Finding("hosted models", "ok" if key else "optional", told, "" if key else "set it for --use_api")


def _models_of(base: str) -> list[str] | None:
    """The models that a server at this address names, None where there is none."""
    # a proxy would answer for what runs on this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        with opener.open(f"{base}/models", timeout=SERVER_SECONDS) as answer:
            listed = json.loads(answer.read(MOST_BYTES)).get("data") or []
        return [str(entry.get("id", "?")).encode("ascii", "replace").decode()[:60] for entry in listed]
    return None


LOOKS: tuple[Callable[[DoctorSettings], Iterator[Finding]], ...] = (
    _python, _fits, _models, _training, _servers,
)  # fmt: skip
