"""Coverage-guided fuzzing of what reads a model's text: `python tests/fuzz/fuzz_text.py -max_total_time=60`.

Needs atheris (`pip install atheris`). A finding is an exception, a text that takes more than its seconds, an
expression without an input, or a refusal that is no readable line; libFuzzer writes it to a file. All other
flags are libFuzzer's; a folder given as argument keeps the corpus.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

SLOW_SECONDS = 10.0  # what a worker gives to reading a text
COLUMNS = ("x", "v")


def check_text(text: str) -> str:
    """What became of a text: "ok" or the kind of its failure; AssertionError for a broken promise."""
    from llmsr.completion import NoBody, read_completion
    from llmsr.expression import Refusal, parse
    from llmsr.expression.canonical import canonicalize
    from llmsr.expression.graph import complexity
    from llmsr.expression.printing import to_latex, to_text

    began = time.monotonic()
    found = read_completion(text)
    if isinstance(found, NoBody):
        kind = found.kind
    else:
        parsed = parse(found.text, COLUMNS)
        if isinstance(parsed, Refusal):
            assert parsed.reason
            assert parsed.reason.isascii()
            assert parsed.reason.isprintable()
            assert len(parsed.reason) < 160
            kind = parsed.kind
        else:
            assert parsed.inputs
            assert complexity(parsed) >= 1
            form = canonicalize(parsed).expression
            assert to_text(form, None).isprintable()
            assert to_latex(form, None).isprintable()
            kind = "ok"
    assert time.monotonic() - began < SLOW_SECONDS, "too slow"
    return kind


def text_of(data: bytes) -> str:
    """Some bytes as a text: lone surrogates as they are, else U+FFFD for what is not UTF-8."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def main() -> None:
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["llmsr", "ast"]):
        pass

    from attack_bodies import ATTACKS
    from replays import completions

    with tempfile.TemporaryDirectory() as corpus:
        known = [*(body for bodies in ATTACKS.values() for body in bodies), *completions(50)]
        for number, body in enumerate(known):
            (Path(corpus) / str(number)).write_bytes(body[:4000].encode("utf-8", "surrogatepass"))
        atheris.Setup([*sys.argv, corpus], lambda data: check_text(text_of(data)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
