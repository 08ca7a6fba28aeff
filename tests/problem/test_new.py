"""A problem from one's own CSV file: it can be searched at once; bad input is told in a sentence."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmsr.cli import main
from llmsr.errors import UserError
from llmsr.problem.columns import Quantity, identifiers, position_of, spec_text, with_labels
from llmsr.problem.loading import load_problem
from llmsr.problem.new_problem import NewProblem, make_problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.table import read_raw
from llmsr.problem.table_format import found_format


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(rows=200, seed=0, **columns):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame({"t": generator.uniform(0, 9, rows), "u": generator.uniform(1, 2, rows)})
    table["y"] = np.exp(-0.3 * table.t) * table.u
    for name, values in columns.items():
        table[name] = values
    table.to_csv("d.csv", index=False)
    return table


def made(**asked):
    return make_problem(NewProblem(**({"name": "mine", "csv": "d.csv", "target": "y"} | asked)))


def fault(**asked):
    with pytest.raises(UserError) as error:
        made(**asked)
    assert "\n" not in str(error.value)
    return str(error.value)


def all_rows(problem):
    return np.concatenate([np.column_stack([s.inputs, s.target]) for s in problem.splits.values()])


def test_the_made_problem_loads_by_its_name_and_holds_every_row_once_to_the_last_bit():
    table = write()
    problem = made(description="A decay").problem
    again = load_problem("mine")
    assert again.spec.least_squares
    assert again.spec.columns == ("t", "u")
    assert "A decay." in again.spec.preface
    assert {name: len(split) for name, split in problem.splits.items()} == {"train": 160, "test_id": 40}
    found = all_rows(again)
    assert np.array_equal(found[np.argsort(found[:, 0])], table.sort_values("t").to_numpy())


def test_equal_seeds_split_equally_and_others_do_not():
    write()
    splits = [made(name=f"p{i}", seed=seed).problem.train.target for i, seed in enumerate([0, 0, 1])]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_out_of_range_rows_are_the_ood_test_and_no_others():
    write()
    problem = made(ood="t>7, u < 1.1").problem
    outside = problem.splits["test_ood"].inputs
    assert ((outside[:, 0] > 7) | (outside[:, 1] < 1.1)).all()
    for name in ("train", "test_id"):
        inside = problem.splits[name].inputs
        assert not ((inside[:, 0] > 7) | (inside[:, 1] < 1.1)).any()
    assert len(all_rows(problem)) == 200


def test_units_and_meanings_reach_the_spec_from_flags_a_file_and_bracketed_names(capsys):
    write(**{"temp [K]": np.linspace(0, 1, 200)})
    with open("about.yaml", "w") as file:
        file.write("description: Cooling\ncolumns:\n  t: {meaning: time, unit: min}\n  u: a voltage\n")
    argv = "new --name mine --csv d.csv --target y --about about.yaml --units y=m/s,u=V --json"
    assert main(argv.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["columns"] == ["t", "u", "temp"]
    docstring = load_problem("mine").spec.docstring
    assert "t: time in min, one" in docstring
    assert "u: a voltage in V, one" in docstring
    assert "temp: temp in K, one" in docstring
    assert "y in m/s, one" in docstring


def test_names_that_are_no_identifiers_are_mapped_and_said():
    write(**{"2nd value": np.linspace(0, 1, 200), "λ": np.linspace(1, 2, 200), "温度": np.arange(200)})
    done = made()
    assert done.problem.spec.columns == ("t", "u", "c_2nd_value", "lambda_", "column5")
    assert any("2nd value is c_2nd_value; λ is lambda_" in notice for notice in done.notices)


def test_constant_columns_are_left_out_and_said():
    write(k=3.0)
    done = made()
    assert done.problem.spec.columns == ("t", "u")
    assert "left out, the same in every row: k" in done.notices


def test_missing_values_are_counted_and_dropped_only_when_asked():
    table = write()
    table.loc[[3, 5], "t"] = np.nan
    table.loc[[5, 9, 11], "u"] = np.inf
    table.to_csv("d.csv", index=False)
    told = fault()
    assert "4 of 200 rows" in told
    assert "t: 2, u: 3" in told
    assert "--drop_missing" in told
    done = made(drop_missing=True)
    assert len(all_rows(done.problem)) == 196


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"target": "Y"}, "did you mean 'y'?"),
        ({"target": "tt"}, "did you mean 't'?"),
        ({"ignore": "q"}, "no column 'q'"),
        ({"ood": "s>3"}, "no column 's' (--ood)"),
        ({"ood": "t=>3"}, "write it like temp>300"),
        ({"ood": "t>hot"}, "write it like temp>300"),
        ({"ood": "t>99"}, "leaves 0 rows out of range"),
        ({"ood": "t>-1"}, "leaves 0 rows in range"),
        ({"csv": "nowhere.csv"}, "no such file"),
        ({"name": "a/b"}, "cannot name a problem"),
        ({"test_share": 1.5}, "between 0 and 1"),
        ({"units": "q=m"}, "no column 'q' (units)"),
        ({"ignore": "t,u"}, "no input column is left"),
    ],
)
def test_bad_wishes_are_told(asked, sentence):
    write()
    assert sentence in fault(**asked)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file is empty"),
        ("x,y\n", "no rows below"),
        ("x,y\n1,2\n2,3\n3,4\n", "too few rows, 3"),
        ("x,x,y\n1,2,3\n", "'x' stands twice"),
        ("x,,y\n1,2,3\n", "column 2 has no name"),
        ("1,2\n3,4\n", "only numbers"),
        ("y\n1\n2\n", "only one column"),
        ("x,y\n" + "1,5\n" * 20, "the target y is 5 in every row"),
        ("x,y\n" + "".join(f"{i},{i}e200\n" for i in range(20)), "the variance of the target y is inf"),
        ("x,y\n" + "".join(f"{i},{i}e-145\n" for i in range(20)), "below 1e-280"),
        ("x,y\n" + "".join(f"1,{i}\n" for i in range(20)), "every input column is the same"),
        (
            "x,y\n" + "".join(f"{i},{i}\n" for i in range(19)) + "Berlin,4\n",
            "'x' is not numeric (line 21 has",
        ),
        ("x,y\n1,2\n1,2,3\n" * 10, "line 3 has 3 values but the header names 2 columns"),
        ("x,y\n1,2\n\n  \n1,2\n,\n1,2,3\n", "line 7 has 3 values but the header names 2 columns"),
        (
            'x,z,y\n1,"a\nb",2\n\n2,,3\nBerlin,,4\n' + "1,,2\n" * 20,
            "'x' is not numeric (line 6 has 'Berlin')",
        ),
        ("x,y\n" + "1,low\n" * 20, "the target must be numbers"),
    ],
)
def test_bad_files_are_told(text, sentence):
    with open("d.csv", "w") as file:
        file.write(text)
    assert sentence in fault()
    assert not os.path.exists("data")


def test_half_a_problem_is_not_left_behind():
    write()
    assert "cannot write" in fault(spec_dir="d.csv/below")
    assert not os.path.exists("data/mine")
    made()
    rows = Path("data/mine/train.csv").read_text()
    assert "cannot write" in fault(spec_dir="d.csv/below", force=True)
    assert Path("data/mine/train.csv").read_text() == rows


def test_the_next_command_is_one_for_a_shell(capsys):
    write()
    folder = "new ü/my data"
    assert (
        main(
            [
                "new",
                "--csv",
                "d.csv",
                "--target",
                "y",
                "--name",
                "mine",
                "--data_dir",
                folder,
                "--spec_dir",
                "s s",
            ]
        )
        == 0
    )
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: python -m llmsr run --problem_name mine")
    assert shlex.split(last)[-4:] == [
        "--data_dir", folder, "--spec_path", "s s/specification_mine_numpy.txt",
    ]  # fmt: skip


def test_text_columns_can_be_ignored():
    write(city="Berlin", day="2024-01-01")
    told = fault()
    assert "'city', 'day'" in told
    assert "--ignore 'city,day'" in told
    assert made(ignore="city,day").problem.spec.columns == ("t", "u")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_read(separator):
    write().to_csv("d.csv", sep=separator, index=False)
    assert len(all_rows(made().problem)) == 200


def test_an_existing_problem_is_replaced_only_by_force():
    write()
    made(ood="t>7")
    assert "exists already" in fault()
    assert set(made(force=True).problem.splits) == {"train", "test_id"}


@pytest.mark.parametrize("count", [-1, 0, 1001])
def test_a_wish_that_no_spec_can_hold_leaves_the_problem_that_is_there(count):
    write()
    spec_path = made().spec_path
    before = spec_path.read_text()
    write(seed=1)
    assert "--max_params must lie between 1 and 1000" in fault(force=True, max_params=count)
    assert spec_path.read_text() == before
    assert np.array_equal(np.sort(all_rows(load_problem("mine"))[:, 0]), np.sort(write(seed=0).t))


def test_a_spec_that_cannot_be_read_is_not_written(monkeypatch):
    write()
    spec_path = made().spec_path
    before = spec_path.read_text()
    monkeypatch.setattr("llmsr.problem.new_problem.spec_text", lambda *words: "no spec")
    fault(force=True)
    assert spec_path.read_text() == before


def test_a_large_file_is_sampled_evenly_whatever_the_blocks_and_said(monkeypatch):
    rows = 50_000
    pd.DataFrame({"x": np.arange(rows), "y": np.arange(rows) ** 0.5}).to_csv("d.csv", index=False)

    def sample():
        return read_raw(
            found_format("d.csv"), lambda name: True, lambda r: {"all": r[:, 0] >= 0}, 1000, seed=3
        )

    whole = sample()
    monkeypatch.setattr("llmsr.problem.table.BLOCK_ROWS", 777)
    blocks = sample()
    assert np.array_equal(whole.groups["all"], blocks.groups["all"])
    x = whole.groups["all"][:, 0]
    assert len(x) == 1000
    assert (np.diff(x) > 0).all()
    assert np.histogram(x, 10, (0, rows))[0].min() > 60
    done = made(max_rows=1000)
    assert "of 50000 rows in range an even sample of 1000 is used (--max_rows)" in done.notices
    assert len(all_rows(done.problem)) == 1000


def test_identifiers_differ_and_are_no_words_of_a_spec():
    names = ["x", "x ", "x_2", "λ", "Λ", "np", "params", "a b", "a-b", "", "class", "__init__", "a" * 99]
    made_of = identifiers(names)
    assert len(set(made_of)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in made_of)
    assert not {"np", "params", "class"} & set(made_of)


@pytest.mark.parametrize(
    ("name", "labels", "position"),
    [
        ("speed", ["time", "speed (m/s)"], 1),
        ("speed", ["speed (m/s)", "speed"], 1),
        ("speed", ["speed (m/s)", "speed (km/h)"], None),
        ("speed_km_h", ["speed (m/s)", "speed (km/h)"], 1),
        ("np_", ["np"], 0),
        ("column1", ["%"], None),
    ],
)
def test_a_column_is_found_by_the_name_that_a_spec_gives_it(name, labels, position):
    assert position_of(name, labels) == position


def test_labels_replace_identifiers_but_not_functions():
    assert (
        with_labels("sin(sin) + a_b*a", ("sin", "a_b", "a"), ("sin.", "a b", "a")) == "sin(`sin.`) + `a b`*a"
    )


@pytest.mark.parametrize("count", [1, 2, 9, 10, 30, 60])
def test_a_generated_spec_is_least_squares_for_any_number_of_columns(count):
    spec = parse_spec(spec_text([Quantity(f"x{i}") for i in range(count)], Quantity("y")))
    assert spec.least_squares
    assert len(spec.columns) == count
    assert spec.max_params == max(10, min(count + 1, 30))


def test_words_cannot_leave_their_docstring():
    hostile = '"""\nimport os\n\\N{x} \x00 """'
    quantity = Quantity("x", hostile, hostile)
    spec = parse_spec(spec_text([quantity], Quantity("y", hostile), hostile))
    assert spec.least_squares
    assert spec.columns == ("x",)
    assert spec.text.count("\nimport ") == 1
