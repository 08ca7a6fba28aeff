"""Every Python process that starts with this folder on its path writes down its way through llmsr.

Each process appends to a file of its own in the folder `LLMSR_TRACE`: a line `caller callee` for every call
from one module of the package to another. Written at once, because workers are killed and never exit.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PACKAGE = str(Path(__file__).resolve().parents[2] / "llmsr") + os.sep
_importing = threading.local()
_files: dict[int, int] = {}
_names: dict[CodeType, str] = {}


def _record(frame: FrameType, event: str, argument: Any) -> None:
    if event not in ("call", "return"):
        return
    code = frame.f_code
    if code.co_name == "<module>" and _is_import(frame):
        # what a module does while it is imported is no step of anybody's way
        _importing.depth = getattr(_importing, "depth", 0) + (1 if event == "call" else -1)
        return
    if event == "return" or getattr(_importing, "depth", 0):
        return
    callee = _name(code)
    if not callee:
        return
    caller = _caller(frame)
    if caller != callee:
        os.write(_file(), f"{caller or '-'} {callee}\n".encode())


def _is_import(frame: FrameType) -> bool:
    """Whether this module is being imported; a program's main module is not."""
    return frame.f_back is not None and frame.f_back.f_code.co_filename.startswith("<frozen importlib")


def _imports_under_way() -> int:
    frame: FrameType | None = sys._getframe()
    count = 0
    while frame is not None:
        count += frame.f_code.co_name == "<module>" and _is_import(frame)
        frame = frame.f_back
    return count


def _name(code: CodeType) -> str:
    """The module in which the code stands, or nothing where that is no module of the package."""
    name = _names.get(code)
    if name is None:
        path = code.co_filename
        inside = path.startswith(PACKAGE)
        name = "llmsr." + path[len(PACKAGE) :].removesuffix(".py").replace(os.sep, ".") if inside else ""
        name = _names[code] = name.removesuffix(".__init__")
    return name


def _caller(frame: FrameType) -> str:
    """The nearest module of the package that is waiting for this call, over libraries in between."""
    above = frame.f_back
    while above is not None:
        if name := _name(above.f_code):
            return name
        above = above.f_back
    return ""


def _file() -> int:
    """This process's file; a forked worker opens its own."""
    process = os.getpid()
    if process not in _files:
        path = os.path.join(os.environ["LLMSR_TRACE"], str(process))
        _files[process] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return _files[process]


if os.environ.get("LLMSR_TRACE"):
    _importing.depth = _imports_under_way()  # this module's among them
    threading.setprofile(_record)
    sys.setprofile(_record)
