"""A large Parquet file is screened in parts: the same findings where a part holds all, and rows by their places."""

import random

import pandas as pd
import pytest

from fewmark.core import FormatError
from fewmark.interop import read_table
from fewmark.screening import screen as find_faults
from fewmark.tables.spellings import one_spelling
from fewmark.verbs import screen_large
from fewmark.verbs.screen import screen

N_DEPLOYMENTS, LOADS = 12, (1, 2, 4, 8, 16, 32)


def table():
    draw = random.Random(0)
    rows = [
        {"engine": "vllm" if d % 2 else "vLLM", "model": f"m{d}", "accelerator": "H100", "input_tokens": 128.0,
         "output_tokens": 64.0, "batch_size": float(load), "status": "ok", "option.block": d,
         "option.eager": d % 2 == 0, "e2e_latency_s": (1 + 0.05 * load) * (1 + d / 10) * draw.uniform(0.99, 1.01),
         "n_repeats": None}
        for load in LOADS for d in range(N_DEPLOYMENTS)
    ]  # fmt: skip
    rows[27]["e2e_latency_s"] *= 9.0
    rows[50]["e2e_latency_s"] = -1.0
    return pd.DataFrame(rows)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(screen_large, "MIN_ROWS", 1)
    monkeypatch.setattr(screen_large, "_MAX_JOBS", 1)
    monkeypatch.setattr(screen_large, "_BATCH", 7)
    table().to_parquet(tmp_path / "large.parquet", index=False)
    return tmp_path / "large.parquet"


def test_one_part_is_the_whole(path):
    found = screen(path)
    assert list(found.findings) == find_faults(one_spelling(read_table(path)))
    assert {finding.row for finding in found.findings} >= {28, 51}
    assert found.summary["n_deployments"] == N_DEPLOYMENTS and found.summary["n_cells"] == len(LOADS) * N_DEPLOYMENTS
    assert found.summary["named"]["engine"] == {"vLLM": 36, "vllm": 36} and found.notes


def test_several_parts_name_rows_of_the_file(path, monkeypatch):
    monkeypatch.setattr(screen_large, "PART", 24)
    found = screen(path)
    assert found.n_rows == 72 and {28, 51} <= {finding.row for finding in found.findings}
    assert found.summary["n_cells"] == len(LOADS) * N_DEPLOYMENTS
    assert "values" not in found.to_dict()["summary"]["ranges"]


def test_a_wrong_cell_is_named_by_its_row_in_the_file(path, monkeypatch):
    monkeypatch.setattr(screen_large, "PART", 24)
    frame = table()
    frame.loc[40, "status"] = "perhaps"
    frame.to_parquet(path, index=False)
    with pytest.raises(FormatError, match=r"large\.parquet: row 41: unknown status"):
        screen(path)


def test_plain_columns_are_read_as_cell_by_cell(path, monkeypatch):
    from fewmark.interop.formats import canonical_parquet

    fast = read_table(path)
    monkeypatch.setattr(canonical_parquet, "_read_plain", lambda table: None)
    pd.testing.assert_frame_equal(fast, read_table(path))


def test_a_column_whose_name_is_no_text_is_one_message(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"batchsize": [1, 2]}).to_parquet(path)
    path.write_bytes(path.read_bytes().replace(b"batchsize", b"batch\xd9ize"))
    with pytest.raises(FormatError, match="not readable Parquet"):
        screen(str(path))
