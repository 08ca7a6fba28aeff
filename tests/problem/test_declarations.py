"""What is asked of equations, by flags and by comments of a spec; bad input is one sentence."""

import numpy as np
import pytest
from small_spec import LEAST_SQUARES, spec_text

from llmsr.declarations import Declarations, read_declarations, with_declarations
from llmsr.errors import UserError
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
