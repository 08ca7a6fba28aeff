"""report.html: nothing from the network, nothing of a model unescaped, small, quick, and fit for a phone."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from random import Random

import pytest
from report_cases import make_problem, make_sample

from llmsr.expression.printing import to_mathml
from llmsr.report.chart import Series, chart
from llmsr.report.comparison import comparison_page
from llmsr.report.runs import Outputs, Recorded
from llmsr.sample import Evaluation, Sample
from llmsr.search.totals import Totals

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><img src=x onerror="document.title=1">\x1b]0;title\x07&amp;<b>=1+1'
BODIES = [
    ("return params[0]*x", [0.7]),
    ("return params[0]*np.sin(x) + params[1]*v", [0.8, -0.3]),
    ("return params[0]*np.sin(x) - params[1]*v**3 + params[2]*x*v", [0.8, 0.5, 1.5707]),
    (
        "return np.where(x > 0, params[0]*x/(params[1] + v**2), params[2])*np.exp(-np.abs(t)/params[0])",
        [1, 2, 3],
    ),
]


def samples(problem, count, training=False):
    """A run of `count` samples: four equations, many that are worse, failures of every kind."""
    random = Random(4)
    base = [make_sample(problem, body, params) for body, params in BODIES]
    made = []
    for number in range(1, count + 1):
        given = {"elapsed": number * 0.25, "tokens": 40, "seconds": 0.2, "island": number % 10}
        if training:
            given |= {"step": (number - 1) // 64 + 1, "reward": random.random(), "island": None}
        if random.random() < 0.2:
            status = random.choice(["syntax", "unsupported", "timeout", "nonfinite"])
            evaluation = Evaluation(status=status, reason=f"{HOSTILE} {random.randint(1, 5000)}")
        else:
            known = random.choice(base).evaluation
            factor = math.exp(random.random() * 9) if number > 20 else 1.0
            evaluation = Evaluation(
                **{
                    **known.__dict__,
                    "canonical": f"{random.getrandbits(40):x}",
                    "complexity": known.complexity + (random.randint(0, 40) if number > 20 else 0),
                    "train_mse": known.train_mse * factor,
                    "score": -known.train_mse * factor,
                    "nmse": {k: v * factor for k, v in known.nmse.items()},
                }
            )
        made.append(Sample(number, HOSTILE, evaluation, **given))
    return made


def written(directory, count=300, training=False, note=""):
    problem = make_problem(note=note)
    settings = {"problem_name": "mine", "search": HOSTILE, "api_key": "sk-very-secret", "seed": 0}
    outputs = Outputs(directory, problem, settings, mode="grpo" if training else "search")
    for sample in samples(problem, count, training):
        outputs.add(sample)
    outputs.finish()
    return (directory / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags, and the addresses that they name."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.faults, self.addresses = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "action", "data", "poster")]
        self.faults += [f"{tag} {k}" for k, _ in attributes if k.startswith("on")]
        if tag not in ("meta", "br", "img", "link", "input", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def test_the_page_is_whole_escaped_and_asks_nothing_of_the_network(tmp_path):
    text = written(tmp_path, note="a <i>stand-in</i>")
    page = Reader(text)
    assert page.faults == []
    assert page.open == []
    assert page.addresses == []
    assert not {"img", "iframe", "link", "object", "b>", "i>"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "\x1b" not in text
    assert "very-secret" not in text
    assert "default-src 'none'" in text


def test_it_shows_what_was_promised(tmp_path):
    text = written(tmp_path)
    for heading in (
        "Best equation",
        "Accuracy against size",
        "Fit",
        "Progress",
        "What became",
        "Islands",
        "Cost",
    ):
        assert f"<h2>{heading}" in text
    assert "<h2>Training" not in text
    assert "Best so far over seconds" in text


def test_a_training_run_shows_reward_and_validity(tmp_path):
    text = written(tmp_path, training=True)
    assert "<h2>Training" in text
    assert "Validity" in text
    assert "<h2>Islands" not in text


def test_a_run_without_a_valid_sample_has_a_page_too(tmp_path):
    outputs = Outputs(tmp_path, make_problem(), {})
    sample = Sample(1, "", Evaluation(status="syntax", reason="no"))
    outputs.add(sample)
    assert outputs.finish()["pick"] is None
    assert "No valid equation yet" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "best_equation.py").exists()


def test_ten_thousand_samples_make_a_small_page(tmp_path):
    assert len(written(tmp_path, 10_000).encode()) < 5_000_000


def test_refreshes_are_rare_and_come_with_new_members(tmp_path):
    problem = make_problem()
    outputs = Outputs(tmp_path, problem, {}, every_seconds=0.0)
    totals = Totals()
    written_at = []
    for sample in samples(problem, 60):
        totals.add(sample)
        before = len(outputs.front.members)
        outputs(sample, totals)
        if (tmp_path / "result.json").exists():
            found = json.loads((tmp_path / "result.json").read_text())
            if not written_at or found["samples"] != written_at[-1]:
                written_at.append(found["samples"])
                assert not found["finished"]
                assert len(outputs.front.members) >= before
    assert written_at
    assert len(written_at) < 10


def test_a_fault_of_the_report_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    outputs = Outputs(tmp_path, make_problem(), {})
    sample = make_sample(outputs.problem, *BODIES[0])
    outputs.add(sample)
    monkeypatch.setattr("llmsr.report.pages.report_page", lambda *args: 1 / 0)
    assert outputs.finish()["best"]["sample"] == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert json.loads((tmp_path / "result.json").read_text())["best"]["sample"] == 1


@pytest.mark.parametrize("log", [False, True])
def test_charts_take_any_numbers(log):
    wild = [0.0, -1.0, 1e-320, 1e-300, 1e300, math.inf, -math.inf, math.nan, 5.0, 5.0]
    for values in ([], [0.0], [math.nan], [1e308, -1e308], [7.0] * 3, wild):
        drawing = chart([Series("a", list(enumerate(values)), 1, "step")], "x", "y", log_y=log)
        assert "nan" not in drawing
        assert "inf" not in drawing.replace("info", "")
    drawing = chart(
        [Series("<b>", [(1, 1), (2, 2)], 1, "mark", ["<i>", '"']), Series("c", [(1, 2)])], "<x>", "&"
    )
    assert Reader(drawing).faults == []
    assert "<b>" not in drawing
    assert "<i>" not in drawing


def test_an_outermost_sum_may_break_between_its_terms():
    problem = make_problem()
    from llmsr.expression import parse

    def terms(body):
        return to_mathml("a", parse(body, problem.spec.columns))

    assert len(terms("return x + params[0]*(v - t) - np.sin(x + 1)")) == 3
    assert len(terms("return (x + v)*(t - 1)")) == 1
    assert len(terms("return -x")) == 1
    for markup in terms("return np.where(x < 1, v**0.5, np.log10(t)/x)**2 - (x > v)"):
        assert Reader(markup).faults == []
        assert Reader(markup).open == []


def chromium(page, profile, *flags):
    """(the page's document at the end, what was said on its console)"""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={profile}", *flags, page,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, told = process.communicate(timeout=60)
        return out, [line for line in told.splitlines() if ":CONSOLE" in line]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# a frame of the page's width, since a headless window cannot be as narrow as a phone
PROBE = """<!doctype html><title>wait</title><iframe id="f"></iframe><script>
var f = document.getElementById("f"), began = performance.now();
f.style.cssText = "width:WIDTHpx;height:900px;border:0";
f.onload = function () {
  var w = f.contentWindow, d = f.contentDocument.documentElement;
  d.querySelectorAll("details").forEach(function (e) { e.open = true; });
  var boxes = Array.from(d.querySelectorAll("figure, section, table, svg, .equation"));
  var most = Math.max.apply(null, boxes.map(
    function (e) { return e.closest(".scroll, pre") ? 0 : e.getBoundingClientRect().right; }));
  document.title = JSON.stringify({wide: d.scrollWidth, most: Math.round(most), ms: performance.now() - began,
    loaded: w.performance.getEntriesByType("resource").length, title: f.contentDocument.title,
    sections: d.querySelectorAll("section").length, math: d.querySelectorAll("math").length});
};
f.src = "report.html";
</script>"""


def seen(directory, width):
    """What a browser of this width finds in report.html, and its console."""
    (directory / "probe.html").write_text(PROBE.replace("WIDTH", str(width)))
    page, console = chromium(
        f"file://{directory}/probe.html", directory / "profile", "--allow-file-access-from-files",
        "--virtual-time-budget=20000", "--window-size=1400,1000", "--dump-dom",
    )  # fmt: skip
    title = re.search(r"<title>(\{.*?\})</title>", page)
    assert title, page[:300]
    return json.loads(title[1].replace("&quot;", '"')), console


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["search", "training", "comparison"])
def test_a_browser_shows_it_quickly_and_nothing_sticks_out(tmp_path, kind, width):
    written(tmp_path, 10_000 if kind == "search" else 2_000, training=kind == "training")
    if kind == "comparison":
        problem = make_problem()
        runs = [
            Recorded(
                tmp_path / name, tmp_path / name, "search", {"seed": i}, problem.name, samples(problem, 900)
            )
            for i, name in enumerate(("a", "a-longer-name-of-a-run"))
        ]
        compared = [replace(run, name=run.directory.name) for run in runs]
        (tmp_path / "report.html").write_text(comparison_page(compared), encoding="utf-8")
    found, console = seen(tmp_path, width)
    assert found["wide"] <= width
    assert found["most"] <= width
    assert console == []
    assert found["loaded"] == 0
    assert found["ms"] < 2000
    assert found["sections"] >= (2 if kind == "comparison" else 6)
    assert found["math"] >= (0 if kind == "comparison" else 3)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_browser_tests_would_notice(tmp_path):
    bad = "<!doctype html><section style='width:2000px'>x</section><script>nope()</script>"
    bad += "<img src='http://127.0.0.1:9/missing.png'>"
    (tmp_path / "report.html").write_text(bad)
    found, console = seen(tmp_path, 390)
    assert found["wide"] > 390
    assert found["most"] > 390
    assert found["loaded"] > 0
    assert any("nope" in line for line in console)
