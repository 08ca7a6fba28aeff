"""The units of a problem's columns as dimensions, read by pint from the words of its spec."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from llmsr.errors import UserError
from llmsr.expression.dimensions import Dimensions, unit_name

if TYPE_CHECKING:
    from llmsr.problem.loading import Problem

MODES = ("words", "penalty", "strict")
PENALTY = 1.0  # added to the NMSE of an equation whose units do not agree: it is worse than the mean
NUMBERS = frozenset({"1", "-", "none", "dimensionless", "%"})
LONGEST = 60  # characters; what is longer is no unit

_SYMBOLS = {"length": "m", "mass": "kg", "time": "s", "current": "A", "temperature": "K", "substance": "mol"}


def dimension_of(unit: str) -> dict[str, Fraction]:
    """The exponents of base units, by name; `UserError` for what is no unit."""
    text = re.sub(r"(?<=[A-Za-zµμ°Ω])(-?\d)", r"**\1", unit.strip().replace("·", "*").replace("^", "**"))
    # pint would work out a power of numbers of any size
    strange = re.search(r"\d\s*\*\*|\*\*\s*\(?-?\d{3}|[^\w\s*/.()°%⁰¹²³⁴-⁹⁻-]", text)
    if not text or len(text) > LONGEST or strange:
        raise UserError(f"{unit.strip()[:LONGEST]!r} is no unit")
    if text.lower() in NUMBERS:
        return {}
    text = re.sub(r"\bAU\b", "au", text)  # the distance, not absorbance
    registry = _registry()
    try:
        found = registry.parse_units(text).dimensionality
    except Exception:  # noqa: BLE001  pint's parser raises errors of many kinds for what is no unit
        raise UserError(f"{unit.strip()!r} is no unit") from None
    names = {name: name.strip("[]") for name in found}
    return {_SYMBOLS.get(names[n], names[n]): Fraction(e).limit_denominator(100) for n, e in found.items()}


@functools.cache
def _registry() -> Any:
    try:
        import pint  # takes a second, which only those wait for whose units are looked at
    except ImportError:
        raise UserError("units are checked by a package that is not there; pip install pint") from None
    return pint.UnitRegistry()


def dimensions_of(units: Mapping[str, str], columns: tuple[str, ...], target: str) -> Dimensions:
    """The dimensions of the columns and the target; `UserError` names a column whose unit cannot be read."""
    read: dict[str, dict[str, Fraction]] = {}
    for name in (*columns, target):
        if units.get(name):
            try:
                read[name] = dimension_of(units[name])
            except UserError as error:
                told = "write it like m/s^2, or leave units to words with --units words"
                raise UserError(f"the unit of {name}: {error}; {told}") from None
    base = tuple(sorted({part for dimension in read.values() for part in dimension}))
    vectors = {
        name: tuple(dimension.get(part, Fraction(0)) for part in base) for name, dimension in read.items()
    }
    return Dimensions(base, tuple(vectors.get(name) for name in columns), vectors.get(target))


def with_units(problem: Problem, mode: str) -> Problem:
    """The problem whose equations are held to the units of its spec; `mode` is one of MODES.

    `UserError` where the mode asks for units and there are none, or one cannot be read.
    """
    if mode == "words":
        return problem
    spec = problem.spec
    if not spec.units:
        raise UserError(
            f"{spec.path}: --units {mode} needs units; give them to llmsr new, or write a comment such as "
            f"'# llmsr: units {spec.columns[0]}=m; {problem.target}=m/s^2' into the spec"
        )
    unknown = sorted(set(spec.units) - {*spec.columns, problem.target})
    if unknown:
        raise UserError(f"{spec.path}: a unit is given for {unknown[0]!r}, which is no column")
    return replace(problem, units=mode, dimensions=dimensions_of(spec.units, spec.columns, problem.target))


def described(dimensions: Dimensions, columns: tuple[str, ...], target: str) -> str:
    """The base units of every column that has some, for a reader."""
    pairs = zip((*columns, target), (*dimensions.columns, dimensions.target), strict=True)
    return ", ".join(f"{name} in {unit_name(dimensions.base, v)}" for name, v in pairs if v is not None)
