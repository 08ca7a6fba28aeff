"""`score` under attack: every line is answered, in order, by a parent that stays alive and small."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_texts import hostile_lines

from llmsr.cli import score
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.sample import STATUSES

ROOT = Path(__file__).parents[2]


def strict(line):
    def refuse(word):
        raise ValueError(word)

    return json.loads(line, parse_constant=refuse)


@pytest.fixture(scope="module")
def evaluator():
    with Evaluator(load_problem("oscillator1"), fit_timeout=2.0, workers=2) as evaluator:
        yield evaluator


def answers(evaluator, raw: bytes) -> list[dict]:
    lines = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="replace", newline="\n")
    written = io.StringIO()
    for record in score.score_lines(evaluator, lines):
        score._write(written, record, "memory")
    return [strict(line) for line in written.getvalue().splitlines()]


@pytest.mark.slow
def test_hundreds_of_hostile_lines_are_answered_in_order_and_none_has_a_false_score(tmp_path):
    given = list(hostile_lines(480, seed=3))
    (tmp_path / "in").write_bytes(b"".join(line for line, _ in given))
    command = [sys.executable, "-m", "llmsr", "score", "--workers", "2", "--fit_timeout", "2"]
    done = subprocess.run(
        [*command, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout == ""
    found = [strict(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [record["id"] for record in found] == [wanted for _, wanted in given]
    for record in found:
        assert record["status"] in STATUSES
        assert record["reason"].isprintable()
        assert record["status"] not in ("crash", "error"), record
        if record["status"] == "ok":  # an honest part of a mutant may be fitted, but no trick is this good
            assert record["nmse"]["train"] > 1e-9, record
    assert not Path("/tmp/owned").exists()


def test_lines_that_are_no_records_are_failures_of_their_own(evaluator):
    raw = (
        b'\xef\xbb\xbf{"id": "first", "body": "return params[0]*x"}\r\n'
        b"\n   \n"
        b'{"id": "\\ud800", "body": "\\udfff"}\n'
        b'{"id": [NaN], "body": 1}\n'
        b'{"id": 1e999, "body": "return"}\n'
        b"not\rjson\n"
        b'{"id": "bytes", "body": "return params[0]*x # \xff\xfe"}\n'
        + b'{"id": '
        + b"9" * 5000
        + b', "body": "return x"}\n'
        + b'{"id": "last", "body": "return params[0]*x"}'
    )
    found = answers(evaluator, raw)
    ids = [record["id"] for record in found]
    assert ids == ["first", "\ud800", None, None, None, "bytes", None, "last"]
    statuses = [record["status"] for record in found]
    assert [statuses[i] for i in (0, 5, 7)] == ["ok"] * 3
    assert {statuses[i] for i in (1, 2, 3, 4, 6)} <= {"syntax", "empty", "unsupported"}


def test_ids_of_any_kind_come_back(evaluator):
    deep = "[" * 900 + "]" * 900
    ids = ["[1, {}]", '{"a": null}', '"' + "i" * 3_000_000 + '"', "-0.0", '"\\u0000\\u202e"', "true", deep]
    found = answers(evaluator, "".join(f'{{"body": "", "id": {one}}}\n' for one in ids).encode())
    assert [record["id"] for record in found[:-1]] == [json.loads(one) for one in ids[:-1]]
    assert len(found) == len(ids)


def test_the_depth_at_which_json_gives_up_makes_no_difference(evaluator):
    lines = [f'{{"id": {"[" * depth}{"]" * depth}, "body": ""}}\n' for depth in range(900, 1100, 7)]
    found = answers(evaluator, "".join(lines).encode())
    assert len(found) == len(lines)


HUGE = {
    "a body": b'{"id": 7, "body": "' + b"x" * 50_000_000 + b'"}',
    "brackets in a body": b'{"id": 7, "body": "' + b"[," * 25_000_000 + b'"}',
    "backslashes": b'{"id": 7, "body": "' + b"\\\\" * 25_000_000 + b'"}',
    "lists": b'{"id": [' + b"[]," * 17_000_000 + b'[]], "body": ""}',
    "nesting": b'{"id": ' + b"[" * 50_000_000,
    "a number": b'{"id": ' + b"1" * 50_000_000 + b"}",
    "an open string": b'{"id": 7, "body": "' + b"x" * 50_000_000,
    "nothing": b" " * 50_000_000 + b"1",
    "beyond the limit": b"x" * (score.MAX_LINE + 50),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_line_of_fifty_megabytes_is_one_answer_in_bounded_memory(evaluator, kind):
    import tracemalloc

    honest = b'{"id": "after", "body": "return params[0]*x"}\n'
    raw = HUGE[kind] + b"\n" + honest
    lines = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="replace", newline="\n")
    tracemalloc.start()
    found = list(score.score_lines(evaluator, lines))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record["id"] for record in found[1:]] == ["after"]
    assert found[1]["status"] == "ok"
    assert found[0]["status"] in ("too_large", "syntax", "empty")
    assert found[0]["id"] == (7 if kind in ("a body", "brackets in a body", "backslashes") else None)
    assert peak < 8 * len(raw)


def test_a_flood_of_large_lines_does_not_pile_up(evaluator):
    import tracemalloc

    line = memoryview(b'{"id": 7, "body": "' + b"x" * 20_000_000 + b'"}\n')

    class Flood(io.RawIOBase):
        position = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            start = self.position % len(line)
            piece = line[start : start + len(buffer)] if self.position < 20 * len(line) else b""
            buffer[: len(piece)] = piece
            self.position += len(piece)
            return len(piece)

    lines = io.TextIOWrapper(io.BufferedReader(Flood()), encoding="utf-8", newline="\n")
    tracemalloc.start()
    found = [record["id"] for record in score.score_lines(evaluator, lines)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [7] * 20
    assert peak < 300e6


def test_standard_input_that_is_no_utf8_is_read_and_a_full_output_is_a_sentence():
    command = [sys.executable, "-m", "llmsr", "score", "--workers", "1"]
    raw = b'\xff{"id": 1}\n{"id": 2, "body": "\xff"}\n'
    done = subprocess.run(command, cwd=ROOT, input=raw, capture_output=True, timeout=120)
    assert done.returncode == 0
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [None, 2]
    full = subprocess.run(
        [*command, "--output", "/dev/full"], cwd=ROOT, input=raw, capture_output=True, timeout=120
    )
    assert full.returncode == 2
    assert full.stderr.decode().startswith("llmsr: cannot write /dev/full")
    assert b"Traceback" not in full.stderr


@pytest.mark.parametrize("link", ["none", "symbolic", "hard"])
def test_the_input_is_never_overwritten_by_the_output(tmp_path, link):
    source, target = tmp_path / "bodies.jsonl", tmp_path / "scores.jsonl"
    source.write_text('{"id": 1, "body": "return x"}\n')
    if link == "none":
        target = source
    elif link == "symbolic":
        target.symlink_to(source)
    else:
        target.hardlink_to(source)
    with pytest.raises(UserError, match="is the input itself"):
        score.score.main(["--input", str(source), "--output", str(target)])
    assert source.read_text() == '{"id": 1, "body": "return x"}\n'
