"""What the model sees: the problem's own words and a few earlier equations, worst first."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from llmsr.problem.spec import Spec

INSTRUCTION = "Complete the last function: an equation that fits the data better than the earlier versions."


@dataclass(frozen=True)
class Version:
    """An earlier equation as a prompt shows it; `sample` is its number in the run, 0 for the spec's own."""

    body: str
    score: float
    sample: int | None = None
    params: tuple[float, ...] | None = None


def version_name(spec: Spec, number: int) -> str:
    """The name of the number-th equation of a prompt, for example `equation_v0`."""
    return f"{spec.function_name}_v{number}"


def _header(spec: Spec, number: int) -> str:
    name = version_name(spec, number)
    header = re.sub(rf"\bdef\s+{re.escape(spec.function_name)}\b", f"def {name}", spec.header, count=1)
    if number == 0:
        docstring = spec.docstring
    else:
        docstring = f"Improved version of `{version_name(spec, number - 1)}`."
    return f'{header.rstrip()}\n    """{docstring}"""\n' if docstring else f"{header.rstrip()}\n"


def indent_body(body: str) -> str:
    """The body at four spaces, without empty lines at its ends."""
    return textwrap.indent(textwrap.dedent(body.strip("\n")), "    ").rstrip() + "\n"


def build_prompt(spec: Spec, versions: Sequence[Version], notes: Sequence[str] = ()) -> str:
    """The text that a proposer continues with a function body.

    `versions` come in ascending order of score; `notes` are lines that stand as comments above them. The last
    line is the header of the next version, so that
    what follows is its body, indented by four spaces.
    """
    parts = [f"{INSTRUCTION}\n\n{spec.preface.strip()}\n"]
    if notes:
        parts.append("".join(f"# {note}\n" for note in notes))
    parts += [_header(spec, i) + indent_body(version.body) for i, version in enumerate(versions)]
    parts.append(_header(spec, len(versions)))
    return "\n\n".join(parts)


def version_bodies(spec: Spec, versions: Sequence[Version]) -> dict[str, str]:
    """Name to body of the equations a prompt shows: what a completion may call."""
    return {version_name(spec, i): version.body for i, version in enumerate(versions)}
