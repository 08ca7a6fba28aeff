"""Hostile bodies are refused, quickly, in little memory, with one readable line."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from attack_bodies import ATTACKS

from llmsr.expression import Refusal, parse

CASES = [
    pytest.param(body, id=f"{name} {i}") for name, bodies in ATTACKS.items() for i, body in enumerate(bodies)
]
KINDS = {"empty", "syntax", "unsupported", "too_large", "constant"}


@pytest.mark.parametrize("body", CASES)
def test_an_attack_is_refused_with_a_reason(body: str) -> None:
    start = time.process_time()
    result = parse(body, ["x", "v"])
    seconds = time.process_time() - start
    assert isinstance(result, Refusal), f"{body[:200]!r} was understood"
    assert result.kind in KINDS
    assert 0 < len(result.reason) < 160
    assert result.reason.isascii()
    assert result.reason.isprintable()
    assert result.line is None or 1 <= result.line <= body.count("\n") + body.count("\r") + 1
    assert seconds < 2.0


def test_no_attack_needs_much_memory() -> None:
    tracemalloc.start()
    for name in (
        "endless and huge loops",
        "memory",
        "large integers and failing arithmetic",
        "parser and characters",
    ):
        for body in ATTACKS[name]:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            parse(body, ["x", "v"])
            assert tracemalloc.get_traced_memory()[1] - before < 64e6, body[:200]
    tracemalloc.stop()


def test_there_are_many_attacks() -> None:
    assert sum(map(len, ATTACKS.values())) >= 120
