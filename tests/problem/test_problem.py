"""Problems are read from CSV files as they are, and every bad file is one clear sentence."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from llmsr.errors import UserError
from llmsr.problem.loading import load_problem
from llmsr.problem.split import nmse
from llmsr.problem.table import read_table

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT.parent / "shared" / "data" / "stressstrain"

GOOD = "x,v,a\n1,2,3\n4,5,6.5\n0,1,-2\n"


@pytest.fixture
def data(tmp_path):
    """A data folder with the problem `oscillator1`, and what writes its files."""

    def write(text, split="train", name="oscillator1"):
        path = tmp_path / name / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    write.folder = tmp_path
    return write


def load(data, **kwargs):
    return load_problem("oscillator1", data_dir=data.folder, **kwargs)


# --- what is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["oscillator1", "oscillator2", "bactgrow", "stressstrain"])
def test_shipped_problems_load(name):
    problem = load_problem(name)
    assert list(problem.splits) == ["train", "test_id", "test_ood"]
    for split in problem.splits.values():
        assert split.inputs.shape == (len(split), len(problem.spec.columns))
        assert split.target.shape == (len(split),)
        assert split.inputs.dtype == split.target.dtype == np.float64
        assert split.inputs.flags.c_contiguous
        assert split.target.flags.c_contiguous
        assert split.target.base is None or split.target.base.size == split.target.size
    assert problem.synthetic == (not (ROOT / "data" / name / "train.csv").exists())
    assert ("synthetic" in problem.note) == problem.synthetic


def test_values_are_the_nearest_floats(data):
    data("x,v,a\n0.1,1e-320,3\n-0.30000000000000004,1E5,4\n")
    train = load(data).train
    assert train.inputs.tolist() == [[0.1, 1e-320], [-0.30000000000000004, 1e5]]
    assert train.target.tolist() == [3.0, 4.0]


def test_time_column_is_kept():
    problem = load_problem("oscillator2")
    assert problem.spec.columns == ("t", "x", "v")
    assert problem.train.inputs[:, 0].min() > 30


def test_problems_pickle_small_and_fast():
    problem = load_problem("oscillator2")
    n_numbers = sum(s.inputs.size + s.target.size for s in problem.splits.values())
    began = time.process_time()
    text = pickle.dumps(problem)
    again = pickle.loads(text)
    assert time.process_time() - began < 0.5
    assert len(text) < 8 * n_numbers + 10_000
    assert again.spec == problem.spec
    np.testing.assert_array_equal(again.train.inputs, problem.train.inputs)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("x,v,a", '"x", "v", "a"'),
        GOOD.replace("1,2,3", '"1","2","3"'),
        GOOD.replace(",", " , "),
        GOOD.replace("\n4", "\n\n4"),
    ],
)
def test_layout_of_the_file_changes_nothing(data, text):
    data(text)
    train = load(data).train
    assert train.inputs.tolist() == [[1, 2], [4, 5], [0, 1]]
    assert train.target.tolist() == [3, 6.5, -2]


def test_other_names_in_the_header_are_accepted(data):
    data(GOOD.replace("x,v,a", "position,velocity,acceleration"))
    problem = load(data)
    assert problem.target == "acceleration"
    assert problem.spec.columns == ("x", "v")


def test_test_files_are_optional_and_never_stand_for_each_other(data):
    data(GOOD)
    assert list(load(data).splits) == ["train"]
    data(GOOD.replace("6.5", "7.5"), "test_ood")
    splits = load(data).splits
    assert list(splits) == ["train", "test_ood"]
    assert splits["test_ood"].target[1] == 7.5
    assert splits["train"].target[1] == 6.5


def test_own_spec_path_and_names(data, tmp_path):
    spec = (ROOT / "specs" / "specification_oscillator1_numpy.txt").read_text()
    (tmp_path / "my.txt").write_text(spec)
    data(GOOD, name="mine")
    problem = load_problem("mine", tmp_path / "my.txt", tmp_path)
    assert problem.spec.path == str(tmp_path / "my.txt")


# --- the stand-in -------------------------------------------------------------------------------------------


def test_stand_in_is_used_only_without_measured_files(data):
    data("strain,temp,stress\n0,1,0\n1,1,1\n", "synthetic/train", "stressstrain")
    stand_in = load_problem("stressstrain", data_dir=data.folder)
    assert stand_in.synthetic
    assert "synthetic stand-in" in stand_in.note
    data("strain,temp,stress\n0,1,0\n1,1,2\n", "train", "stressstrain")
    measured = load_problem("stressstrain", data_dir=data.folder)
    assert (measured.synthetic, measured.note) == (False, "")
    assert measured.train.target[1] == 2


def test_measured_and_stand_in_files_never_mix(data):
    data("strain,temp,stress\n0,1,0\n1,1,1\n", "synthetic/train", "stressstrain")
    data("strain,temp,stress\n0,1,0\n1,1,1\n", "test_id", "stressstrain")
    with pytest.raises(UserError, match=r"train.csv: no such file \(the folder has test_id.csv\)"):
        load_problem("stressstrain", data_dir=data.folder)


@pytest.mark.skipif(not (MEASURED / "train.csv").is_file(), reason="the measured files are not here")
def test_measured_files_load_where_they_are():
    problem = load_problem("stressstrain", data_dir=MEASURED.parent)
    assert not problem.synthetic
    assert {name: len(split) for name, split in problem.splits.items()} == {
        "train": 2161,
        "test_id": 1442,
        "test_ood": 738,
    }
    stand_in = load_problem("stressstrain")
    assert stand_in.target == problem.target
    for name, split in problem.splits.items():
        assert len(stand_in.splits[name]) == len(split)
        np.testing.assert_allclose(
            np.unique(stand_in.splits[name].inputs[:, 1]), np.unique(split.inputs[:, 1]), atol=1e-8
        )


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("\nx,v,a\n1,2,3\n", "line 1 is empty"),
        ("x,v,a\n", "no rows below the header"),
        ("x,v,a", "no rows below the header"),
        ("1,2,3\n4,5,6\n", "no header row (line 1 is 1,2,3)"),
        ("x,v,a\n1,2,3\n1,2,3\n", "the target a is 3 in every row"),
        ("x,v,a\n1,2,3\n", "the target a is 3 in every row"),
        ("x,v,a\n1,2,3\n4,,6\n", "1 row has an empty, NaN or infinite value (line 3; first in column v)"),
        ("x,v,a\n1,2,nan\n4,1,6\n3,inf,1\n", "2 rows have an empty, NaN or infinite value (line 2, 4;"),
        ("x,v,a\n\n1,2,3\n\n4,NaN,6\n", "(line 5; first in column v)"),
        (
            "x,v,a\n" + "1,nan,3\n" * 9,
            "9 rows have an empty, NaN or infinite value (line 2, 3, 4, 5, 6, ...;",
        ),
        ("x,v,a\n1,2,3\n4,fast,6\n", "column 'v' is not numeric (line 3 has 'fast')"),
        ("x,v,a\n1,2,3\n4,\x1b[2Jno,6\n", "column 'v' is not numeric (line 3 has '\\x1b[2Jno')"),
        ("x,v,a\n1,2,3\n4,1_0,6\n4,1e,6\n", "column 'v' is not numeric (line 3 has '1_0')"),
        ("x,v,a\n1,2,3\n4,5\n", "line 3 has 2 values but the header names 3 columns"),
        ("x,v,a\n1,2,3,4\n4,5,6,7\n", "line 2 has 4 values but the header names 3 columns"),
        ("x,v,v\n1,2,3\n4,5,6\n", "the column name 'v' stands twice"),
        ("x,,a\n1,2,3\n4,5,6\n", "column 2 has no name"),
        ("x;v;a\n1;2;3\n", "separated by semicolons"),
        ("x\tv\ta\n1\t2\t3\n", "separated by tabs"),
        ("x v a\n1 2 3\n", "separated by spaces"),
        ("x\n1\n2\n", "only one column (x)"),
        ("x,a\n1,2\n3,4\n", "1 input columns and the target (x, a)"),
        ("t,x,v,a\n1,2,3,4\n5,6,7,8\n", "but equation(x, v, params) in"),
        ("v,x,a\n1,2,3\n4,5,6\n", "wants the inputs in the order x, v"),
        ("a,x,v\n1,2,3\n4,5,6\n", "and the target last"),
        ("x,v,a\n1,2,1e200\n4,5,-1e200\n", "the variance of the target a is inf; rescale"),
        ("x,v,a\n1,2,1e-145\n4,5,-1e-145\n", "the variance of the target a is 1e-290, below 1e-280"),
        (b"\xff\xfex,v,a", "not UTF-8 text"),
    ],
)
def test_a_bad_table_is_one_sentence_with_its_name(data, text, message):
    path = data(text)
    with pytest.raises(UserError) as caught:
        load(data)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert message in sentence
    assert "\n" not in sentence


def test_test_files_are_checked_too(data):
    data(GOOD)
    path = data("x,a,v\n1,2,3\n4,5,6\n", "test_id")
    with pytest.raises(UserError, match=r"its columns are x, a, v but train.csv has x, v, a"):
        load(data)
    path.write_text("x,v,a\n1,2,3\n4,5,3\n")
    with pytest.raises(UserError, match=r"test_id\.csv: the target a is 3 in every row"):
        load(data)


def test_missing_train_says_where_it_looked(data):
    data(GOOD, "other")
    with pytest.raises(
        UserError, match=r"oscillator1/train.csv: no such file \(the folder has other.csv\); put"
    ):
        load(data)
    (data.folder / "oscillator1" / "other.csv").unlink()
    with pytest.raises(UserError, match="the folder has no CSV file"):
        load(data)


@pytest.mark.parametrize(
    ("name", "near"),
    [("oscilator1", "oscillator1"), ("bacgrow", "bactgrow"), ("stress_strain", "stressstrain")],
)
def test_unknown_problem_suggests_the_nearest(name, near):
    with pytest.raises(UserError, match=rf"(?s)Unknown problem '{name}'.*did you mean {near}"):
        load_problem(name)


def test_unknown_problem_without_a_near_one_lists_the_known():
    with pytest.raises(UserError, match="known: bactgrow, oscillator1, oscillator2, stressstrain"):
        load_problem("zzz")


def test_missing_half_is_named(data):
    data(GOOD, name="mine")
    with pytest.raises(UserError, match=r"specification_mine_numpy.txt: no such spec for problem 'mine'"):
        load_problem("mine", data_dir=data.folder)
    with pytest.raises(UserError, match=r"Problem 'bactgrow' has no data: no folder"):
        load_problem("bactgrow", data_dir=data.folder)


def test_where_there_is_no_folder_of_problems_no_other_problem_is_suggested(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*gone; give the right one with --data_dir"):
        load_problem("oscillator1", data_dir=tmp_path / "gone")


@pytest.mark.parametrize("name", ["", "../data", "a/b/c", "a/..", "./a", "/etc", ".."])
def test_problem_names_are_names(name):
    with pytest.raises(UserError, match="is no problem name"):
        load_problem(name)


def test_a_problem_of_a_collection_is_called_by_folder_and_name(tmp_path, monkeypatch):
    shipped = load_problem("oscillator1")
    spec = tmp_path / "specs" / "mine" / "specification_one_numpy.txt"
    spec.parent.mkdir(parents=True)
    spec.write_text(shipped.spec.text, encoding="utf-8")
    folder = tmp_path / "data" / "mine" / "one"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_problem("mine/one").name == "mine/one"
    with pytest.raises(UserError, match="did you mean mine/one"):
        load_problem("mine/onee")


def test_an_unreadable_table_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "none.csv")


# --- nmse ---------------------------------------------------------------------------------------------------


def test_nmse_is_the_error_over_the_variance():
    target = np.array([1.0, 2.0, 3.0, 6.0])
    assert nmse(target, target) == 0.0
    assert nmse(np.full(4, 3.0), target) == pytest.approx(1.0)
    assert nmse(target + 0.5, target) == pytest.approx(0.25 / np.var(target))
    assert nmse(1000 * (target + 0.5), 1000 * target) == pytest.approx(nmse(target + 0.5, target))


def test_nmse_never_drops_a_row():
    target = np.array([1.0, 2.0, 3.0])
    assert np.isnan(nmse(np.array([1.0, np.nan, 3.0]), target))
    assert np.isnan(nmse(np.array([1.0, np.inf, 3.0]), target))
    assert nmse(np.array([1.0, 1e300, 3.0]), target) == np.inf
