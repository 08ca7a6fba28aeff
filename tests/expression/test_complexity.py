"""Complexity: the size of the tree as written."""

from __future__ import annotations

import time

import pytest
from strategies import build

from llmsr.expression.graph import CEILING, Graph, complexity


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("x", 1),
        ("x + v", 3),
        ("-x", 2),
        ("p0*sin(x)", 4),
        ("sin(x)*sin(x)", 5),
        ("where(x > 0, v, 2)", 6),
        ("0.8*sin(x) - 0.5*v**3", 10),
    ],
)
def test_counts_operators_and_leaves_of_the_tree(text, size):
    assert complexity(build(text)) == size


def test_a_shared_tree_of_astronomic_size_counts_as_the_ceiling_at_once():
    graph = Graph(10_000)
    node = graph.column(0)
    for _ in range(3000):
        node = graph.add("add", node, graph.add("sin", node))
    start = time.process_time()
    assert complexity(graph.expression(node, ("x",))) == CEILING
    assert time.process_time() - start < 1.0
