"""Equations that a user begins from, as people write them, read as bodies of the spec's function."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from llmsr.errors import UserError
from llmsr.expression import Expression
from llmsr.expression.operations import OPS
from llmsr.problem.holes import guessed, hole_spec
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Meant, Spec, read_as_meant
from llmsr.problem.template import Constants

_MODULES = frozenset({"np", "numpy", "math", "torch", "pi", "e"})


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
    texts = {}
    for part in line.split("|"):
        name = part.partition("=")[0].strip()
        if name not in template.holes:
            told = " | ".join(f"{hole} = ..." for hole in template.holes)
            raise UserError(f"{_named(line)} fills no hole of the template; write {told}")
        texts[name] = _body(hole_spec(spec, name), name, part)
    return guessed(spec, texts)


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
