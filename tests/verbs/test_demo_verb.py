"""The demo on recorded cells: the claim is checked for real, and a broken claim is told."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.models.registry import make_model
from fewmark.store import open_store
from fewmark.verbs.demo import demo

GRID = list(itertools.product((16, 64, 256, 1024), (8, 32, 128), (1, 2, 4, 8, 16)))


def write_grid(folder: Path, *, disturbed: bool) -> Path:
    """A suite of recorded cells; disturbed, every cell that the demo does not measure first is five times slower."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(GRID, columns=["input_tokens", "output_tokens", "batch_size"])
    ii, oo, bb = table.to_numpy(float).T
    latency = 0.01 + oo * (4e-3 + 2e-4 * bb) + 1e-5 * bb * ii * np.exp(rng.normal(0, 0.01, len(table)))
    if disturbed:
        first = make_model("mechanistic").design(table.astype(float), 15)
        latency[np.setdiff1d(np.arange(len(table)), first)] *= 5
    table["e2e_latency_s"], table["throughput_tok_s"] = latency, bb * oo / latency
    table["engine"], table["model"], table["accelerator"] = "recorded", "llama", "H100"
    table.to_csv(folder / "recorded.csv", index=False)
    suite = folder / "recorded.yaml"
    suite.write_text(
        "title: recorded\n"
        "deployments:\n"
        "  - engine: replay\n    model: llama\n    accelerator: H100\n"
        f"    engine_options: {{table: '{folder / 'recorded.csv'}', engine: recorded}}\n"
        "cells:\n  - grid: {input_tokens: [16, 64, 256, 1024], output_tokens: [8, 32, 128], "
        "batch_size: {powers_of_two: [1, 16]}}\n"
    )
    return suite


def test_the_demo_measures_few_predicts_the_rest_and_checks_itself(tmp_path: Path) -> None:
    suite = write_grid(tmp_path, disturbed=False)
    result = demo(tmp_path / "out", suite=str(suite), model="mechanistic", quiet=True)
    assert (result.n_grid, result.n_measured, result.n_checked) == (60, 15, 15)
    assert result.claim_holds
    assert result.median_ape < 0.03
    assert result.full_grid_s > result.measured_s
    assert json.loads((tmp_path / "out" / "demo.json").read_text())["claim_holds"] is True
    assert "15 unseen cells were measured" in Path(result.report).read_text()
    with open_store(f"sqlite:///{tmp_path / 'out' / 'measurements.db'}") as store:
        assert len(store.case_ids()) == 30
        assert len(list(store.outcomes("throughput_tok_s"))) == 15, "each checked cell was predicted before"
    again = demo(tmp_path / "out", suite=str(suite), model="mechanistic", quiet=True)
    assert again.median_ape == result.median_ape, "what was measured is used again"
    assert again.measured_s == result.measured_s


@pytest.mark.slow
def test_a_claim_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_grid(tmp_path, disturbed=True)
    options = ["--dir", str(tmp_path / "out"), "--suite", str(suite), "--model", "mechanistic", "--quiet"]
    assert main(["demo", *options]) == 1
    assert "The claim FAILS" in capsys.readouterr().out
    assert "The claim fails here" in (tmp_path / "out" / "report.html").read_text()
    assert main(["demo", *options, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["claim_holds"] is False
    assert result["n_inside"] < result["enough_inside"]


def test_more_cells_than_the_grid_has_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_grid(tmp_path, disturbed=False)
    assert main(["demo", "--dir", str(tmp_path), "--suite", str(suite), "--measure", "50", "--quiet"]) == 2
    assert "the grid must hold" in capsys.readouterr().err
