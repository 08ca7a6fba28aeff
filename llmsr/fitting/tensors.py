"""The arguments of an equation as torch takes them, and parameters of whatever kind as numbers."""

from __future__ import annotations

import contextlib
import sys
from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=1)
def load_torch() -> None:
    """Import torch, if it is there, with what its optimisers load at their first step; both take seconds."""
    with contextlib.suppress(ImportError):
        import torch

        one = torch.nn.Parameter(torch.ones(1))
        one.sum().backward()  # type: ignore[no-untyped-call, unused-ignore]
        torch.optim.Adam([one]).step()


def as_tensors(args: tuple[Any, ...]) -> list[Any] | None:
    """The equation's arguments as torch takes them, None where no tensor is among them.

    Parameters may be a tensor, an array, or any sequence of tensors and numbers, such as a ParameterList;
    gradients flow through all that were tensors.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    *columns, params = args
    whole = isinstance(params, torch.Tensor | np.ndarray)
    parts = [params] if whole else list(params)
    if not any(isinstance(part, torch.Tensor) for part in (*columns, *parts)):
        return None
    made = [part if isinstance(part, torch.Tensor) else torch.as_tensor(part, dtype=torch.float64)
            for part in (*columns, *parts)]  # fmt: skip
    return made if whole else [*made[: len(columns)], made[len(columns) :]]


def as_numbers(params: Any) -> np.ndarray:
    """A copy of parameters that may be an array, a tensor or a sequence of numbers or tensors."""
    if hasattr(params, "detach"):
        params = params.detach().cpu()
    elif not isinstance(params, np.ndarray):
        params = [float(p) for p in params]
    return np.array(params, dtype=np.float64)
