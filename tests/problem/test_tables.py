"""Tables as people have them: each kind of file is read as it is meant, or told in a sentence that helps."""

import io

import numpy as np
import pandas as pd
import pytest

from llmsr.errors import UserError
from llmsr.problem.new_problem import NewProblem, make_problem
from llmsr.problem.table import sentinel_of
from llmsr.problem.table_format import found_format, number, seen_format

ROWS = 30
A = np.round(np.linspace(1000.5, 9000.25, ROWS), 2)
B = np.round(np.sin(np.arange(ROWS)), 4)
Y = np.round(0.01 * A + 3 * B, 4)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(form="{a},{b},{y}", write=str):
    return "".join(
        form.format(i=i, a=write(a), b=write(b), y=write(y)) + "\n"
        for i, (a, b, y) in enumerate(zip(A, B, Y, strict=True))
    )


def made(text, path="d.csv", encoding="utf-8", **asked):
    with open(path, "w", encoding=encoding, newline="") as file:
        file.write(text)
    return make_problem(NewProblem(**({"name": "mine", "csv": path, "target": "y", "force": True} | asked)))


def table_of(done):
    """All rows of a made problem, in the order of the first input."""
    rows = np.concatenate([np.column_stack([s.inputs, s.target]) for s in done.problem.splits.values()])
    return rows[np.argsort(rows[:, 0])]


def with_decimal_comma(value):
    return str(value).replace(".", ",")


def with_thousands(value):
    return f'"{value:,}"'


def european(value):
    return f"{value:,}".translate({ord(","): ".", ord("."): ","})


def fortran(value):
    return f"{value:.10E}".replace("E", "D")


PLAIN = {
    "comments above": "# a logger\n# 2024-05-01\na,b,y\n" + lines(),
    "comments among the rows": "a,b,y\n# begin\n" + lines() + "# end\n",
    "percent comments": "% saved\na,b,y\n" + lines(),
    "a header that is a comment": "# by savetxt\n# a,b,y\n" + lines(),
    "empty lines above": "\n\n \na,b,y\n" + lines(),
    "a title above": "Run 12;;\na;b;y\n" + lines("{a};{b};{y}"),
    "lines of a device above": "Device: X7\nRate: 10 Hz\n\na,b,y\n" + lines(),
    "row numbers without a name": ",a,b,y\n" + lines("{i},{a},{b},{y}"),
    "row numbers of a table saved twice": "Unnamed: 0,a,b,y\n" + lines("{i},{a},{b},{y}"),
    "row numbers that were shuffled": ",a,b,y\n"
    + "".join(f"{(7 * i + 3) % ROWS},{line}" for i, line in enumerate(lines().splitlines(keepends=True))),
    "dates without a name": ",a,b,y\n" + lines("2024-01-{i:02d},{a},{b},{y}"),
    "comments behind the rows": "a,b,y\n" + lines("{a},{b},{y}  # row {i}"),
    "row labels as R writes them": '"a" "b" "y"\n' + lines('"r{i}" {a} {b} {y}'),
    "an empty last column": "a,b,y,\n" + lines("{a},{b},{y},"),
    "empty last cells": "a,b,y\n" + lines("{a},{b},{y},,"),
    "a named column without values": "a,b,c,y\n" + lines("{a},{b},,{y}"),
    "decimal commas": "a;b;y\n" + lines("{a};{b};{y}", with_decimal_comma),
    "decimal commas and spaces": "a b y\n" + lines("{a}  {b}  {y}", with_decimal_comma),
    "decimal commas in quotes": "a,b,y\n" + lines('"{a}","{b}","{y}"', with_decimal_comma),
    "thousands": "a,b,y\n" + lines("{a},{b},{y}", with_thousands),
    "thousands with points": "a;b;y\n" + lines("{a};{b};{y}", european),
    "thousands with spaces": "a;b;y\n" + lines("{a};{b};{y}", lambda v: f"{v:,}".replace(",", "\u202f")),
    "Fortran": "a b y\n" + lines(" {a}   {b}   {y}", fortran),
    "spaces": "   a       b    y\n" + lines("  {a}    {b} \t {y} "),
    "a real minus": "a,b,y\n" + lines().replace("-", "\u2212"),
    "units below the names": "a,b,y\nm,s,kg\n" + lines(),
    "a unit for some": "a,b,y\n,[s],\n" + lines(),
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN.keys())
def test_every_kind_gives_the_same_numbers(text):
    done = made(text)
    assert done.problem.spec.columns == ("a", "b")
    np.testing.assert_array_equal(table_of(done), np.column_stack([A, B, Y]))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_encoding_is_read(encoding):
    done = made("Länge [µm],b,y\n" + lines(), encoding=encoding)
    assert done.problem.spec.columns == ("Lange", "b")
    assert "Lange: Länge in µm" in done.problem.spec.docstring
    assert any("Windows-1252" in notice for notice in done.notices) == (encoding == "cp1252")
    np.testing.assert_array_equal(table_of(done), np.column_stack([A, B, Y]))


@pytest.mark.parametrize("suffix", ["xlsx", "parquet", "csv.gz"])
def test_spreadsheets_parquet_and_packed_files_are_read(suffix):
    frame = pd.DataFrame({"a": A, "b": B, "y": Y, "note": ["x"] * ROWS})
    path = f"d.{suffix}"
    if suffix == "xlsx":
        pytest.importorskip("openpyxl")
        frame.to_excel(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    done = make_problem(NewProblem(name="mine", csv=path, target="y", ignore="note"))
    np.testing.assert_array_equal(table_of(done), np.column_stack([A, B, Y]))


def test_a_file_that_is_not_what_its_name_says_is_one_sentence():
    for suffix in ("xlsx", "parquet"):
        with pytest.raises(UserError, match=r"cannot be read as its name says") as told:
            made("a,b,y\n" + lines(), path=f"d.{suffix}")
        assert "\n" not in str(told.value)


def test_units_come_from_a_row_brackets_and_flags_in_this_order():
    done = made("a,b [min],y\nm,s,\n" + lines(), units="y=kg")
    docstring = done.problem.spec.docstring
    assert "a: a in m, one" in docstring
    assert "b: b in min, one" in docstring
    assert "y in kg, one" in docstring


def test_a_row_of_text_or_of_missing_values_is_no_row_of_units():
    assert found_table("city,x,y\nBerlin,,\nParis,1,2\nRome,2,3\n").units == {}
    assert found_table("x,y\n,\n1,2\n2,3\n").skipped == 1


def found_table(text):
    with open("d.csv", "w") as file:
        file.write(text)
    return found_format("d.csv")


def test_a_column_of_numbers_without_a_name_is_refused_or_left_out_by_the_inputs():
    text = ",a,,b,y\n" + lines("{i},{a},{y},{b},{y}")
    with pytest.raises(UserError, match=r"column 3 has no name; .* --inputs"):
        made(text)
    assert made(text, inputs="a,b").problem.spec.columns == ("a", "b")


def test_columns_may_be_said_without_their_units():
    text = "time (s),b [m],y (kg)\n" + lines()
    done = made(text, inputs="time,b", ood="b>0.9", units="b=km")
    assert done.problem.spec.columns == ("time", "b")
    assert done.problem.target == "y"
    assert done.problem.spec.units == {"time": "s", "b": "km", "y": "kg"}
    assert (done.problem.splits["test_ood"].inputs[:, 1] > 0.9).all()


def test_a_second_header_among_the_rows_is_told():
    with pytest.raises(UserError, match="line 32 has 'a'\\), which repeats the header"):
        made(("a,b,y\n" + lines()) * 2)


def test_few_rows_make_a_problem_without_a_test_and_say_so():
    done = made("a,b,y\n" + "".join(lines().splitlines(keepends=True)[:5]))
    assert {name: len(split) for name, split in done.problem.splits.items()} == {"train": 5}
    assert any("only 5 rows" in notice for notice in done.notices)


@pytest.mark.parametrize(
    ("asked", "step", "unit"), [("when", 3600, "s"), ("when=h", 1, "h"), ("when=min", 60, "min")]
)
def test_dates_are_the_time_since_the_first_row(asked, step, unit):
    times = pd.date_range("2024-02-28 12:00", periods=ROWS, freq="h")
    text = "when,y\n" + "".join(f"{t},{y}\n" for t, y in zip(times, Y, strict=True))
    done = made(text, dates=asked)
    np.testing.assert_allclose(table_of(done)[:, 0], step * np.arange(ROWS))
    assert (
        f"when: when in {unit}, one" in done.problem.spec.docstring
        or f"in {unit}," in done.problem.spec.docstring
    )
    assert f"when is the time in {unit} since 2024-02-28 12:00:00" in done.notices


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%Y-%m-%d", "%d/%m/%Y", "%b %d, %Y"])
def test_days_are_read_in_the_order_that_the_column_shows(form):
    days = pd.date_range("2024-01-30", periods=ROWS)
    text = "day,y\n" + "".join(f'"{d:{form}}",{y}\n' for d, y in zip(days, Y, strict=True))
    np.testing.assert_array_equal(table_of(made(text, dates="day"))[:, 0], np.arange(ROWS))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"dates": "a"}, "--dates: column 'a' has '1000.5', which is no date"),
        ({"dates": "b=moons"}, "must name a unit of time"),
        ({"dates": "when"}, "no column 'when' (--dates)"),
        ({"dummies": "y"}, "'y' is no input"),
        ({"codes": "b", "ignore": "b"}, "'b' is no input"),
    ],
)
def test_conversions_that_cannot_be_are_told(asked, sentence):
    with pytest.raises(UserError) as told:
        made("a,b,y\n" + lines(), **asked)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_rows_can_be_out_of_range_by_date():
    days = pd.date_range("2024-01-01", periods=ROWS)
    text = "day,y\n" + "".join(f"{d:%Y-%m-%d},{y}\n" for d, y in zip(days, Y, strict=True))
    done = made(text, dates="day", ood="day>2024-01-20")
    assert sorted(done.problem.splits["test_ood"].inputs[:, 0]) == list(range(20, 30))


def test_categories_are_columns_of_0_and_1_or_codes_on_demand():
    kinds = ["red", "blue", "green"]
    text = "kind,a,y\n" + "".join(
        f"{kinds[i % 3]},{a},{y}\n" for i, (a, y) in enumerate(zip(A, Y, strict=True))
    )
    done = made(text, dummies="kind")
    assert done.problem.spec.columns == ("kind_green", "kind_red", "a")
    rows = np.concatenate([split.inputs for split in done.problem.splits.values()])
    rows = rows[np.argsort(rows[:, 2])]
    np.testing.assert_array_equal(rows[:3, :2], [[0, 1], [0, 0], [1, 0]])
    codes = made(text, codes="kind")
    assert "kind is 0 red, 1 blue, 2 green" in codes.notices


@pytest.mark.parametrize(
    ("cell", "column", "advice"),
    [
        ("2024-01-{i:02d}", "t", "--dates 't'"),
        ("red", "t", "--dummies 't'"),
        ("{i}.5 kg", "t", "in the column's name"),
        ("${i}.5", "t", "in the column's name"),
        ("name {i} and more", "t", "--ignore 't'"),
        ("{i}.5 kg", "y", "in the column's name"),
        ("low", "y", "must be numbers"),
    ],
)
def test_texts_are_told_with_the_flag_that_reads_them(cell, column, advice):
    frame = pd.DataFrame({"t": A, "b": B, "y": Y}).astype(object)
    frame[column] = [cell.format(i=i + 1) for i in range(ROWS)]
    with pytest.raises(UserError) as told:
        made(frame.to_csv(index=False))
    assert advice in str(told.value)
    assert "\n" not in str(told.value)


def test_a_word_for_missing_is_told_and_can_be_named():
    text = "a,b,y\nbroken,1,2\n" + lines()
    with pytest.raises(UserError, match="--missing 'broken'"):
        made(text)
    done = made(text, missing="broken", drop_missing=True)
    np.testing.assert_array_equal(table_of(done), np.column_stack([A, B, Y]))


def test_a_number_that_may_stand_for_missing_is_hinted_at_and_can_be_named():
    text = "a,b,y\n-999,0.5,2\n" + lines()
    assert any("--missing=-999" in notice for notice in made(text).notices)
    done = made(text, missing="-999", drop_missing=True)
    assert not any("--missing" in notice for notice in done.notices)
    np.testing.assert_array_equal(table_of(done), np.column_stack([A, B, Y]))


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        (np.linspace(-1000, 1000, 2001), None),
        (np.append(np.linspace(0, 2000, 200), -999), -999),
        (np.append(np.linspace(-100, 100, 201), 9999), 9999),
        (np.array([-999.0, 5.0]), None),
        (np.array([1.0, 100.0, -99.0]), None),
    ],
)
def test_a_sentinel_lies_further_out_than_neighbours_are_apart(values, mark):
    assert sentinel_of(values) == mark


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("1.5", ".", 1.5), ("1,951.9", ".", 1951.9), ("12,34,567", ".", 1234567), ("1 234.5", ".", 1234.5),
        ("1'234", ".", 1234), ("1.0D+03", ".", 1000), ("-1d-3", ".", -0.001), ("1.25-101", ".", 1.25e-101),
        ("1.234,5", ",", 1234.5), ("0,5", ",", 0.5), ("1.5", ",", 1.5), (" +2 ", ".", 2), (".5", ".", 0.5),
        ("inf", ".", np.inf), ("1,5", ".", None), ("1_0", ".", None), ("1e", ".", None), ("12-34", ".", None),
        ("2024-01-01", ".", None), ("0x10", ".", None), ("1,2345", ".", None), ("", ".", None),
    ],
)  # fmt: skip
def test_a_cell_is_a_number_or_a_text(cell, decimal, value):
    assert number(cell, decimal) == value


@pytest.mark.parametrize(
    "text",
    ["\x00\x01" * 50, "a,b\n\x00,\x00\n", '"a,b\n1,2\n', "#\n#\n", "a", ",,,\n,,,\n", "\r\r\r", "1,2\n"],
)
def test_any_bytes_are_a_format_or_one_sentence(text):
    with open("d.csv", "w", newline="") as file:
        file.write(text)
    told = ""
    try:
        form = seen_format("d.csv")
    except UserError as error:
        told = str(error)
    assert (told and "\n" not in told) or len(form.names) == form.width


def test_a_large_table_of_decimal_commas_is_exact():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(2000, 3)) * 1e5, columns=["a", "b", "y"])
    out = io.StringIO()
    frame.to_csv(out, sep=";", decimal=",", index=False)
    np.testing.assert_array_equal(table_of(made(out.getvalue())), frame.sort_values("a").to_numpy())
