"""Predictions are put on record, and scored by what is measured afterwards and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark.cli import main


def grid() -> pd.DataFrame:
    table = pd.MultiIndex.from_product(
        [(128, 256, 512, 1024), (64, 128), (1, 2, 4, 8, 16)], names=["input_tokens", "output_tokens", "batch_size"]
    ).to_frame(index=False)
    ii, oo, bb = table.to_numpy(float).T
    table["e2e_latency_s"] = 0.02 + oo * (4e-3 + 1e-4 * bb) + 1e-5 * bb * ii
    table["throughput_tok_s"] = bb * oo / table["e2e_latency_s"]
    return table.assign(engine="vllm", model="llama", accelerator="H100")


@pytest.mark.slow
def test_predictions_from_a_store_are_scored_when_their_cases_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = grid()
    later = np.arange(len(table)) % 3 == 0
    slow = table[later].assign(e2e_latency_s=table["e2e_latency_s"] * 2, throughput_tok_s=table["throughput_tok_s"] / 2)
    table[~later].to_csv(tmp_path / "known.csv", index=False)
    slow.to_csv(tmp_path / "later.csv", index=False)
    table[later].drop(columns=["e2e_latency_s", "throughput_tok_s"]).to_csv(tmp_path / "cases.csv", index=False)
    store = ["--store", f"sqlite:///{tmp_path / 'x.db'}"]

    def ledger() -> dict[str, object]:
        capsys.readouterr()
        assert main(["ledger", *store, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    assert main(["import", str(tmp_path / "known.csv"), *store]) == 0
    assert ledger() == {"rows": [], "n_predictions": 0, "n_waiting": 0}
    predict = ["predict", "--cases", str(tmp_path / "cases.csv"), "--model", "mechanistic", *store]
    assert main(predict) == 0
    waiting = ledger()
    assert (waiting["n_predictions"], waiting["n_waiting"], waiting["rows"]) == (int(later.sum()), int(later.sum()), [])
    assert main(["import", str(tmp_path / "later.csv"), *store]) == 0
    scored = ledger()
    assert scored["n_waiting"] == 0
    rows = scored["rows"]
    assert isinstance(rows, list)
    assert sum(row["n"] for row in rows) == int(later.sum())
    for row in rows:
        assert row["model"] == "mechanistic"
        assert row["median_ape"] == pytest.approx(1.0, abs=0.05), "all were measured twice as slow as predicted"
        assert row["bias"] == pytest.approx(1.0, abs=0.05)
        assert (row["promised"], row["held"]) == (pytest.approx(0.9), 0.0)


def test_a_store_that_is_not_there_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--store", f"sqlite:///{tmp_path / 'none.db'}"]) == 2
    assert "Traceback" not in capsys.readouterr().err
