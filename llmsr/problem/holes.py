"""Equations made of parts: bodies of a template, read hole by hole, and equations that a user begins from.

Every hole is a spec of its own. What people write, names for constants, is read as a body of the spec.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llmsr.errors import UserError
from llmsr.expression import Expression, Refusal
from llmsr.expression.operations import OPS
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Meant, Spec, read_as_meant, read_body
from llmsr.problem.template import Constants

_MODULES = frozenset({"np", "numpy", "math", "torch", "pi", "e"})


def hole_spec(spec: Spec, name: str) -> Spec:
    """The spec whose equation is what stands in a hole: a function of the hole's arguments."""
    template = spec.template
    assert template is not None
    arguments = template.holes[name]
    typed = ", ".join(f"{argument}: np.ndarray" for argument in (*arguments, spec.params_name))
    words = f"Write {template.call(name)} alone, a part of {template.text}; the other parts stay."
    allowed = replace(
        spec.form,
        names=arguments,
        required=(),
        forbidden=(),
        most_size=None,
        most_depth=None,
        part=words,
        shapes=(),
    )
    return replace(
        spec,
        columns=arguments,
        header=f"def {spec.function_name}({typed}) -> np.ndarray:",
        form=allowed,
        template=None,
    )


def hole_expressions(spec: Spec, body: str) -> dict[str, Expression] | Refusal:
    """What stands in the holes of a body; a refusal for another form and for a hole that is none."""
    template = spec.template
    assert template is not None
    parts = template.parts(body)
    if parts is None:
        needed = ", ".join(f"def {template.call(name)}" for name in template.holes)
        return Refusal("form", f"it is not of the form {template.text}: write {needed} and return that form")
    found = {}
    for name, text in parts.items():
        # columns that are no arguments of the hole are unknown there
        inner = read_body(hole_spec(spec, name), text)
        if isinstance(inner, Refusal):
            return replace(inner, reason=f"{template.call(name)}: {inner.reason}")
        found[name] = inner
    return found


def read_whole(spec: Spec, body: str) -> Meant:
    """A body of the template's form as `Template.body` writes it, with what it says or why it is refused."""
    found = hole_expressions(spec, body)
    return Meant(found, body) if isinstance(found, Refusal) else _filled(spec, found)


def read_hole(spec: Spec, meant: Meant, base: str, name: str) -> Meant:
    """The body `base` with what was read for one of its holes; refused where that was."""
    if isinstance(meant.expression, Refusal):
        return meant
    return with_holes(spec, base, {name: meant.expression})._replace(repairs=meant.repairs)


def with_holes(spec: Spec, body: str, inner: Mapping[str, Expression]) -> Meant:
    """A body of the template's form with other expressions in some of its holes."""
    found = hole_expressions(spec, body)
    assert not isinstance(found, Refusal)
    return _filled(spec, {**found, **inner})


def _filled(spec: Spec, found: Mapping[str, Expression]) -> Meant:
    assert spec.template is not None
    text = spec.template.body(found)
    return Meant(read_body(spec, text), text)


# ---- guesses


def guess_lines(text: str) -> tuple[str, ...]:
    """The equations of a text, separated by `;` or lines; of a file's name those of the file, one a line.

    A line that begins with # says nothing. `UserError` where the file cannot be read.
    """
    path = Path(text) if text and len(text) < 300 and "\n" not in text else None
    try:
        lines = path.read_text("utf-8").splitlines() if path and path.is_file() else re.split("[;\n]", text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--guess {text} cannot be read: {error}") from None
    told = (line.strip() for line in lines)
    return tuple(line for line in told if line and not line.startswith("#"))


def guess_bodies(problem: Problem, text: str) -> dict[str, str]:
    """The equations of `guess_lines` by their lines, as bodies; `UserError` for one that cannot be read.

    Names that are no columns, and numbers with a decimal point, are constants to be fitted; a whole number
    stays. A line that speaks of the spec's params, or begins with `return`, is a body already. Of a template
    a line fills the holes, such as `f = a*x | g = b*t^2`.
    """
    found = {}
    for line in guess_lines(text):
        meant = _meant(problem, line)
        if not isinstance(meant.expression, Expression):
            raise UserError(f"{_named(line)} cannot be read: {meant.expression.reason}")
        if refused := problem.refused(meant.expression):
            raise UserError(f"{_named(line)} is not of the form that is asked for: {refused[1]}")
        found[line] = meant.body
    return found


def _meant(problem: Problem, line: str) -> Meant:
    spec, template = problem.spec, problem.spec.template
    if template is None:
        body = _body(spec, problem.target, line)
        return read_as_meant(spec, body)._replace(body=body)
    found = {}
    for part in line.split("|"):
        name = part.partition("=")[0].strip()
        if name not in template.holes:
            told = " | ".join(f"{hole} = ..." for hole in template.holes)
            raise UserError(f"{_named(line)} fills no hole of the template; write {told}")
        hole = hole_spec(spec, name)
        meant = read_as_meant(hole, _body(hole, name, part))
        if isinstance(meant.expression, Refusal):
            return meant
        found[name] = meant.expression
    return with_holes(spec, template.seed, found)


def _body(spec: Spec, target: str, line: str) -> str:
    if line.startswith("return ") or f"{spec.params_name}[" in line:
        return line if line.startswith("return ") else f"return {line}"
    right = re.sub(rf"^\s*{re.escape(target)}\s*=(?!=)", "", line).strip().replace("^", "**")
    try:
        tree = ast.parse(right, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{_named(line)} cannot be read: {error}") from None
    constants = _Numbers({*spec.columns, *spec.constants, *_MODULES, *OPS}, spec.params_name)
    try:
        return f"return {ast.unparse(constants.visit(tree))}"
    except RecursionError:
        raise UserError(f"{_named(line)} cannot be read: it is nested too deeply") from None


def _named(line: str) -> str:
    return f"the guess {line if len(line) < 80 else line[:77] + '...'!r}"


class _Numbers(Constants):
    """Decimal numbers are constants too."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return self.param(node) if isinstance(node.value, float) else node
