"""`fewmark show`: what the store holds, and of one case everything, down to the record in its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewmark.cli import main

TABLE = (
    "engine,model,gpu,isl,osl,concurrency,TTFT (ms),output tok/s,Rack\n"
    "vllm,m7b,H100,1024,128,1,41.2,119.6,7\nvllm,m7b,H100,1024,128,1,41.8,118.9,7\n"
    "vllm,m7b,H100,1024,128,8,88.0,761.2,7\nvllm,m7b,H100,1024,128,256,OOM,OOM,7\n"
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", "sqlite:///store.db")
    Path("mine.csv").write_text(TABLE)
    assert main(["import", "mine.csv"]) == 0
    capsys.readouterr()


def test_results_are_listed_in_units_with_their_spread(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    header, first, second, third = capsys.readouterr().out.splitlines()
    assert "tok/s" in header and "TTFT ms" in header
    assert "119.2 ± 0.3" in first and "41.50 ± 0.30" in first and "1024→128 tokens at concurrency 1" in first
    assert "761.2" in second and "±" not in second
    assert "out_of_memory" in third and "–" in third


def test_a_case_is_found_by_its_id_or_by_words_and_shown_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json"]) == 0
    case_id = json.loads(capsys.readouterr().out)["cases"][1]["case_id"]
    assert main(["show", case_id[:8]]) == 0
    by_id = capsys.readouterr().out
    assert main(["show", "m7b", "concurrency 8"]) == 0
    assert capsys.readouterr().out == by_id
    assert "from mine.csv, row 3 (csv" in by_id
    assert '"TTFT (ms)": "88.0"' in by_id and '"Rack": "7"' in by_id
    assert "ttft_s 0.088" in by_id
    assert main(["show", case_id, "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    (measurement,) = case["measurements"]
    assert measurement["origins"][0]["record"]["output tok/s"] == "761.2"


@pytest.mark.parametrize("case", ["a case that is not there", "00000000", "abcd", " "])
def test_what_is_not_there_is_said_with_what_is(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", case]) == 2
    assert "m7b" in capsys.readouterr().err


def test_an_empty_or_missing_store_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--store", "sqlite:///other.db"]) == 2
    assert "error: " in capsys.readouterr().err
