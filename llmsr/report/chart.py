"""Charts as inline SVG: lines, steps and points on linear or logarithmic axes, without a script.

Colours are the page's style variables (--tone1, --tone2, ...), so that charts follow its light and dark
theme; a plotting library would write them as fixed colours. A chart is drawn at about the width at which it
is shown, 360 pixels, so that its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmsr.report.markup import number, template

if TYPE_CHECKING:
    import pandas as pd

Point = tuple[float, float]
WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 368, 12, 210  # the plot's edges
MAX_POINTS = 400  # of a line
LEAST, LARGEST = 1e-33, 1e300  # drawn; an error of exactly 0 has no logarithm and stands at the least
MAX_ZONES = 60  # places of a line that tell their values when pointed at
RADII = {"mark": 4.5, "ring": 3}


@dataclass(frozen=True)
class Series:
    """Points of one name; `style` is line, step (a value holds until the next), dots, mark or ring.

    `tips`: what each point says when pointed at, empty or one per point. `tone` numbers the colour.
    """

    name: str
    points: Sequence[Point]
    tone: int = 1
    style: str = "line"
    tips: Sequence[str] = ()
    faint: bool = False

    @classmethod
    def of(cls, table: pd.DataFrame, x: str, y: str, name: str = "", *more: Any, **named: Any) -> Series:
        """Two columns of a table, or its index and one, without the rows that have no `y`."""
        known = (table if x in table else table.reset_index()).dropna(subset=[y])
        return cls(name, pairs(known[x], known[y]), *more, **named)


def pairs(x: Any, y: Any) -> list[Point]:
    """The points of two equally long columns."""
    return list(zip(x.tolist(), y.tolist(), strict=True))


@dataclass(frozen=True)
class Axis:
    """A scale from data to 0..1, and its ticks: (value, label)."""

    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]

    def at(self, value: float) -> float:
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)


def linear_axis(values: Sequence[float], ticks: int, whole: bool = False) -> Axis:
    """An axis over the values, with about so many ticks at round numbers, whole ones on demand."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = 0.5 * abs(high) or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / (ticks - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= raw * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, False, [(i * step, number(i * step)) for i in range(first, last + 1)])


def log_axis(values: Sequence[float], ticks: int) -> Axis:
    """An axis of whole decades over positive values, with at most so many ticks and one."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = max(math.ceil(math.log10(max(values)) - 1e-9), low + 1)
    step = -(-(high - low) // ticks)
    marks = [e for e in range(low, high + 1) if (high - e) % step == 0]
    return Axis(low, high, True, [(10.0**e, f"{10.0**e:g}" if -3 <= e <= 4 else f"1e{e}") for e in marks])


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    diagonal: bool = False,
    zero: bool = False,
    x_range: Iterable[float] = (),
    y_range: Iterable[float] = (),
    title: str = "",
) -> str:
    """An `<svg>` element of all series, which is markup, or a sentence where there is no point to draw.

    `diagonal` draws the line y = x, `zero` the line y = 0; the ranges are widened, never narrowed.
    Points that are not finite, or negative on a logarithmic axis, are left out. Whole numbers get ticks at
    whole numbers.
    """
    kept = [(one, _visible(one, log_x, log_y)) for one in series]
    points = [point for _, found in kept for point, _ in found]
    page = template("chart.svg")
    if not points:
        return page.render(shapes=())
    xs = [x for x, _ in points] + list(x_range)
    ys = [y for _, y in points] + list(y_range) + [0.0] * zero
    if diagonal:
        xs = ys = [*xs, *ys]
    x_axis = log_axis(xs, 5) if log_x else linear_axis(xs, 5, all(float(x).is_integer() for x in xs))
    y_axis = log_axis(ys, 6) if log_y else linear_axis(ys, 6)

    def place(point: Point) -> Point:
        x, y = x_axis.at(point[0]), y_axis.at(point[1])
        return round(LEFT + x * (RIGHT - LEFT), 1), round(BOTTOM - y * (BOTTOM - TOP), 1)

    return page.render(
        shapes=[(one, [(*place(point), tip) for point, tip in found]) for one, found in kept],
        x_ticks=[(place((value, ys[0]))[0], label) for value, label in x_axis.ticks],
        y_ticks=[(place((xs[0], value))[1], label) for value, label in y_axis.ticks],
        diagonal=[place((end, end)) for end in (x_axis.low, x_axis.high)] if diagonal else [],
        zero=place((xs[0], 0.0))[1] if zero else None,
        x_label=x_label, y_label=y_label, title=title or f"{y_label} over {x_label}",
        width=WIDTH, height=HEIGHT, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM,
        radii=RADII, most_zones=MAX_ZONES,
    )  # fmt: skip


def _visible(series: Series, log_x: bool, log_y: bool) -> list[tuple[Point, str]]:
    """The points that can be drawn with their tips, no more than a line can show."""

    def fits(value: float, log: bool) -> bool:
        return math.isfinite(value) and (value >= 0 or not log)

    def clipped(value: float, log: bool) -> float:
        # the difference of two larger numbers would be infinite
        return min(max(value, LEAST if log else -LARGEST), LARGEST)

    tips = series.tips or [""] * len(series.points)
    found = [
        ((clipped(x, log_x), clipped(y, log_y)), tip)
        for (x, y), tip in zip(series.points, tips, strict=True)
        if fits(x, log_x) and fits(y, log_y)
    ]
    if series.style in ("line", "step") and len(found) > MAX_POINTS:
        stride = len(found) / MAX_POINTS
        found = [*(found[int(i * stride)] for i in range(MAX_POINTS)), found[-1]]
    return found
