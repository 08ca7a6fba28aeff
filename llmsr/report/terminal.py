"""The result of a run as a person reads it in a terminal: the front, the pick, its constants and errors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llmsr.report.front import NMSE_FLOOR
from llmsr.report.text import plain
from llmsr.sample import REFINE

WIDEST = 400  # characters of a line that is not for a terminal
NARROWEST = 60


def line_width() -> int:
    """The characters of a line: the terminal's, or many where standard output is no terminal."""
    if not sys.stdout.isatty():
        return WIDEST
    return max(NARROWEST, shutil.get_terminal_size().columns)


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 1)] + "..."


def number(value: float | None) -> str:
    return f"{value:.3e}" if value is not None else "not finite"


def origin(entry: Mapping[str, Any]) -> str:
    """The number of the sample; r12 is a refinement of sample 12, made without the model."""
    return f"{'r' * (entry.get('proposer') == REFINE)}{entry['sample']}"


def is_exact(entry: Mapping[str, Any]) -> bool:
    """Whether nothing could fit better: what is left over is rounding."""
    nmse = entry["nmse"].get("train")
    return nmse is not None and nmse < NMSE_FLOOR


def format_front(result: Mapping[str, Any], width: int | None = None) -> str:
    """One line per member of the front, `>` before the pick; constants are rounded as the loss allows.

    Where that left terms out, a `~` says so: complexity and NMSE are those of the whole equation.
    """
    width = width or line_width()
    picked = result.get("pick")
    lines = [f"  {'complexity':>10}  {'train NMSE':>10}  {'score':>6}  {'sample':>7}  equation"]
    shown: set[str] = set()
    cut_short = False
    for entry in result.get("front") or []:
        mark = ">" if entry == picked else " "
        equation = entry["rounded"]["equation"]
        if equation in shown and mark == " ":
            continue  # rounded, it is a smaller one
        shown.add(equation)
        start = (
            f"{mark} {entry['complexity']:>10}  {number(entry['nmse'].get('train')):>10}  "
            f"{entry['score']:>6.3f}  {origin(entry):>7}  "
        )
        dropped = entry["rounded"]["terms_dropped"] > 0
        cut_short = cut_short or dropped
        lines.append(cut(f"{start}{'~ ' if dropped else ''}{plain(equation)}", width))
    if cut_short:
        lines.append("  ~ terms that do not matter are left out; complexity and NMSE are with them")
    return "\n".join(lines)


def format_result(result: Mapping[str, Any], width: int | None = None) -> str:
    """The whole result; without a front, what `result_of` tells."""
    counts = (
        f"{plain(result['problem'])}: {result['samples']} samples, {result['valid']} valid, "
        f"{result['distinct']} distinct equations"
    )
    if result.get("refinements"):
        counts += f"; {result['refinements']} refinements without the model (r12: of sample 12)"
    lines = [counts]
    if result["note"]:
        lines.append(f"note: {plain(result['note'])}")
    best, shown = result["best"], result.get("pick") or result["best"]
    if best is None:
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(result["failures"].items()))
        lines.append(f"no valid equation was found ({reasons or 'no samples'})")
        return "\n".join(lines)
    if result.get("front"):
        lines += ["", format_front(result, width)]
    rounded = shown.get("rounded")
    lines += [
        "",
        f"best equation (sample {origin(shown)}, complexity {shown['complexity']}):",
        f"  {plain(rounded['equation'] if rounded else shown['equation'])}",
    ]
    if rounded and rounded["recognised"]:
        told = ", ".join(f"{r['number']:g} may be {r['name']}" for r in rounded["recognised"])
        lines.append(f"  perhaps: {plain(told)}")
    if shown["sample"] != best["sample"] and not is_exact(shown):
        lines.append(
            f"  (the lowest training error, NMSE {number(best['nmse'].get('train'))}, has sample "
            f"{origin(best)} of complexity {best['complexity']})"
        )
    lines += ["", "constants:", *(f"  {entry}" for entry in _constants(shown) or ["none"])]
    lines += ["", "NMSE (mean squared error / variance of the target):"]
    for split, value in shown["nmse"].items():
        after = f"   rounded {number(rounded['nmse'].get(split))}" if rounded else ""
        lines.append(f"  {split:<9}{number(value)}{after}")
    return "\n".join(lines)


def _constants(entry: Mapping[str, Any]) -> list[str]:
    """The fitted constants that the body names; all of them where it names none in the usual way."""
    named = entry.get("constants")
    if named is not None:
        return [f"{plain(name)} = {value:.10g}" for name, value in named.items()]
    return [
        f"params[{i}] = {p:.10g}" for i, p in enumerate(entry["params"]) if f"params[{i}]" in entry["body"]
    ]


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, all others to the right; every cell on one line."""
    cells = [[plain(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
