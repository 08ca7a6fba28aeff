"""An equation as data: text to graph, evaluation, canonical form, size, derivatives and export."""

from __future__ import annotations

from llmsr.expression.graph import Expression, Graph, GraphTooLarge, Node, evaluate
from llmsr.expression.reader import Refusal, parse
from llmsr.expression.reader.values import Limits

__all__ = ["Expression", "Graph", "GraphTooLarge", "Limits", "Node", "Refusal", "evaluate", "parse"]
