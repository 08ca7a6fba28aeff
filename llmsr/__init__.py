"""LLM-SR with reinforcement learning: language models propose equations, data decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmsr.estimator.regressor import SymbolicRegressor

__version__ = "0.2.0"
__all__ = ["SymbolicRegressor", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "SymbolicRegressor":  # scikit-learn is imported on first use
        from llmsr.estimator.regressor import SymbolicRegressor

        return SymbolicRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
