"""Reads the LaTeX that `to_latex` writes, as a person would, and computes its value: for tests only."""

from __future__ import annotations

import re

import numpy as np

from llmsr.expression.operations import OPS

_TOKEN = re.compile(r"\\begin\{\w+\}|\\end\{\w+\}|\\\\|\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\S")
_COMPARISONS = {"<": "lt", r"\leq": "le", ">": "gt", r"\geq": "ge", "=": "eq", r"\neq": "ne"}
_FUNCTIONS = {
    rf"\{f}": f for f in ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")
}
_FUNCTIONS |= {r"\min": "minimum", r"\max": "maximum", r"\Gamma": "gamma", r"\psi": "digamma", r"\exp": "exp"}
_OPERATORS = {"sgn": "sign", "atan2": "arctan2"}


class LatexReader:
    """A recursive descent over the tokens; `names` gives the values of symbols such as `x` and `p_{0}`."""

    def __init__(self, text: str, names: dict[str, np.ndarray]) -> None:
        self.tokens = _TOKEN.findall(text)
        self.names = dict(names)
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        assert not expected or token in expected, (
            f"{token!r} instead of {expected} at {self.tokens[self.at - 8 : self.at + 8]}"
        )
        self.at += 1
        return token

    def took(self, *tokens: str) -> str:
        return self.take() if self.peek() in tokens else ""

    def value(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            if self.took(r"\begin{aligned}"):
                while self.peek() != "&":
                    name = self.symbol()
                    self.take("&")
                    self.take("=")
                    self.names[name] = self.whole()
                    self.take(r"\\")
                self.take("&")
                result = self.whole()
                self.take(r"\end{aligned}")
            else:
                result = self.whole()
        assert not self.peek(), self.tokens[self.at :]
        return result

    def group(self):
        self.take("{")
        value = self.whole()
        self.take("}")
        return value

    def whole(self):
        a = self.conjunction()
        while token := self.took(r"\lor", r"\oplus"):
            a = OPS["or" if token == r"\lor" else "xor"].kernel(a, self.conjunction())
        return a

    def conjunction(self):
        a = self.comparison()
        while self.took(r"\land"):
            a = OPS["and"].kernel(a, self.comparison())
        return a

    def comparison(self):
        if self.took(r"\lnot"):
            return OPS["not"].kernel(self.atom())
        a = self.sum()
        if self.took(r"\bmod"):
            return np.mod(a, self.product())
        while self.peek() in _COMPARISONS:
            a = OPS[_COMPARISONS[self.take()]].kernel(a, self.sum())
        return a

    def sum(self):
        a = -self.product() if self.took("-") else self.product()
        while token := self.took("+", "-"):
            b = self.product()
            a = a + b if token == "+" else a - b
        return a

    def product(self):
        a = self.power()
        while self.took(r"\,", r"\cdot"):
            a = a * self.power()
        return a

    def power(self):
        if self.peek() == "e" and self.peek(1) == "^":
            self.at += 2
            return np.exp(self.group())
        a = self.atom()
        return np.power(np.float64(a), self.group()) if self.took("^") else a

    def symbol(self) -> str:
        name = self.take()
        if self.took("_"):
            self.take("{")
            name += f"_{{{self.take()}}}"
            self.take("}")
        return name

    def arguments(self):
        self.take(r"\left")
        self.take("(")
        values = [self.whole()]
        while self.took(","):
            values.append(self.whole())
        self.take(r"\right")
        self.take(")")
        return values

    def atom(self):
        token = self.peek()
        if token[0].isdigit():
            return np.float64(self.take())
        if token == r"\infty":
            self.take()
            return np.float64(np.inf)
        if token == r"\frac":
            self.take()
            a = self.group()
            return np.divide(np.float64(a), self.group())
        if token == r"\sqrt":
            self.take()
            if self.took("["):
                self.take("3")
                self.take("]")
                return np.cbrt(self.group())
            return np.sqrt(self.group())
        if token == r"\left":
            self.take()
            kind = self.take("(", "|", "[", r"\lfloor", r"\lceil")
            a = self.whole()
            self.take(r"\right")
            self.take({"(": ")", "[": "]", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}[kind])
            rules = {"|": np.abs, r"\lfloor": np.floor, r"\lceil": np.ceil}
            return rules[kind](a) if kind in rules else a
        if token == r"\begin{cases}":
            self.take()
            yes = self.whole()
            for word in ("&", r"\text", "{", "i", "f", "}"):
                self.take(word)
            condition = self.whole()
            self.take(r"\\")
            no = self.whole()
            for word in ("&", r"\text", "{", *"otherwise", "}", r"\end{cases}"):
                self.take(word)
            return np.where(condition != 0, yes, no)
        if token in (r"\operatorname", r"\log", *_FUNCTIONS):
            return self.function()
        if token == r"\mathrm":  # the number nan
            self.at += 6
            return np.float64(np.nan)
        return self.names[self.symbol()]

    def function(self):
        token = self.take()
        if token == r"\operatorname":
            self.take("{")
            name = ""
            while self.peek() != "}":
                name += self.take()
            self.take("}")
            op = _OPERATORS.get(name, name)
        elif token == r"\log":
            op = "gammaln" if self.took(r"\Gamma") else "log"
            if self.took("_"):
                self.take("{")
                op += self.take()
                self.take("}")
        else:
            op = _FUNCTIONS[token]
        exponent = self.group() if self.took("^") else None
        result = OPS[op].kernel(*self.arguments())
        return result if exponent is None else np.power(result, exponent)
