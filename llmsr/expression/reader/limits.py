"""The bounds that keep parsing short in time and memory for any text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one body may cost; beyond any of these it is refused as `too_large`.

    `text` and `line` are characters, `nesting` open brackets, `depth` levels of the syntax tree, `steps`
    syntax nodes visited (a loop's body counts every time), `cells` operations on cells, `nodes` distinct
    operations of the graph, `items` the length of a list, `size` the cells of one array, `bits` the size of
    an integer, `calls` nested calls.
    """

    text: int = 40_000
    line: int = 4_000
    nesting: int = 40
    depth: int = 60
    steps: int = 30_000
    cells: int = 60_000
    nodes: int = 4_000
    items: int = 1_000
    size: int = 4_096
    bits: int = 1_024
    calls: int = 24
