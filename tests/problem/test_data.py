"""The synthetic data are what their laws say, and are rebuilt bit for bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmsr.problem.loading import load_problem
from llmsr.problem.table import read_table

DATA = Path(__file__).resolve().parents[2] / "data"
ROWS = {
    "oscillator1": (10_000, 10_000, 10_000),
    "oscillator2": (10_000, 10_000, 10_000),
    "bactgrow": (7_500, 2_500, 15_000),
    "stressstrain": (2_161, 1_442, 738),
}


def generate(*arguments):
    return subprocess.run(
        [sys.executable, str(DATA / "generate.py"), *arguments], capture_output=True, text=True, check=False
    )


def table(name, split):
    folder = DATA / name
    return read_table((folder / "synthetic" if name == "stressstrain" else folder) / f"{split}.csv")[1]


def law(name, columns):
    if name == "oscillator1":
        x, v = columns
        return 0.8 * np.sin(x) - 0.5 * v**3 - 0.2 * x**3 - 0.5 * x * v - x * np.cos(x)
    if name == "oscillator2":
        t, x, v = columns
        return 0.3 * np.sin(t) - 0.5 * v**3 - x * v - 5 * x * np.exp(0.5 * x)
    if name == "bactgrow":
        b, s, temp, ph = columns
        heat = np.tanh(0.4 * (temp - 20)) / (1 + 0.005 * (temp - 35) ** 4)
        return 0.5 * b * s / (1 + s) * heat * np.exp(-abs(ph - 7)) * np.sin(np.pi * (ph - 2) / 10) ** 2
    strain, temp = columns
    scaled = np.maximum(0, (temp - 0.0667) / 1.0703)
    return np.minimum(36.2476 * strain, (0.8921 - 0.3041 * strain**3.2557) * (1 - scaled**1.8185))


def test_generator_rebuilds_every_file_bit_for_bit(tmp_path):
    done = generate("--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    built = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.csv"))
    assert len(built) == 12
    for path in built:
        assert (tmp_path / path).read_bytes() == (DATA / path).read_bytes(), path


def test_check_finds_a_changed_digit_and_a_missing_file(tmp_path):
    assert generate("--out", str(tmp_path), "stressstrain").returncode == 0
    assert generate("--out", str(tmp_path), "--check", "stressstrain").returncode == 0
    path = tmp_path / "stressstrain" / "synthetic" / "train.csv"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + (b"1" if content[-2:-1] != b"1" else b"2") + b"\n")
    (path.parent / "test_id.csv").unlink()
    done = generate("--out", str(tmp_path), "--check", "stressstrain")
    assert done.returncode == 1
    assert f"differs: {path}" in done.stdout
    assert "missing: " in done.stdout


def test_generator_refuses_an_unknown_name():
    done = generate("oscilator1")
    assert done.returncode == 2
    assert "unknown problem oscilator1; choose from" in done.stderr


@pytest.mark.parametrize("name", ROWS)
def test_row_counts_and_laws(name):
    for split, n_rows in zip(("train", "test_id", "test_ood"), ROWS[name], strict=True):
        rows = table(name, split)
        assert len(rows) == n_rows
        expected = law(name, rows[:, :-1].T)
        np.testing.assert_allclose(rows[:, -1], expected, rtol=0, atol=4e-15 * max(1, abs(expected).max()))


@pytest.mark.parametrize("name", ["oscillator1", "oscillator2"])
def test_oscillators_are_scipys_solution_at_the_published_grid(name):
    from scipy.integrate import solve_ivp

    def slope(t, y):
        return [y[1], law(name, y if name == "oscillator1" else (t, *y))]

    t = np.linspace(0, 50, 50_000)
    x, v = solve_ivp(slope, (0, 50), [0.5, 0.5], method="RK45", t_eval=t, rtol=1e-7, atol=1e-9).y
    solution = np.column_stack([t, x, v])[:, 1 if name == "oscillator1" else 0 :]
    for split, chosen in {
        "train": slice(30_001, None, 2),
        "test_id": slice(30_000, None, 2),
        "test_ood": slice(0, 20_000, 2),
    }.items():
        np.testing.assert_allclose(table(name, split)[:, :-1], solution[chosen], rtol=0, atol=1e-13)


def test_bactgrow_fills_its_boxes():
    narrow = np.array([[1, 5], [1, 5], [1, 40], [2, 12]])
    wide = np.array([[1, 10], [1, 10], [1, 60], [1, 14]])
    for split, box in (("train", narrow), ("test_id", narrow), ("test_ood", wide)):
        inputs = table("bactgrow", split)[:, :-1]
        share = (inputs - box[:, 0]) / (box[:, 1] - box[:, 0])
        assert share.min() >= 0
        assert share.max() <= 1
        np.testing.assert_allclose(share.mean(axis=0), 0.5, atol=0.03)
        np.testing.assert_allclose(share.std(axis=0), 12**-0.5, atol=0.02)
    assert len(np.unique(np.vstack([table("bactgrow", s) for s in ("train", "test_id")]), axis=0)) == 10_000


def test_stand_in_keeps_one_temperature_out():
    train, ood = table("stressstrain", "train"), table("stressstrain", "test_ood")
    assert np.unique(ood[:, 1]).tolist() == [0.666666667]
    assert len(np.unique(train[:, 1])) == 5
    assert 0.666666667 not in train[:, 1]


def test_splits_share_no_row():
    for name in ROWS:
        problem = load_problem(name, data_dir=DATA)
        train = {tuple(row) for row in problem.splits["train"].inputs.tolist()}
        for split in ("test_id", "test_ood"):
            shared = train & {tuple(row) for row in problem.splits[split].inputs.tolist()}
            assert not shared, (name, split)


def test_measured_rows_are_not_part_of_the_project():
    ignored = (DATA / ".gitignore").read_text().split()
    assert "/stressstrain/*.csv" in ignored
    tracked = subprocess.run(
        ["git", "ls-files", "stressstrain"], cwd=DATA, capture_output=True, text=True, check=False
    )
    assert all("synthetic/" in name for name in tracked.stdout.split())
