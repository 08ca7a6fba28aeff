"""The tutorial does what it says: its commands and its Python run in order, on a smaller budget."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)


def commands():
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def run(arguments, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def with_small_budget(command):
    words = shlex.split(command)
    assert words.pop(0) == "python"
    if words[0] == "main.py":
        words[0] = str(ROOT / "main.py")
        words += ["--budget", "24", "--workers", "1"]
    return words


def test_the_way_to_latex_has_three_commands():
    assert [command.split()[1:4] for command in commands()] == [
        ["-m", "llmsr", "new"],
        ["main.py", "--problem_name", "ride"],
        ["-m", "llmsr", "show"],
    ]


@pytest.mark.slow
def test_the_tutorial_runs_from_data_to_latex(tmp_path):
    data, estimator = blocks("python")
    run(["-c", data], tmp_path)
    made, _, shown = (run(with_small_budget(command), tmp_path) for command in commands())
    assert "power from speed, slope" in made
    assert "python -m llmsr run --problem_name ride" in made
    assert "power = " in shown
    latex = (tmp_path / "logs" / "ride" / "best_equation.tex").read_text()
    assert re.search(r"\\begin\{equation\}\s+\\mathrm\{power\} = ", latex)
    told = run(["-c", re.sub(r"budget=\d+", "budget=16", estimator)], tmp_path)
    assert r"\mathrm{power} = " in told


def test_every_flag_of_the_tutorial_exists():
    flags = set(re.findall(r"`?(--[a-z_]+)", TUTORIAL))
    source = "".join(path.read_text() for path in (ROOT / "llmsr").rglob("*.py"))
    for flag in flags - {"--help"}:
        assert re.search(rf"^    {flag[2:]}: .*= option\(|\"{flag}\"", source, re.MULTILINE), flag


def test_the_reference_of_flags_is_up_to_date():
    made = run([str(ROOT / "scripts" / "flags.py")], ROOT)
    hint = "run: python scripts/flags.py > docs/flags.md"
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == made, hint


def test_the_readmes_fit_on_few_screens():
    for name in ("README.md", "README.zh.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path):
    """On small budgets, and against a server on loopback; the two shell scripts have tests of their own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert [words[0] for words in commands[:2]] == ["./run_llmsr.sh", "./run_tests.sh"]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    short = {"300": "12", "600": "16", "main.py": str(ROOT / "main.py")}
    with FakeServer(models=("my-model",)) as server:
        short["http://127.0.0.1:8000/v1"] = server.base
        for words in commands[2:]:
            words = [short.get(word, word) for word in words[1:]]
            words += ["--budget", "8"] * ("--api_base" in words) + ["--dry_run"] * ("benchmark" in words)
            if "--use_rl" in words:
                words += ["--budget", "16", "--batch_size", "4", "--rollout_n", "4", "--trainer", "local"]
            run(words, tmp_path)
    assert (tmp_path / "predicted.csv").is_file()
    assert (tmp_path / "logs" / "served" / "result.json").is_file()


def _in_step(name):
    """What must be the same in every language: commands, code in the text, links, figures of tables."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace("[English](README.md)", "").replace("[中文](README.zh.md)", "")
    fenced = re.findall(r"^```(bash|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    tables = [line for line in bare.splitlines() if line.startswith("|")]
    return {
        "commands": [re.sub(r"\s+#.*", "", line) for _, block in fenced for line in block.splitlines()],
        "commands in the text": sorted(re.findall(r"`((?:python|\./|[A-Z_]+=)[^`]*)`", bare)),
        "links": sorted(re.findall(r"\]\(([^)]+)\)", bare)),
        "figures of tables": sorted(re.findall(r"\d+(?:[.,]\d+)*(?:e-?\d+)?", " ".join(tables))),
        "headings": [len(mark) for mark in re.findall(r"^(#+) ", bare, re.MULTILINE)],
    }


def test_the_chinese_readme_is_in_step_with_the_english_one():
    english, chinese = _in_step("README.md"), _in_step("README.zh.md")
    assert len(english["commands"]) > 10
    for kind, found in english.items():
        assert chinese[kind] == found, kind


def test_every_link_of_the_docs_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
