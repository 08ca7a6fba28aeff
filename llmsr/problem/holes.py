"""The holes of a spec's template: each as a spec of its own, and bodies read and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmsr.expression import Expression, Refusal
from llmsr.problem.spec import Meant, Spec, read_as_meant, read_body
from llmsr.problem.template import Template


def hole_spec(spec: Spec, name: str) -> Spec:
    """The spec whose equation is what stands in a hole: a function of the hole's arguments."""
    template = _template(spec)
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


def with_hole(spec: Spec, body: str, name: str, inner: Expression) -> str:
    """The body of the template's form with another expression in one of its holes."""
    found = hole_expressions(spec, body)
    assert not isinstance(found, Refusal)
    return _template(spec).body({**found, name: inner})


def hole_expressions(spec: Spec, body: str) -> dict[str, Expression] | Refusal:
    """What stands in the holes of a body; a refusal for another form and for a hole that is none."""
    template = _template(spec)
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
    if isinstance(found, Refusal):
        return Meant(found, body)
    text = _template(spec).body(found)
    return Meant(read_body(spec, text), text)


def read_hole(spec: Spec, meant: Meant, base: str, name: str) -> Meant:
    """The body `base` with what was read for one of its holes; refused where that was."""
    if isinstance(meant.expression, Refusal):
        return meant
    text = with_hole(spec, base, name, meant.expression)
    return Meant(read_body(spec, text), text, meant.repairs)


def guessed(spec: Spec, texts: Mapping[str, str]) -> Meant:
    """The body with these bodies in some of the holes and lines in the others."""
    template = _template(spec)
    found = hole_expressions(spec, template.seed)
    assert not isinstance(found, Refusal)
    for name, text in texts.items():
        meant = read_as_meant(hole_spec(spec, name), text)
        if isinstance(meant.expression, Refusal):
            return meant
        found[name] = meant.expression
    body = template.body(found)
    return Meant(read_body(spec, body), body)


def _template(spec: Spec) -> Template:
    assert spec.template is not None
    return spec.template
