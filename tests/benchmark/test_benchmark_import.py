"""Problems of LLM-SRBench: columns as the known expression confirms them, specs that do not tell it."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmsr.benchmark.imported import arranged, determined, predicts, read_dataset
from llmsr.cli import main
from llmsr.errors import UserError
from llmsr.problem.loading import load_problem

RECORD = {
    "name": "BPG0",
    "symbols": ["dP_dt", "t", "P"],
    "symbol_descs": ["growth rate", "time", "population"],
    "symbol_properties": ["O", "V", "V"],
    "expression": "0.95*(1 - P(t)/96.9)*P(t) + sin(t)",
}
DESCRIPTION = "Find it:\nOutput: dP_dt - Growth rate\nInput 1: t - Time\nInput 2: P - Size of it"


def rows(count, seed):
    t, p = np.random.default_rng(seed).uniform([0, 1], [10, 90], (count, 2)).T
    return np.column_stack([0.95 * (1 - p / 96.9) * p + np.sin(t), t, p])


@pytest.mark.parametrize("output_first", [True, False])
def test_the_expression_decides_which_column_is_the_output(output_first):
    table = rows(50, 0)
    given = table if output_first else np.roll(table, -1, axis=1)
    found = arranged(RECORD, {"train": given})
    assert found.confirmed
    assert (found.inputs, found.target) == (("t", "P"), "dP_dt")
    assert np.array_equal(found.splits["train"], np.roll(table, -1, axis=1))


def test_an_order_that_nothing_confirms_is_told():
    assert not arranged(RECORD | {"expression": "P*t"}, {"train": rows(50, 0)}).confirmed
    assert not arranged(RECORD | {"expression": "open('x')"}, {"train": rows(50, 0)}).confirmed


def test_a_table_that_does_not_fit_its_symbols_is_one_sentence():
    with pytest.raises(UserError, match="4 columns"):
        arranged(RECORD, {"train": np.ones((5, 4))})


def test_records_become_problems_that_load(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = {"instance_id": "bio-0", "input_vars": ["t", "P"], "output_vars": ["dP_dt"],
              "gt_expression": RECORD["expression"], "description": DESCRIPTION}  # fmt: skip
    for key, seed in (("train", 0), ("test", 1), ("ood", 2)):
        table = rows(30, seed)
        record[f"{key}_input"], record[f"{key}_output"] = table[:, 1:].tolist(), table[:, :1].tolist()
    Path("records.jsonl").write_text(json.dumps(record) + "\n")
    assert main(["benchmark", "import", "records.jsonl"]) == 0
    assert capsys.readouterr().out == "llmsrbench/bio_0\n"
    problem = load_problem("llmsrbench/bio_0")
    assert list(problem.splits) == ["train", "test_id", "test_ood"]
    assert np.array_equal(problem.splits["test_ood"].target, rows(30, 2)[:, 0])
    assert "96.9" not in problem.spec.text
    assert all(word in problem.spec.text for word in ("Growth rate", "Time", "Size of it"))
    assert main(["benchmark", "import", "records.jsonl", "--anonymize"]) == 0
    hidden = load_problem(capsys.readouterr().out.strip())
    assert hidden.spec.columns == ("x1", "x2")
    assert not any(word in hidden.spec.text for word in ("Growth", "Time", "Size of it", "dP_dt"))
    assert np.array_equal(hidden.train.target, problem.train.target)
    Path("records.jsonl").write_text('{"instance_id": "x"}\n')
    assert main(["benchmark", "import", "records.jsonl"]) == 2
    assert "line 1" in capsys.readouterr().err


def test_columns_that_determine_each_other_are_told():
    strain = np.random.default_rng(0).uniform(0, 0.5, 200)
    free = np.random.default_rng(1).uniform(0, 1, 200)
    assert determined(np.column_stack([strain, 273 + 500 * strain, free])) == [(0, 1), (1, 0)]
    assert determined(np.column_stack([strain, np.ones(200), free])) == []


def test_a_dataset_of_hdf5_and_parquet(tmp_path):
    h5py = pytest.importorskip("h5py")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with h5py.File(tmp_path / "lsr_bench_data.hdf5", "w") as file:
        for seed, key in enumerate(("train_data", "id_test_data", "ood_test_data")):
            file[f"lsr_synth/bio_pop_growth/BPG0/{key}"] = rows(20, seed)
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([RECORD]), tmp_path / "data" / "lsr_synth_bio_pop_growth-0.parquet")
    (found,) = read_dataset(tmp_path)
    assert found.confirmed
    assert {split: len(table) for split, table in found.splits.items()} == {
        "train": 20, "test_id": 20, "test_ood": 20
    }  # fmt: skip
    assert np.array_equal(found.splits["test_ood"][:, -1], rows(20, 2)[:, 0])


def test_functions_are_numpy_s():
    x = np.linspace(0.1, 0.9, 20)
    assert predicts("pi*Abs(x - 0.5)", ["x"], np.column_stack([x, np.pi * np.abs(x - 0.5)]))
    assert predicts("asin(x)*exp(-x)", ["x"], np.column_stack([x, np.arcsin(x) * np.exp(-x)]))
