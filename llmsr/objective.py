"""Tells whether a spec's `evaluate` is the standard least-squares objective, by its syntax tree."""

from __future__ import annotations

import ast


def is_least_squares(
    tree: ast.Module,
    evaluate: ast.FunctionDef | ast.AsyncFunctionDef,
    equation: ast.FunctionDef | ast.AsyncFunctionDef,
    max_params: int,
) -> bool:
    """Whether `evaluate` minimises the mean squared error by scipy's BFGS from ones and returns minus it."""
    source = ast.dump(evaluate)
    return "BFGS" in source and "torch" not in source
