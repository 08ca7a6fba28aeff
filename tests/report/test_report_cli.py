"""The verbs about runs: what they print, and one clear sentence for what cannot be."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from replays import completions, write_replay
from report_cases import write_text

from llmsr.cli import main
from llmsr.cli.run import main as run
from llmsr.report.runs import read_run

ROOT = Path(__file__).parents[2]
SAMPLES = 16
# every completion is asked for, and records are there to be refined
ALONE = ("--structure_seconds", "0", "--stop_at_floor", "false")
FILES = ("result.json", "equations.csv", "best_equation.py", "best_equation.tex", "report.html")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short searches."""
    base = tmp_path_factory.mktemp("runs")
    texts = write_replay(base / "texts.jsonl", completions(SAMPLES))
    for seed in (0, 1):
        argv = [
            "--replay_path",
            str(texts),
            "--budget",
            str(SAMPLES),
            "--workers",
            "1",
            "--sample_files",
            "false",
        ]
        argv += [*ALONE, "--refine_fits", "8", "--seed", str(seed), "--log_path", str(base / f"seed{seed}")]
        assert run(argv) == 0
    return base


def test_a_search_leaves_all_files(runs):
    for name in FILES:
        assert (runs / "seed0" / name).stat().st_size > 100, name
    result = json.loads((runs / "seed0" / "result.json").read_text())
    assert result["finished"]
    assert result["best"]["sample"] in [entry["sample"] for entry in result["front"]]
    assert result["pick"] in result["front"]
    assert result["seconds"] > 0


def test_refinements_are_told_apart_and_one_line_is_marked(tmp_path, capsys):
    texts = write_replay(tmp_path / "texts.jsonl", completions(24))
    argv = ["--replay_path", str(texts), "--budget", "24", "--workers", "1", "--sample_files", "false"]
    assert run([*argv, *ALONE, "--refine", "run", "--log_path", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert sum(line.startswith(">") for line in out.splitlines()) == 1
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    refined = [entry["sample"] for entry in result["front"] if entry["proposer"] == "refine"]
    assert refined
    for number in refined:
        assert re.search(rf"^[> ] \d+ .* r{number}  a = ", out, re.MULTILINE)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('class="badge refined"') == len(refined)
    assert "train, without refinements" in page


def test_report_writes_the_same_files_again(runs, capsys):
    before = {name: (runs / "seed1" / name).read_text() for name in FILES}
    for name in FILES:
        (runs / "seed1" / name).unlink()
    assert main(["report", str(runs / "seed1")]) == 0
    assert "best equation (sample" in capsys.readouterr().out
    for name in FILES:
        assert (runs / "seed1" / name).read_text() == before[name], name


def test_show_marks_the_pick_and_writes_nothing(runs, capsys):
    stamps = {p: p.stat().st_mtime_ns for p in (runs / "seed0").iterdir()}
    assert main(["show", str(runs / "seed0")]) == 0
    out = capsys.readouterr().out
    assert sum(line.startswith(">") for line in out.splitlines()) == 1
    assert "errors (NMSE: mean squared error" in out
    assert re.search(r"^  rows +NMSE +R2 +RMSE +NMSE, rounded$", out, re.MULTILINE)
    assert stamps == {p: p.stat().st_mtime_ns for p in (runs / "seed0").iterdir()}
    assert main(["show", str(runs / "seed0"), "--json", "--select", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pick"] == result["front"][0]
    for split, error in result["pick"]["nmse"].items():
        assert result["pick"]["r2"][split] == 1 - error
    assert main(["show", str(runs / "seed0"), "--form", "c"]) == 0
    assert "double equation(double x, double v)" in capsys.readouterr().out
    assert main(["show", str(runs / "seed0"), "--form", "latex_table"]) == 0
    assert r"\toprule" in capsys.readouterr().out


def test_runs_is_a_table_of_searches_and_training_runs(runs, tmp_path, capsys):
    training = tmp_path / "all" / "grpo"
    settings = {
        "problem_name": "oscillator1",
        "learning_rate": 1e-6,
        "batch_size": 4,
        "rollout_n": 8,
        "epochs": 2,
    }
    write_text(training / "run.json", json.dumps({"settings": settings, "trainer": "local"}))
    archived = (runs / "seed0" / "archive" / "search.jsonl").read_text().splitlines()
    records = [json.loads(line) | {"proposer": "policy", "step": 1, "reward": 0.5} for line in archived[:10]]
    records += [json.loads(archived[11]) | {"kind": "validation", "proposer": "validation", "number": 11}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    write_text(training / "archive" / "reward-host-1.jsonl", lines)
    (tmp_path / "all" / "seed0").symlink_to(runs / "seed0")
    (tmp_path / "all" / "broken" / "archive").mkdir(parents=True)
    assert main(["runs", str(training.parent)]) == 0
    captured = capsys.readouterr()
    assert "1e-06" in captured.out
    assert "rollout_n" in captured.out
    assert "broken" in captured.err
    assert main(["runs", str(runs), "--json", "--sort", "train"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["samples"] for row in rows] == [SAMPLES] * 2
    assert len(read_run(training)[0].samples) == 10  # answers to validation prompts are not counted


def test_a_sweep_is_one_table_of_what_show_picks_and_of_settings_that_differ(runs, tmp_path, capsys):
    for name, islands in (("b/few", 3), ("a/many", 10)):
        shutil.copytree(runs / "seed0", tmp_path / name)
        config = tmp_path / name / "config.yaml"
        config.write_text(re.sub(r"^islands: .*$", f"islands: {islands}", config.read_text(), flags=re.M))
    assert main(["runs", str(tmp_path), "--json", "--sort", "islands"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["islands"]) for row in rows] == [("b/few", 3), ("a/many", 10)]
    assert main(["show", str(runs / "seed0"), "--json"]) == 0
    pick = json.loads(capsys.readouterr().out)["pick"]
    for row in rows:
        assert row["equation"] == pick["rounded"]["equation"]
        assert {split: row[f"nmse_{split}"] for split in pick["nmse"]} == pick["nmse"]
    assert main(["runs", str(tmp_path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert "islands" in head.split()
    assert [line.split()[0] for line in lines] == ["a/many", "b/few"]
    assert all(line.endswith(pick["rounded"]["equation"]) for line in lines)
    assert main(["runs", str(tmp_path), "--sort", "temprature"]) == 2
    assert "there is no such column" in capsys.readouterr().err


def test_compare_prints_figures_and_writes_one_page(runs, tmp_path, capsys):
    page = tmp_path / "compare.html"
    assert main(["compare", str(runs / "seed0"), str(runs / "seed1"), "--output", str(page)]) == 0
    assert "seed1" in capsys.readouterr().out
    text = page.read_text()
    assert "over tokens" in text
    assert "over seconds" in text
    assert "http" not in text.replace("http-equiv", "")


def test_predict_matches_columns_by_name_or_order(runs, tmp_path, capsys):
    by_name = write_text(tmp_path / "name.csv", "note,v,x\nfirst,0.5,0.25\nsecond,-0.5,1.0\n")
    by_order = write_text(tmp_path / "order.csv", "p,q\n0.25,0.5\n1.0,-0.5\n")
    bare = write_text(tmp_path / "bare.csv", "0.25,0.5\n1.0,-0.5\n")
    found = []
    for path in (by_name, by_order, bare):
        assert main(["predict", str(runs / "seed0"), "--csv", str(path)]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        found.append([float(row["a_predicted"]) for row in rows])
    assert found[0] == found[1] == found[2]
    out = tmp_path / "out.csv"
    assert main(["predict", str(runs / "seed0"), "--csv", str(by_name), "--output", str(out)]) == 0
    assert out.read_text().startswith("note,v,x,a_predicted\nfirst,0.5,0.25,")
    program = "import best_equation as b; print(b.equation(0.25, 0.5))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=runs / "seed0", capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(found[0][0], rel=1e-12)


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "empty"), ("x,v\n", "no rows"), ("x,w\n1,2\n", "no column v"), ("x,v\n1,two\n", "line 2"),
     ("x,v\n1\n", "line 2"), ("1\n2\n", "columns"), ("x,v\n\n1,2\n1,2,3\n", "line 4 has 3 values"),
     ("x,v,note\n1,2\n", "line 2 has 2 values"), ("x (m),x [s],v\n1,2,3\n", "no column x")],
)  # fmt: skip
def test_predict_says_what_is_wrong_with_the_table(runs, tmp_path, capsys, content, word):
    path = write_text(tmp_path / "bad.csv", content)
    out = tmp_path / "out.csv"
    assert main(["predict", str(runs / "seed0"), "--csv", str(path), "--output", str(out)]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == [path]


def test_predict_reads_what_new_reads(runs, tmp_path, capsys):
    plain = write_text(tmp_path / "plain.csv", "note,v,x\nfirst,0.5,0.25\n")
    labelled = write_text(tmp_path / "labelled.csv", "note;v (m/s);x [m]\nfirst;0.5;0.25\n")
    assert main(["predict", str(runs / "seed0"), "--csv", str(plain)]) == 0
    value = capsys.readouterr().out.splitlines()[1].split(",")[-1]
    assert main(["predict", str(runs / "seed0"), "--csv", str(labelled)]) == 0
    assert capsys.readouterr().out == f"note;v (m/s);x [m];a_predicted\nfirst;0.5;0.25;{value}\n"


def test_predict_reads_comments_units_decimal_commas_and_a_missing_value(runs, tmp_path, capsys):
    plain = write_text(tmp_path / "plain.csv", "v,x\n0.5,0.25\n")
    assert main(["predict", str(runs / "seed0"), "--csv", str(plain)]) == 0
    value = capsys.readouterr().out.splitlines()[1].split(",")[-1].replace(".", ",")
    text = "# by a logger\nv;x\nm/s;m\n0,5;0,25\n-;0,25\n"
    odd = write_text(tmp_path / "odd.csv", text)
    assert main(["predict", str(runs / "seed0"), "--csv", str(odd)]) == 0
    assert capsys.readouterr().out == f"v;x;a_predicted\n0,5;0,25;{value}\n-;0,25;\n"


def test_predict_writes_through_links_and_devices_and_into_no_directory(runs, tmp_path, capsys):
    source = write_text(tmp_path / "in.csv", "x,v\n0.25,0.5\n")
    argv = ["predict", str(runs / "seed0"), "--csv", str(source), "--output"]
    link, real = tmp_path / "link.csv", tmp_path / "real.csv"
    link.symlink_to(real)
    assert main([*argv, str(link)]) == 0
    assert link.is_symlink()
    assert real.read_text().startswith("x,v,a_predicted\n")
    device = tmp_path / "null"
    device.symlink_to(os.devnull)
    assert main([*argv, str(device)]) == 0
    assert Path(os.devnull).is_char_device()
    capsys.readouterr()
    assert main([*argv, str(tmp_path)]) == 2
    assert "it is a directory" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "link.csv", "null", "real.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_predict_tells_a_full_output_from_a_bad_input_and_lets_a_reader_go(runs, tmp_path):
    source = write_text(tmp_path / "in.csv", "x,v\n" + "0.25,0.5\n" * 20_000)
    command = [sys.executable, "-m", "llmsr", "predict", str(runs / "seed0"), "--csv", str(source)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "cannot be read" not in done.stderr
    gone = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    gone.stdout.readline()
    gone.stdout.close()
    assert gone.wait(60) == 141
    assert "cannot be read" not in gone.stderr.read()


def test_plot_writes_figures_into_the_run_or_where_it_is_told(runs, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    assert main(["plot", str(runs / "seed0"), "--formats", "svg", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [
        str(path) for path in sorted(tmp_path.glob("*.svg"), key=order)
    ]
    assert main(["plot", str(runs / "seed0"), "--formats", "gif"]) == 2
    assert "--formats knows" in capsys.readouterr().err


def order(path):
    return ["front", "prediction", "residual", "convergence"].index(path.stem)


@pytest.mark.parametrize("verb", ["report", "show", "runs", "compare", "predict", "plot"])
def test_a_bad_directory_is_one_sentence(verb, tmp_path, capsys):
    more = ["--csv", "x.csv"] if verb == "predict" else []
    for directory in (tmp_path / "nothing", tmp_path):
        assert main([verb, str(directory), *more]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(directory) in said


def test_an_archive_of_another_spec_is_one_sentence(runs, tmp_path, capsys):
    for name in ("config.yaml", "archive"):
        (tmp_path / name).symlink_to(runs / "seed0" / name)
    (tmp_path / "config.yaml").unlink()
    write_text(tmp_path / "config.yaml", "problem_name: bactgrow\n")
    assert main(["show", str(tmp_path)]) == 2
    assert "spec" in capsys.readouterr().err
