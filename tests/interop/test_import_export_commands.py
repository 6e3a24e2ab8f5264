"""`fewmark import`, `export` and `screen`, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.interop import read_table
from fewmark.store import open_store

HEADER = (
    "engine,model,accelerator,input_tokens,output_tokens,batch_size,e2e_latency_s,total_throughput_tok_s,option.eager"
)
LENGTHS, BATCHES = (128, 256, 512, 1024), (1, 4, 16, 64)


def rows() -> list[str]:
    out = []
    for n in LENGTHS:
        for b in BATCHES:
            took = 0.1 + n * (0.01 + 0.0004 * b)
            out.append(f"vllm,m,chip,{n},{n},{b},{took},{b * 2 * n / took},true")
    return out


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", "sqlite:///store.db")
    lines = rows()
    lines[12] = "vllm,m,chip,1024,1024,1,0.05,40960,true"  # nothing was generated
    path = tmp_path / "table.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_importing_again_adds_nothing_and_findings_are_kept(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(table)]) == 0
    told = capsys.readouterr().out
    assert "16 rows of format csv, 16 added" in told
    assert "1 exclude" in told
    assert main(["import", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["n_added"] == 0
    with open_store() as store:
        assert len(list(store.measurements())) == 16
        (mark,) = store.annotations()
        assert (mark.rule, mark.action) == ("impossible-speed", "exclude")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_was_imported_is_exported(table: Path, suffix: str) -> None:
    assert main(["import", str(table)]) == 0
    assert main(["export", f"out.{suffix}"]) == 0
    pd.testing.assert_frame_equal(read_table(f"out.{suffix}"), read_table(table), check_exact=True)


def test_a_malformed_file_leaves_the_store_as_it_was(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = table.with_name("bad.csv")
    bad.write_text(f"{HEADER}\n{rows()[0]}\nvllm,m,chip,x,128,1,1,1,true\n")
    assert main(["import", str(table), str(bad)]) == 2
    told = capsys.readouterr()
    assert "bad.csv: row 2: input_tokens" in told.err
    assert "Traceback" not in told.err
    assert not table.with_name("store.db").exists()


def test_rows_that_are_no_cell_are_left_out_and_counted(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.write_text(f"{HEADER}\n{rows()[0]}\nvllm,m,chip,128,128,,1,1,true\n")
    assert main(["import", str(table)]) == 0
    assert "1 row left out (row 2)" in capsys.readouterr().out
    table.write_text(f"{HEADER}\nvllm,m,chip,128,128,,1,1,true\n")
    assert main(["import", str(table)]) == 2


def test_screen_writes_the_json_of_the_contract(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["screen", "--data", str(table), "--json", "out.json"]) == 0
    assert "impossible-speed" in capsys.readouterr().out
    told = json.loads(Path("out.json").read_text())
    assert told["n_rows"] == 16
    (flagged,) = told["flagged"]
    assert (flagged["row"], flagged["rule"], flagged["action"]) == (13, "impossible-speed", "exclude")
    assert "0.05 s" in flagged["reason"]
    assert main(["screen", "--data", str(table), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_screening_the_store_brings_its_marks_up_to_date(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(table)]) == 0
    capsys.readouterr()
    # More repeats of the cell outvote the fault: what was the median becomes one repeat far from its siblings.
    repeats = [rows()[12]] * 4
    table.write_text(
        "\n".join([HEADER, *(line.replace("10.7496", f"10.74{i}") for i, line in enumerate(repeats))]) + "\n"
    )
    assert main(["import", str(table)]) == 0
    capsys.readouterr()
    assert main(["screen", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    marked = [item for item in told["flagged"] if item["action"] == "exclude"]
    assert [(item["row"], item["rule"]) for item in marked] == [(13, "contradicting-repeats")]
    with open_store() as store:
        held = [mark for mark in store.annotations() if mark.action == "exclude"]
        assert [(mark.measurement_id, mark.rule) for mark in held] == [
            (marked[0]["measurement_id"], "contradicting-repeats")
        ]
        assert {mark.action for mark in store.annotations(history=True)} >= {"exclude", "clear"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "nothing.csv"],
        ["import", "empty"],
        ["import", "*.parquet"],
        ["import", "table.csv", "--format", "excel"],
        ["export", "out.csv"],
        ["export", "out.xlsx"],
        ["screen"],
        ["screen", "--data", "nothing.csv"],
        ["screen", "--data", "table.csv", "--json", "no/such/folder.json"],
    ],
)
def test_wrong_requests_exit_with_2(table: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "error: " in told
    assert "Traceback" not in told
    assert not Path("store.db").exists()


def test_a_packaged_dataset_is_screened_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["screen", "--data", "splitwise"]) == 0
    assert "1260 rows" in capsys.readouterr().out
