"""Comparing: nominal error rates, planted slowdowns found, what sets two tables apart, and clear refusals."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import fewmark
from fewmark.cli import main
from fewmark.cli.compare import command
from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Workload
from fewmark.decide.compare import Comparison, compare, holm, noise_factors
from fewmark.store import open_store

CELLS = 12
BATCHES = (1, 2, 4, 8, 16, 32)


def simulated(
    rng: np.random.Generator, runs: int, ratio: float, *, changed: int = CELLS, spread: float = 0.0
) -> Comparison:
    """Throughput of runs at a CV of 4%, with the first `changed` cells' ratio planted."""
    cell = np.repeat(np.arange(CELLS), runs)
    level = rng.normal(5, 1, CELLS)
    planted = np.where(np.arange(CELLS) < changed, np.log(ratio), 0.0)
    sd = 0.04 * np.exp(spread * rng.normal(size=CELLS))
    a, b = (np.exp(mean[cell] + sd[cell] * rng.normal(size=len(cell))) for mean in (level, level + planted))
    return compare(a, cell, b, cell, higher_is_better=True)


def shares(runs: int, ratio: float, draws: int = 250, spread: float = 0.0) -> tuple[Counter[str], Counter[str]]:
    """Percentages of verdicts of cells, and over all."""
    rng = np.random.default_rng([runs, int(ratio * 100)])
    cells, whole = Counter[str](), Counter[str]()
    for _ in range(draws):
        found = simulated(rng, runs, ratio, spread=spread)
        cells.update(found.cells.verdicts)
        whole[found.verdict] += 1
    return tuple(Counter({k: 100 * v / of.total() for k, v in of.items()}) for of in (cells, whole))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("runs", "ratio", "verdict", "least"),
    [(3, 1.0, "PASS", 92), (3, 0.85, "FAIL", 50), (3, 0.8, "FAIL", 96), (2, 1.0, "PASS", 80), (2, 0.8, "FAIL", 86)],
)
def test_cells_are_told_with_few_runs(runs: int, ratio: float, verdict: str, least: float) -> None:
    cells, whole = shares(runs, ratio)
    assert cells[verdict] >= least - 1.5  # the share itself is simulated
    assert whole[verdict] >= 93


@pytest.mark.parametrize("runs", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_at_the_threshold_verdicts_are_rarely_wrong(runs: int, spread: float) -> None:
    cells, whole = shares(runs, 0.9, spread=spread)
    assert cells["PASS"] <= 6.5
    assert cells["FAIL"] <= 6.5
    assert whole["PASS"] <= 8  # 5%, of 250 draws
    assert whole["FAIL"] <= (8 if not spread else 12)


def test_a_slowdown_of_one_cell_is_not_passed_over() -> None:
    rng = np.random.default_rng(3)
    found = Counter(simulated(rng, 3, 0.8, changed=1).verdict for _ in range(100))
    assert found["PASS"] <= 1
    assert found["FAIL"] >= 60


def test_every_cell_must_pass_if_asked() -> None:
    cell = np.repeat(np.arange(2), 3)
    wobble = np.tile([0.99, 1.0, 1.01], 2)
    b = wobble * np.where(cell == 0, 0.905, 1.0)
    assert compare(wobble, cell, b, cell, higher_is_better=True).verdict == "PASS"
    assert compare(wobble, cell, b, cell, higher_is_better=True, every_cell=True).verdict == "INCONCLUSIVE"


def test_direction_goes_by_the_metric() -> None:
    cell = np.repeat(np.arange(3), 3)
    a = np.tile([0.99, 1.0, 1.01], 3)
    assert compare(a, cell, 1.3 * a, cell, higher_is_better=False).verdict == "FAIL"
    found = compare(a, cell, 1.3 * a, cell, higher_is_better=True)
    assert found.verdict == "PASS"
    assert all(found.cells.faster)
    assert not any(found.cells.equivalent)
    assert found.ratio == pytest.approx(1.3)
    assert found.low < 1.3 < found.high


def test_one_pair_of_runs_tells_nothing() -> None:
    cell = np.arange(3)
    found = compare(np.ones(3), cell, np.array([0.5, 0.7, 0.6]), cell, higher_is_better=True)
    assert found.verdict == "INCONCLUSIVE"
    assert found.noise == "unknown"
    assert np.isnan(found.low)


def test_copies_are_no_repeats() -> None:
    cell = np.repeat(np.arange(2), 3)
    found = compare(np.ones(6), cell, np.full(6, 0.7), cell, higher_is_better=True)
    assert found.noise == "unknown"
    assert found.verdict == "INCONCLUSIVE"


def test_one_run_of_many_cells_is_judged_by_their_spread() -> None:
    rng = np.random.default_rng(0)
    cell = np.arange(CELLS)
    b = np.exp(0.03 * rng.normal(size=CELLS))
    assert compare(np.ones(CELLS), cell, 0.75 * b, cell, higher_is_better=True).verdict == "FAIL"
    found = compare(np.ones(CELLS), cell, b, cell, higher_is_better=True)
    assert found.noise == "spread over cells"
    assert found.verdict == "PASS"


def test_a_side_without_repeats_borrows_the_noise_of_the_other() -> None:
    rng = np.random.default_rng(0)
    cell = np.repeat(np.arange(6), 4)
    a = np.exp(0.03 * rng.normal(size=24))
    found = compare(a, cell, np.full(6, 0.7), np.arange(6), higher_is_better=True)
    assert found.verdict == "FAIL"
    assert np.isnan(found.cv_b)
    assert found.df == pytest.approx(18)


def test_holm_is_that_of_the_paper() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([np.nan, 0.01])) == pytest.approx([1.0, 0.02])


def test_noise_is_pooled_where_cells_are_alike_and_their_own_where_not() -> None:
    rng = np.random.default_rng(0)
    df = np.full(40, 4.0)
    factor, more = noise_factors(rng.chisquare(4, 40), df)
    assert (factor == 1).all()
    assert np.isinf(more).all()
    scale = np.where(np.arange(40) < 20, 0.1, 1.9)
    factor, more = noise_factors(scale * rng.chisquare(4, 40), df)
    assert factor[:20].mean() < 0.4 < 1 < factor[20:].mean()
    assert (more > 4).all()


def table(version: str, factor: float = 1.0, runs: int = 3, seed: int = 0, **more: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {
            "engine": "vllm", "engine_version": version, "model": "m", "input_tokens": 128, "output_tokens": 64,
            "batch_size": batch, "e2e_latency_s": factor * (1 + batch / 16) * np.exp(0.03 * rng.normal()), **more,
        }
        for batch in BATCHES
        for _ in range(runs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_what_differs_throughout_is_compared() -> None:
    found = fewmark.compare(table("0.8"), table("0.9", 1.4, seed=1))
    assert found.verdict == "FAIL"
    assert dict(found.common.compared) == {"engine_version": (("0.8",), ("0.9",))}
    assert found.metric == "throughput_tok_s"
    assert found.cells["ratio"].to_numpy() == pytest.approx(np.full(6, 1 / 1.4), rel=0.1)
    slower = fewmark.compare(table("0.8"), table("0.9", 1.4, seed=1), metric="e2e_latency_s")
    assert slower.verdict == "FAIL"
    assert slower.overall is not None
    assert slower.overall.ratio > 1.3


def test_a_slowdown_of_one_cell_is_no_fault_to_screen_away() -> None:
    b = table("0.9", seed=1)
    b.loc[b["batch_size"] == 4, "e2e_latency_s"] *= 3
    found = fewmark.compare(table("0.8"), b)
    assert found.verdict == "FAIL"
    assert list(found.cells.loc[found.cells["verdict"] == "FAIL", "batch_size"]) == [4]


def test_cells_of_one_side_are_counted_and_failures_fail() -> None:
    b = table("0.9", seed=1)
    b.loc[b["batch_size"] == 1, "batch_size"] = 64
    found = fewmark.compare(table("0.8"), b)
    assert (found.counts["common"], found.counts["only_in_a"], found.counts["only_in_b"]) == (5, 1, 1)
    b = table("0.9", seed=1).assign(status="ok")
    b.loc[b["batch_size"] == 32, ["status", "e2e_latency_s"]] = ["out_of_memory", None]
    found = fewmark.compare(table("0.8"), b)
    assert found.verdict == "FAIL"
    assert found.counts["failed_in_b_only"] == 1
    assert "failed in B" in found.words


def test_lengths_that_a_client_counted_are_matched() -> None:
    found = fewmark.compare(table("1"), table("2", seed=1).assign(input_tokens=129.2))
    assert found.counts["common"] == 6
    assert any("lengths" in note for note in found.notes)
    with pytest.raises(InputError, match="no cell in common"):
        fewmark.compare(table("1"), table("2").assign(input_tokens=129.2), length_tolerance=0)


def test_several_deployments_on_a_side_must_be_chosen_from() -> None:
    both = pd.concat([table("0.8"), table("0.9", seed=1)], ignore_index=True)
    with pytest.raises(InputError, match="A has several engine_version"):
        fewmark.compare(both, table("1.0"))
    found = fewmark.compare(both, both, where_a={"engine_version": "0.8"}, where_b={"engine_version": "0.9"})
    assert found.verdict == "PASS"


def test_open_loops_are_compared_by_latency() -> None:
    a, b = (
        table(version, seed=seed).rename(columns={"batch_size": "request_rate"}).assign(throughput_tok_s=64.0)
        for seed, version in enumerate(("0.8", "0.9"))
    )
    assert fewmark.compare(a, b).metric == "e2e_latency_s"


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    a, b, folder = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "runs"
    folder.mkdir()
    table("0.8").to_csv(a, index=False)
    table("0.9", seed=1).to_csv(b, index=False)
    for run in range(3):
        table("0.9", 1.5, runs=1, seed=run).to_csv(folder / f"{run}.csv", index=False)
    (folder / "notes.md").write_text("nothing", encoding="utf-8")
    assert main(["compare", str(a), str(b)]) == 0
    result = CliRunner().invoke(command, [str(a), str(folder), "--json"], standalone_mode=False)
    assert result.return_value == 1
    found = json.loads(result.stdout)
    assert found["verdict"] == "FAIL"
    assert found["compared"] == {"engine_version": {"a": ["0.8"], "b": ["0.9"]}}
    assert {cell["n_b"] for cell in found["cells"]} == {3}
    for page in ("page.html", "page.md"):
        assert main(["compare", str(a), str(b), "--out", str(tmp_path / page)]) == 0
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "B against A: PASS" in text
        assert "threshold" in text
    for wrong in (
        ["--threshold", "0"],
        ["--threshold", "nan"],
        ["--metric", "speed"],
        ["--a", "engine"],
        ["--b", "engine=x"],
    ):
        assert main(["compare", str(a), str(b), *wrong]) == 2
    assert main(["compare", str(a), str(tmp_path / "none.csv")]) == 2


def test_a_run_in_two_files_is_no_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    runs = table("0.9", runs=1, seed=1).drop(columns="engine")
    runs.to_csv(folder / "1.csv", index=False)
    runs.to_csv(folder / "2.csv", index=False)
    found = fewmark.compare(table("0.8").drop(columns="engine"), folder)
    assert set(found.cells["n_b"]) == {1}
    assert list(found.common.compared) == ["engine_version"]
    assert any("counts once" in note for note in found.notes)


def test_a_store_is_a_side(tmp_path: Path) -> None:
    a = tmp_path / "a.csv"
    table("0.8").to_csv(a, index=False)
    store = f"sqlite:///{tmp_path / 'b.db'}"
    table("0.9", seed=1).to_csv(tmp_path / "b.csv", index=False)
    fewmark.import_files([tmp_path / "b.csv"], store=store)
    for side in (store, tmp_path / "b.db"):
        assert fewmark.compare(a, side).verdict == "PASS"


def test_repeats_of_one_measurement_are_repeats(tmp_path: Path) -> None:
    sides = []
    for version in ("0.8", "0.9"):
        rng = np.random.default_rng(len(sides))
        measurements = [
            Measurement(
                Case(Deployment(engine="vllm", model="m", engine_version=version), Workload(128, 64, batch_size=batch)),
                samples=tuple(Sample(e2e_latency_s=float(np.exp(0.03 * rng.normal()))) for _ in range(4)),
                n_repeats=4,
            )
            for batch in BATCHES
        ]
        sides.append(f"sqlite:///{tmp_path / version}.db")
        with open_store(sides[-1]) as store:
            store.add(measurements)
    found = fewmark.compare(*sides)
    assert found.verdict == "PASS"
    assert set(found.cells["n_a"]) == {4}
    assert found.overall is not None
    assert found.overall.cv_a == pytest.approx(0.03, rel=0.5)
