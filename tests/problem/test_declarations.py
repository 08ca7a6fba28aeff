"""What is asked of equations, by flags and by comments of a spec; bad input is one sentence."""

import json

import numpy as np
import pytest
from small_spec import LEAST_SQUARES, spec_text

from llmsr.cli import main
from llmsr.declarations import Declarations, read_declarations, with_declarations
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo.run_record import load_run_problem
from llmsr.problem.loading import load_problem
from llmsr.problem.spec import parse_spec

HEADER = "x,v,dy,a"


def written(tmp_path, rows, header=HEADER, spec=None):
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "train.csv", rows, delimiter=",", header=header, comments="")
    path = tmp_path / "spec.txt"
    path.write_text(spec or spec_text())
    return {"name": "mine", "spec_path": path, "data_dir": tmp_path / "data"}


@pytest.fixture
def rows():
    return np.random.default_rng(0).uniform(0.5, 1.0, (12, 4))


def test_a_column_of_errors_weighs_the_rows_and_is_no_input(tmp_path, rows):
    problem = load_problem(**written(tmp_path, rows), asked=Declarations(sigma="dy"))
    assert problem.spec.columns == ("x", "v")
    assert problem.target == "a"
    assert problem.train.inputs == pytest.approx(rows[:, :2])
    assert problem.train.weights == pytest.approx(1 / rows[:, 2] ** 2)


def test_flags_and_comments_say_the_same_and_flags_win(tmp_path, rows):
    by_flag = load_problem(**written(tmp_path, rows), asked=Declarations(sigma="dy", loss="huber"))
    text = "# llmsr: sigma = dy\n# llmsr: loss = mae\n" + spec_text()
    by_comment = load_problem(**written(tmp_path, rows, spec=text), asked=Declarations(loss="huber"))
    assert by_flag.spec.asked == by_comment.spec.asked == Declarations(sigma="dy", loss="huber")
    assert by_flag.train.equals(by_comment.train)
    assert by_flag.train.loss == by_comment.train.loss
    # a run's copy of the spec tells all by itself, and prompts do not show it
    assert parse_spec(by_flag.spec.text).asked == by_flag.spec.asked
    assert "llmsr:" not in by_comment.spec.preface
    assert by_comment.spec.seed_body == by_flag.spec.seed_body


def test_a_loss_by_name_takes_the_place_of_the_specs_own():
    own = spec_text(LEAST_SQUARES.replace("** 2", "** 4"))
    assert not parse_spec(own).least_squares
    assert parse_spec(with_declarations(own, Declarations(loss="mae"))).least_squares
    assert parse_spec("# llmsr: least_squares\n" + own).asked.loss == "mse"
    with pytest.raises(UserError, match="knows no sigma; name the loss"):
        parse_spec(with_declarations(own, Declarations(sigma="dy")))


@pytest.mark.parametrize("loss", ["l1", "huber:0", "huber:x", "quantile", "quantile:1", "mae:2", "mse:inf"])
def test_a_loss_that_is_none_is_one_sentence(loss):
    with pytest.raises(UserError, match="--loss must be"):
        Declarations(loss=loss)


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("colour = red", "unknown declaration"),
        ("sigma", "unknown declaration"),
        ("loss = mae\n# llmsr: loss = mse", "declared twice"),
        ("loss = best", "--loss must be"),
        ("sigma = a\n# llmsr: weights = b", "keep one"),
    ],
)
def test_a_comment_that_cannot_be_meant_is_one_sentence(comment, said):
    with pytest.raises(UserError, match=said) as told:
        read_declarations(f"# llmsr: {comment}\n", "my.txt")
    assert str(told.value).startswith("my.txt: ")


@pytest.mark.parametrize(
    ("asked", "value", "said"),
    [
        ({"sigma": "dy"}, 0.0, "dy is 0 in row 4"),
        ({"sigma": "dy"}, -1.0, "must be finite and positive"),
        ({"sigma": "dy"}, 1e-200, "dy is 1e-200"),
        ({"weights": "dy"}, -2.0, "must be finite and 0 or positive"),
        ({"sigma": "dz"}, 1.0, "no column 'dz' .sigma.; did you mean dy"),
        ({"weights": "x"}, 1.0, "x .weights. is an input"),
    ],
)
def test_weights_that_are_none_are_one_sentence(tmp_path, rows, asked, value, said):
    rows[3, 2] = value
    with pytest.raises(UserError, match=said) as told:
        load_problem(**written(tmp_path, rows), asked=Declarations(**asked))
    assert str(told.value).startswith(str(tmp_path))


def test_rows_of_weight_zero_are_left_out_and_all_zero_is_one_sentence(tmp_path, rows):
    rows[:5, 2] = 0.0
    problem = load_problem(**written(tmp_path, rows), asked=Declarations(weights="dy"))
    assert problem.train.target == pytest.approx(rows[5:, 3])
    rows[:, 2] = 0.0
    with pytest.raises(UserError, match="dy is 0 in every row"):
        load_problem(**written(tmp_path, rows), asked=Declarations(weights="dy"))


def test_the_reference_fitter_is_refused_where_it_would_ignore_the_weights(tmp_path, rows):
    problem = load_problem(**written(tmp_path, rows), asked=Declarations(sigma="dy"))
    with pytest.raises(UserError, match="knows no sigma; choose best or bfgs"):
        Evaluator(problem, fitter="reference", workers=1)


def test_a_new_problem_declares_what_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 3, 80)
    error = rng.uniform(0.01, 0.1, 80)
    table = np.column_stack([t, error, 2 * np.exp(-t) + error * rng.standard_normal(80)])
    np.savetxt("raw.csv", table, delimiter=",", header="t,d y (V),y", comments="")
    new = [
        "new",
        "--name",
        "decay",
        "--csv",
        "raw.csv",
        "--target",
        "y",
        "--sigma",
        "d y (V)",
        "--loss",
        "huber",
    ]
    assert main([*new, "--operators", "+,-,*,exp", "--max_complexity", "12"]) == 0
    problem = load_problem("decay")
    assert problem.spec.columns == ("t",)
    assert problem.spec.asked.sigma == "d_y"
    assert problem.train.loss.name == "huber"
    assert problem.train.weights is not None
    assert problem.spec.form.most_size == 12
    run = ["run", "--problem_name", "decay", "--proposer", "grammar", "--budget", "12", "--workers", "1"]
    assert main([*run, "--structure_seconds", "1", "--log_path", "out", "--json"]) == 0
    capsys.readouterr()
    assert main(["show", "out", "--json"]) == 0
    pick = json.loads(capsys.readouterr().out)["pick"]
    assert all(known["standard_error"] > 0 for known in pick["uncertainty"]["constants"].values())
    np.savetxt("more.csv", t[:3, None], header="t", comments="")
    assert main(["predict", "out", "--csv", "more.csv", "--interval", "0.9"]) == 0
    head, *lines = capsys.readouterr().out.split()
    assert head == "t,y_predicted,y_low,y_high"
    for line in lines:
        _, middle, low, high = map(float, line.split(","))
        assert low < middle < high
    for bad, said in (("t", "no input column"), ("y", "is an input or the target"), ("d", "no column 'd'")):
        assert main([*new[:7], "--sigma", bad, "--force", "--inputs", "t"]) == 2
        assert said in capsys.readouterr().err


def test_a_run_with_flags_is_read_again_with_them(tmp_path, rows, capsys):
    given = written(tmp_path, rows)
    flags = ["--spec_path", str(given["spec_path"]), "--data_dir", str(given["data_dir"]), "--weights", "dy"]
    run = [
        "run",
        "--problem_name",
        "mine",
        *flags,
        "--proposer",
        "grammar",
        "--budget",
        "4",
        "--workers",
        "1",
    ]
    assert main([*run, "--refine", "off", "--log_path", str(tmp_path / "run"), "--json"]) == 0
    written_result = json.loads(capsys.readouterr().out)
    assert main(["show", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pick"] == written_result["pick"]
    # a training copies its problems: what flags say is in the copied spec
    flags += ["--use_rl", "--dry_run", "--trainer", "local", "--output_dir", str(tmp_path / "trained")]
    assert main(["train", "--problem_name", "mine", *flags]) == 0
    copied = load_run_problem(tmp_path / "trained", "mine")
    assert copied.spec.asked == Declarations(weights="dy")
    assert copied.train.weights == pytest.approx(rows[:, 2])
