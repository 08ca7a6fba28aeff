"""The manners in which people write a body: named terms, a named result, comments, spaces around powers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from llmsr.proposers.grammar.trees import LEAVES, Printer, Tree, variables

_TERM_NAMES = (
    *("restoring", "damping", "forcing", "coupling", "nonlinear", "linear", "drive", "correction", "cubic"),
    *("quadratic", "base", "trend"),
)
_FACTOR_NAMES = (
    *("growth", "limitation", "response", "effect", "decay", "scale", "shape", "saturation", "inhibition"),
    *("modulation", "rate"),
)
_COMMENTS = (
    *("main terms", "nonlinear terms", "damping", "coupling", "saturation", "temperature effect"),
    "correction",
)


@dataclass(frozen=True)
class Style:
    """How a body is written: the module of its functions, spaces around powers, named terms, comments."""

    module: str = "np"
    spaced_power: bool = False
    named: bool = False
    result: str = ""
    comments: bool = False


def styled_body(tree: Tree, columns: Sequence[str], params_name: str, style: Style, rng: Random) -> str:
    """The tree as the body of a function in a style, indented by four spaces; `rng` draws the names."""
    printer = Printer(columns, style.module, params_name, " ** " if style.spaced_power else "**")
    lines = [f"# {rng.choice(_COMMENTS)}"] if style.comments else []
    if style.named and tree[0] in "+*":
        named, result = _named(tree, printer, {*columns, params_name}, rng)
        lines += named
    else:
        result = printer.text(tree)
    if style.result and style.result not in columns:
        lines += [f"{style.result} = {result}", f"return {style.result}"]
    else:
        lines.append(f"return {result}")
    return "".join(f"    {line}\n" for line in lines).rstrip("\n")


def _named(tree: Tree, printer: Printer, taken: set[str], rng: Random) -> tuple[list[str], str]:
    """Assignments of the terms or factors to names, and the expression of these names."""
    sign, word, pool = ("+", "term", _TERM_NAMES) if tree[0] == "+" else ("*", "factor", _FACTOR_NAMES)
    numbered = rng.random() < 0.5
    lines: list[str] = []
    pieces: list[str] = []
    for i, part in enumerate(tree[1:], start=1):
        if part[0] in (*LEAVES, "neg"):
            pieces.append("")
            continue
        inside = sorted(variables(part))
        if numbered or not inside:
            name = f"{word}{i}"
        elif rng.random() < 0.5 and len(inside) == 1:
            name = f"{printer.columns[inside[0]]}_{rng.choice(pool)}"
        else:
            name = rng.choice(pool)
        while name in taken:
            name += "_2"
        taken.add(name)
        lines.append(f"{name} = {printer.text(part)}")
        pieces.append(name)
    # constants are numbered as they appear, so what stays in the last line is written after the others
    first, *others = (
        piece or printer.text(part, 2 if sign == "+" else 4)
        for piece, part in zip(pieces, tree[1:], strict=True)
    )
    for text in others:
        minus = sign == "+" and text.startswith("-")
        first += f" - {text[1:]}" if minus else f" {sign} {text}"
    return lines, first
