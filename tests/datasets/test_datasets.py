"""The packaged datasets: whole, as published, with their licence, and buildable again."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark import datasets
from fewmark.core import CANONICAL_COLUMNS, InputError
from fewmark.datasets import build
from fewmark.interop import read_table


@pytest.mark.parametrize("name", datasets.names())
def test_every_table_is_the_one_that_was_packaged(name: str) -> None:
    about = datasets.describe(name)
    folder = files("fewmark.datasets") / "data" / name
    assert (folder / "LICENSE").read_text(encoding="utf-8").strip()
    assert about["citation"] in (folder / "CITATION").read_text(encoding="utf-8")
    for table, told in about["tables"].items():
        assert hashlib.sha256((folder / told["file"]).read_bytes()).hexdigest() == told["sha256"]
        frame = datasets.load(name, table)
        assert len(frame) == told["n_rows"]
        assert tuple(frame.columns[: len(CANONICAL_COLUMNS)]) == CANONICAL_COLUMNS
        assert frame.attrs["licence"] == about["licence"]
        assert frame.attrs["citation"] == about["citation"]


def test_the_published_values_can_be_told() -> None:
    frame = datasets.load("llm-inference-bench")
    assert len(frame) == 3286
    first = frame.iloc[0]
    assert (first["accelerator"], first["engine"], first["model"]) == (
        "Nvidia A100 GPU",
        "Deepspeed-MII",
        "meta-llama/Llama-2-7b-hf",
    )
    assert (first["e2e_latency_s"], first["total_throughput_tok_s"]) == (2.728496789932251, 93.82455605027724)
    consistent = frame["throughput_tok_s"].notna()
    assert (frame["engine"][~consistent] == "llama.cpp").all()
    np.testing.assert_allclose(
        frame["throughput_tok_s"][consistent] * 2, frame["total_throughput_tok_s"][consistent], rtol=1e-3
    )


@pytest.mark.slow
def test_screening_on_request_only_drops_rows() -> None:
    frame, screened = (datasets.load("llm-inference-bench", screened=flag) for flag in (False, True))
    assert 0 < len(screened) < len(frame)
    assert screened.attrs == frame.attrs
    pd.testing.assert_frame_equal(screened, frame.loc[screened.index])
    cell = ["engine", "model", "accelerator", "accelerator_count"]
    rest = screened[screened["engine"] != "llama.cpp"].drop_duplicates([*cell, "input_tokens", "batch_size"])
    grouped = rest.groupby(cell)
    eligible = (
        (grouped.size() >= 16) & (grouped["input_tokens"].nunique() >= 4) & (grouped["batch_size"].nunique() >= 4)
    )
    assert int(eligible.sum()) == 91


@pytest.mark.parametrize(("name", "table"), [("nonsense", "main"), ("splitwise", "nonsense"), ("../splitwise", "main")])
def test_unknown_names_are_told_the_known_ones(name: str, table: str) -> None:
    with pytest.raises(InputError, match="one of"):
        datasets.load(name, table)


def test_building_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "origin" / "mini"
    origin.mkdir(parents=True)
    (origin / "LICENSE").write_text("free")
    (origin / "table.csv").write_text("model,input_tokens,output_tokens,batch_size,e2e_latency_s\nm,1,2,3,0.1\n")
    source = build.Source("mini", "Mini", "https://example.org", "MIT", "Somebody 2024", {"main": "table.csv"})
    monkeypatch.setattr(build, "SOURCES", (source,))
    (first,), (second,) = (build.build(tmp_path / "origin", tmp_path / out) for out in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    pd.testing.assert_frame_equal(read_table(first / "main.parquet"), read_table(origin / "table.csv"))
    (origin / "LICENSE").unlink()
    with pytest.raises(InputError, match="licence"):
        build.build(tmp_path / "origin", tmp_path / "c")


def test_the_build_command_tells_a_missing_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([]) == 2
    assert build.main([str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err
