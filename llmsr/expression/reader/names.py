"""How known functions are called: arguments bound by name, and the errors that this can give."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from llmsr.expression.reader.values import Native, Refused

CONTEXT = object()
"""What np.errstate and the like give: good for a with statement and nothing else."""


@lru_cache(maxsize=1024)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def native(name: str, function: Callable[..., Any]) -> Native:
    """A `Native` whose arguments follow the signature of `function(on, ...)`; others are refused."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            bound = signature(function).bind(on, *args, **kwargs)
        except TypeError as error:
            raise Refused(f"{name} cannot be called like this: {error}") from None
        return function(*bound.args, **bound.kwargs)

    return Native(name, call)


def refused(name: str, why: str) -> Native:
    """A function that is known but cannot be part of an equation."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        raise Refused(f"{name} {why}")

    return Native(name, call)


def words(text: str) -> list[str]:
    """The names in a text, which is shorter to read than a list of quoted ones."""
    return text.split()
