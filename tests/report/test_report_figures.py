"""Figures for a paper: whole files of every format, equal for equal runs, one sentence where none can be."""

import sys

import pytest
from report_cases import make_problem, make_sample
from test_report_page import BODIES, samples

from llmsr.errors import UserError
from llmsr.report.figures import FIGURES, FORMATS, write_figures
from llmsr.report.runs import Outputs

BEGINNINGS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


def outputs(directory, taken):
    made = Outputs(directory, make_problem(), {})
    for sample in taken:
        made.add(sample)
    return made


def test_every_figure_in_every_format_and_equal_for_equal_runs(tmp_path):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    run = outputs(tmp_path, samples(make_problem(), 120))
    written = write_figures(run, tmp_path / "a")
    assert [path.name for path in written] == [f"{name}.{kind}" for name in FIGURES for kind in FORMATS]
    for path in written:
        content = path.read_bytes()
        assert content.startswith(BEGINNINGS[path.suffix[1:]])
        assert len(content) > 3000, path
    again = write_figures(run, tmp_path / "b", ("svg", "pdf"))
    for path in again:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    text = (tmp_path / "a" / "prediction.svg").read_text()
    assert "a, predicted" in text
    assert "test_ood" in text


def test_what_cannot_be_drawn_is_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    problem = make_problem()
    with pytest.raises(UserError, match="no valid equation yet"):
        write_figures(outputs(tmp_path, []), tmp_path)
    run = outputs(tmp_path, [make_sample(problem, *BODIES[0])])
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_figures(run, tmp_path / "taken")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"llmsr\[report\]"):
        write_figures(run, tmp_path)
