"""Random programs with branches, aliases and writes in place are refused, or what Python makes of them."""

from __future__ import annotations

import random
import textwrap

import numpy as np
import pytest

from llmsr.expression import Refusal, evaluate, parse

INPUTS = np.concatenate([np.random.default_rng(0).normal(size=(20, 2)) * 2, [[0, 0], [1, -1], [-2, 0]]])
DRAWS = [np.random.default_rng(seed).normal(size=10) * 1.5 for seed in range(6)]


class Program:
    """One body: arrays a to d beside the columns, conditions on parameters alone."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.arrays = ["x", "v"]
        self.lines: list[str] = []
        for _ in range(self.draw.randrange(3, 9)):
            self.statement(0)
        self.lines.append(f"return {self.array()} + {self.array()}")
        self.text = "\n".join(self.lines) + "\n"

    def number(self) -> str:
        plain = ["2", "0.5", "params[0]", "params[1]"]
        a, b = self.draw.choice(plain), self.draw.choice(plain)
        shapes = [
            a,
            a,
            f"abs({a})",
            f"({a} - {b})",
            f"max({a}, {b})",
            f"({a} if {self.condition()} else {b})",
        ]
        return self.draw.choice(shapes)

    def condition(self) -> str:
        bound = self.draw.choice(["0", "0.5", "params[2]"])
        first = f"params[{self.draw.randrange(4)}] {self.draw.choice('<>')} {bound}"
        return self.draw.choice(
            [first, first, f"not ({first})", f"{first} and params[1] > 0", f"{first} or params[3] < 0"]
        )

    def array(self) -> str:
        a, b = self.draw.choice(self.arrays), self.draw.choice(self.arrays)
        # changing an alias of a column is refused; most programs should not be
        alias = a if a not in "xv" or self.draw.random() < 0.2 else f"({a} * 2)"
        shapes = [
            alias, alias, f"({a} + {b})", f"({a} * {self.number()})", f"{a}.copy()", f"np.asarray({alias})",
            f"({alias} if {self.condition()} else {b})",
            f"np.where({a} > {self.number()}, {b}, {self.number()})",
        ]  # fmt: skip
        return self.draw.choice(shapes)

    def statement(self, depth: int) -> None:
        pad, own = "    " * depth, self.arrays[2:]
        kinds = [self.assign, self.assign, *([self.change, self.write] if own else []), self.listed]
        if depth < 3:
            kinds += [self.branch, self.branch, self.loop]
        if depth == 0:
            kinds.append(self.helper)
        self.draw.choice(kinds)(pad, depth)

    def assign(self, pad: str, depth: int, value: str | None = None) -> None:
        name = self.draw.choice("abcd")
        self.lines.append(f"{pad}{name} = {value or self.array()}")
        if depth == 0 and name not in self.arrays:
            self.arrays.append(name)

    def change(self, pad: str, depth: int) -> None:
        sign = self.draw.choice("+-*")
        self.lines.append(f"{pad}{self.draw.choice(self.arrays[2:])} {sign}= {self.array()}")

    def write(self, pad: str, depth: int) -> None:
        place = f"{self.draw.choice(self.arrays[2:])}[{self.draw.choice(self.arrays)} > {self.number()}]"
        self.lines.append(f"{pad}{place} {self.draw.choice(['=', '+=', '*='])} {self.number()}")

    def listed(self, pad: str, depth: int) -> None:
        self.lines.append(f"{pad}items = [{self.array()}, {self.array()}]")
        self.lines += self.draw.choice([[], [f"{pad}items[0] = items[1]"], [f"{pad}items[1] *= 2"]])
        self.assign(pad, depth, "items[0] - items[1]")

    def branch(self, pad: str, depth: int) -> None:
        for word in ["if " + self.condition(), *self.draw.choice([[], ["else"]])]:
            self.lines.append(f"{pad}{word}:")
            self.statement(depth + 1)
            if self.draw.random() < 0.1:
                self.lines.append(f"{pad}    return {self.array()}")

    def loop(self, pad: str, depth: int) -> None:
        self.lines.append(f"{pad}for i in range({self.draw.randrange(1, 4)}):")
        self.statement(depth + 1)
        self.lines += self.draw.choice([[], [f"{pad}    if i == 1: break"]])

    def helper(self, pad: str, depth: int) -> None:
        self.lines.append("def helper(q):")
        self.lines += self.draw.choice([[], [f"    if {self.condition()}: return q"]])
        self.lines += self.draw.choice([[], ["    q += 1"], ["    q = q + 1"]])
        self.lines.append("    return q")
        self.assign(pad, depth, f"helper({self.array()})")


class Containers(Program):
    """Also lists, dictionaries, iterators, views and functions that change what is outside of them."""

    def statement(self, depth: int) -> None:
        if self.draw.random() > 0.25:
            super().statement(depth)
            return
        pad, a, b, c = "    " * depth, self.array(), self.array(), self.condition()
        own = self.draw.choice(self.arrays[2:] or ["a"])
        kinds = [
            (["items = [{a}, {b}]", "if {c}: items[0] += {a}"], "items[0]"),
            (["items = [{a}, {b}] if {c} else [{b}, {a}]"], "items[0] - items[1]"),
            (["table = {{'p': {a}, 'q': {b}}}", "if {c}: table['p'] = {b}"], "table['p'] - table['q']"),
            (["rest = iter([{a}, {b}, {a}])"], "next(rest) + next(rest)"),
            (
                ["both = np.stack([{a}, {b}])", "if {c}: both[0] = both[1]", "both[1] += {a}"],
                "both[0] * both[1]",
            ),
            ([], "({a} if {c} else {b})"),
        ]
        if own in self.arrays:
            kinds.append((["part = {own}[:]", "part *= 2"], "part"))
        if own in self.arrays and depth == 0:
            outside = [
                "def changing(q):",
                "    if {c}: return q",
                "    {own}[...] = {own} + q",
                "    return {own}",
            ]
            kinds += [(outside, "changing({a})")] * 2
        lines, value = self.draw.choice(kinds)
        self.lines += [pad + line.format(a=a, b=b, c=c, own=own) for line in lines]
        self.assign(pad, depth, value.format(a=a, b=b, c=c))


def by_python(text: str, params: np.ndarray) -> np.ndarray:
    """What the program gives; it may not change its inputs."""
    namespace: dict = {"np": np}
    exec("def equation(x, v, params):\n" + textwrap.indent(text, "    "), namespace)  # this test's own words
    given = [INPUTS[:, 0].copy(), INPUTS[:, 1].copy(), params.copy()]
    with np.errstate(all="ignore"):
        result = namespace["equation"](*given)
    assert np.array_equal(np.column_stack(given[:2]), INPUTS)
    assert np.array_equal(given[2], params)
    return np.asarray(result, dtype=np.float64)


@pytest.mark.parametrize("kind", [Program, Containers])
@pytest.mark.parametrize("part", range(5))
def test_a_random_program_is_refused_or_equals_python(part: int, kind: type[Program]) -> None:
    understood = 0
    for seed in range(part * 300, (part + 1) * 300):
        text = kind(seed).text
        expression = parse(text, ["x", "v"])
        if isinstance(expression, Refusal):
            continue
        understood += 1
        for params in DRAWS:
            found = evaluate(expression, INPUTS, params)
            np.testing.assert_allclose(
                found, by_python(text, params), rtol=1e-9, atol=1e-9, equal_nan=True, err_msg=text
            )
    assert understood >= 150
