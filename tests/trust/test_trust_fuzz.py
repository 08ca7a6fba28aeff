"""Fuzzing of what reads a model's text: random, then guided by coverage where atheris is installed."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_texts import CLASSES, hostile_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE / "fuzz"))

from fuzz_text import check_text, text_of  # noqa: E402

TOKENS = st.sampled_from(
    [
        "x",
        "v",
        "params",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "0",
        "1",
        "2",
        "-1",
        "1e308",
        "+",
        "-",
        "*",
        "/",
        "**",
        "%",
        "//",
        "<",
        "==",
        ",",
        ".",
        ":",
        "=",
        ":=",
        "\n",
        "\n\n",
        "return",
        "def",
        "lambda",
        "for",
        "in",
        "if",
        "else",
        "while",
        "not",
        "and",
        "or",
        "np.",
        "np.sin",
        "np.where",
        "math.",
        "exp",
        "equation",
        "```",
        "<think>",
        "</think>",
        "'",
        '"',
        "#",
        "\\",
        "\t",
        "\x00",
        "\u202e",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TOKENS, max_size=80), st.sampled_from(["", " "]))
def test_any_sequence_of_tokens_is_understood_or_refused_readably(tokens, between):
    check_text("    return " + between.join(tokens))
    check_text(between.join(tokens))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_understood_or_refused_readably(text):
    check_text(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_of_the_fuzzer_are_a_text(data):
    check_text(text_of(data))


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xed\xa0\x80x", "\ud800x"), (b"\xed   f = x", "\ufffd   f = x"), (b"x\xff\xce\xb1", "x\ufffdα")],
)
def test_lone_surrogates_reach_the_reader_and_other_broken_bytes_do_not_stop_the_fuzzer(data, text):
    assert text_of(data) == text


@pytest.mark.parametrize("name", CLASSES)
def test_hostile_texts_are_understood_or_refused_readably(name):
    draw = random.Random(name)
    for _ in range(12):
        check_text(CLASSES[name](draw))


def test_the_generator_of_hostile_texts_is_deterministic():
    assert list(hostile_texts(50, seed=4)) == list(hostile_texts(50, seed=4))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_coverage_guided_fuzzing_finds_nothing_in_twenty_seconds(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "fuzz" / "fuzz_text.py"),
            "-max_total_time=20",
            "-rss_limit_mb=3000",
            "-timeout=30",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
