"""Every example runs: the shell scripts on a small budget, the notebook's cells in their order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer

EXAMPLES = Path(__file__).parents[1] / "examples"
ROOT = EXAMPLES.parent


def run(script, folder, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(
        [str(EXAMPLES / script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_list_of_examples_is_whole():
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    assert all(f"({name})" in told for name in files)


@pytest.mark.slow
def test_a_csv_becomes_latex(tmp_path):
    told = run("csv_to_latex.sh", tmp_path, BUDGET="16", WORKERS="1")
    assert r"\mathrm{power" in told


@pytest.mark.slow
def test_a_local_server_is_asked(tmp_path):
    with FakeServer() as server:
        run("local_server.sh", tmp_path, BUDGET="8", WORKERS="1", API_BASE=server.base, API_KEY="none")
        assert any(path.endswith("/chat/completions") for path, _, _ in server.requests)
    assert (tmp_path / "logs" / "local_server" / "result.json").is_file()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "estimator.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["model"].score(names["X"], names["y"]) > 0.9
    assert names["model"].latex() in capsys.readouterr().out


@pytest.mark.slow
def test_a_small_model_is_trained_and_searches(tmp_path):
    told = run("grpo_small_model.sh", tmp_path, BUDGET="16", WORKERS="1", OUT=str(tmp_path / "out"))
    assert "oscillator2" in told
