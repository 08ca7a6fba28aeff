"""The command line: promised flags, clear sentences, exit codes."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from replays import completions, write_replay

from llmsr.cli import VERBS, main, wants_training
from llmsr.cli.run import RUN

ROOT = Path(__file__).parent.parent


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_importing_the_package_is_quick_and_light():
    program = (
        "import sys, time; t = time.perf_counter(); import llmsr; d = time.perf_counter() - t;"
        "assert d < 0.5, d; heavy = {'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


class Models(http.server.BaseHTTPRequestHandler):
    """A server that lists models, or answers nonsense."""

    answer = b""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


def test_the_doctor_names_what_runs_and_what_mends_the_rest(server, capsys, monkeypatch):
    Models.answer = b'{"data": [{"id": "tiny\\u001b[2J"}, {"id": "b"}]}'
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null")
    assert main(["doctor", "--json", "--api_base", server]) == 0
    found = {entry["part"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["Python"]["state"] == found["numba"]["state"] == found["server"]["state"] == "ok"
    assert "tiny" in found["server"]["told"]
    assert f"--api_base {server}" in found["server"]["told"]
    assert found["GPU"]["state"] == "optional"
    for entry in found.values():
        assert entry["state"] == "ok" or entry["part"] == "GPU" or entry["mend"]
        assert "\n" not in entry["told"]


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[1]", b'{"data": 3}', b'{"data": [1]}', b"\xff\x00"])
def test_the_doctor_takes_nonsense_for_no_server(server, answer, capsys):
    Models.answer = answer
    assert main(["doctor", "--api_base", server]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("no  server") and "does not answer" in line for line in lines)


def test_help_starts_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.index("examples:") < out.index("--problem_name")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_package_alone_lists_its_verbs(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "llmsr", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == list(VERBS)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["-m", "llmsr"], ["-m", "llmsr", "benchmark", "--config", "configs/benchmark.yaml", "--dry_run"]],
)
def test_a_full_standard_output_is_a_sentence(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "llmsr: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(("flag", "value"), [("True", True), ("false", False), ("1", True), ("no", False)])
def test_use_api_takes_both_words(flag, value):
    assert RUN.read(["--use_api", flag])[2].use_api is value
    assert RUN.read(["--use_api"])[2].use_api is True


@pytest.mark.parametrize(
    ("argv", "answer"), [(["--use_rl"], True), (["--use_rl", "false"], False), (["--budget", "3"], False)]
)
def test_use_rl_chooses_the_mode(argv, answer):
    assert wants_training(argv) is answer


def test_a_config_file_sets_and_flags_override(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("budget: 7\nproblem_name: bactgrow\ntemperature: 0.5\n")
    run, search, proposer = RUN.read(["--config", str(config), "--budget", "9"])
    assert (run.problem_name, search.budget, proposer.temperature) == ("bactgrow", 9, 0.5)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--problem_name", "oscilator1"], "oscillator1"),
        (["--budget", "0"], "budget must be at least 1"),
        (["--spec_path", "nowhere.txt"], "nowhere.txt"),
        (["--replay_path", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--resume", "--log_path", "nowhere"], "no run to continue"),
        (["--fit_timeout", "inf"], "--fit_timeout must be a positive number, got inf"),
        (["--fit_timeout", "nan"], "--fit_timeout must be a positive number, got nan"),
        (["--fit_timeout", "0"], "--fit_timeout must be a positive number, got 0.0"),
        (["score", "--fit_timeout", "inf"], "--fit_timeout must be a positive number, got inf"),
        (["--selection_temperature", "nan"], "selection_temperature must be a positive number, got nan"),
        (["--exploration", "inf"], "exploration must be a finite number of at least 0, got inf"),
        (["--temperature", "nan"], "--temperature must be a finite number of at least 0, got nan"),
        (["wander"], "unknown verb"),
        (["--budgte", "4"], "unknown flag --budgte; did you mean --budget?"),
        (["--quux"], "unknown flag --quux; main.py --help lists them"),
        (["--memory", "puct"], "unknown flag --memory; it belongs to training: add --use_rl"),
        (["--use_rl", "--search", "puct"], "unknown flag --search; it belongs to a search, without --use_rl"),
        (["--budget", "many"], "argument --budget: invalid int value: 'many'"),
        (
            ["predict", "logs"],
            "the following arguments are required: --csv (llmsr predict --help tells more)",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(at_root, tmp_path, capsys, argv, sentence):
    if "--log_path" not in argv and argv[0].startswith("-"):
        argv = [*argv, "--log_path", str(tmp_path / "run")]
    assert main(argv) == 2
    err = capsys.readouterr().err.strip()
    assert err.splitlines()[-1].startswith("llmsr: ")
    assert sentence in err.splitlines()[-1]
    assert "Traceback" not in err
    assert "usage:" not in err


def test_an_unknown_setting_names_the_nearest(at_root, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text("bugdet: 7\n")
    assert main(["--config", str(config)]) == 2
    assert "did you mean budget?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["seed", "selection_temperature", "search", "resume"])
def test_a_setting_without_a_value_is_one_sentence(at_root, tmp_path, capsys, name):
    config = tmp_path / "run.yaml"
    config.write_text(f"{name}:\n")
    assert main(["--config", str(config)]) == 2
    assert f"{config}: {name} has no value" in capsys.readouterr().err


def test_a_setting_that_may_have_no_value_may_be_empty(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("spec_path:\nmodel_path: null\n")
    run, _, proposer = RUN.read(["--config", str(config)])
    assert (run.spec_path, proposer.model_path) == (None, None)


def test_a_search_from_the_command_line_leaves_everything_in_its_directory(at_root, tmp_path, capsys):
    replay = write_replay(tmp_path / "texts.jsonl", completions(24))
    run_dir = tmp_path / "run"
    argv = [
        "--proposer",
        "replay",
        "--replay_path",
        str(replay),
        "--log_path",
        str(run_dir),
        "--workers",
        "1",
        *("--structure_seconds", "0", "--stop_at_floor", "false"),
    ]
    assert main([*argv, "--budget", "24"]) == 0
    out = capsys.readouterr().out
    assert "best equation" in out
    assert "test_ood" in out
    assert {"archive", "samples", "config.yaml", "versions.json", "result.json"} <= {
        p.name for p in run_dir.iterdir()
    }
    first = json.loads((run_dir / "samples" / "samples_1.json").read_text())
    assert {"sample_order", "function", "score", "status", "reason", "canonical", "train_mse"} <= set(first)
    assert main(argv) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*argv, "--resume", "--budget", "24"]) == 0
    assert len(list((run_dir / "samples").iterdir())) == 24
    assert main([*argv, "--resume", "--seed", "5"]) == 2
    assert "another seed" in capsys.readouterr().err
    result = (run_dir / "result.json").read_bytes()
    assert main([*argv, "--resume", "--budget", "20"]) == 2
    assert "already has 24 samples, more than --budget 20" in capsys.readouterr().err
    assert (run_dir / "result.json").read_bytes() == result


def test_a_run_without_a_sample_may_be_begun_again_with_what_mends_it(at_root, tmp_path, capsys):
    where = ["--log_path", str(tmp_path / "run"), "--workers", "1", "--budget", "2", "--retries", "0"]
    where += ["--structure_seconds", "0", "--stop_at_floor", "false"]
    for port in ("3", "4"):
        assert main(["--port", port, *where]) == 2
        assert f"no engine answers at http://127.0.0.1:{port} (" in capsys.readouterr().err
    assert main(["--proposer", "grammar", *where]) == 0
    assert main(["--resume", *where, "--port", "3", "--budget", "3"]) == 0, "a service may move"


def test_a_run_is_not_continued_or_shown_on_other_train_rows(at_root, tmp_path, capsys):
    data, run_dir = tmp_path / "data" / "oscillator1", tmp_path / "run"
    shutil.copytree(ROOT / "data" / "oscillator1", data)
    argv = ["--proposer", "grammar", "--budget", "3", "--workers", "1", "--log_path", str(run_dir)]
    argv += ["--structure_seconds", "0", "--stop_at_floor", "false"]
    assert main([*argv, "--data_dir", str(data.parent)]) == 0
    lines = (data / "train.csv").read_text().splitlines(keepends=True)
    (data / "train.csv").write_text("".join(lines[:-1]))
    archived = (run_dir / "archive" / "search.jsonl").read_bytes()
    for again in (["--resume", "--log_path", str(run_dir), "--budget", "6"], ["show", str(run_dir)]):
        assert main(again) == 2
        assert "the train rows of oscillator1 are not those" in capsys.readouterr().err
    assert (run_dir / "archive" / "search.jsonl").read_bytes() == archived
    (data / "train.csv").write_text("".join(lines))
    assert main(["show", str(run_dir)]) == 0


def test_score_answers_every_line_in_order(at_root, tmp_path):
    bodies = tmp_path / "bodies.jsonl"
    given = [
        {"id": "a", "body": "return params[0]*x + params[1]*v"},
        {"id": 2, "body": "return import"},
        {"id": None, "body": 5},
        {"id": "d", "body": "return params[0]*np.sin(x)"},
    ]
    bodies.write_text("".join(json.dumps(g) + "\n" for g in given) + "no json\n")
    out = tmp_path / "scores.jsonl"
    assert main(["score", "--problem_name", "oscillator1", "--input", str(bodies), "--output", str(out)]) == 0
    scores = lines(out)
    assert [s["id"] for s in scores] == ["a", 2, None, "d", None]
    assert [s["status"] for s in scores] == ["ok", "syntax", "empty", "ok", "syntax"]
    wanted = (
        "id status reason line params train_mse nmse complexity canonical expression latex "
        "fit_seconds cpu_seconds"
    )
    assert all(set(wanted.split()) <= set(s) for s in scores)
    assert set(scores[0]["nmse"]) == {"train", "test_id", "test_ood"}


def test_the_version_is_the_package_s(capsys):
    import llmsr

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"llmsr {llmsr.__version__}\n"
