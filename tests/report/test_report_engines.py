"""Engines side by side: who is faster, who batches, what they say of themselves, and what is not alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewmark.core import Case, Deployment, Measurement, Sample, Workload
from fewmark.reporting import RENDERERS
from fewmark.store import open_store
from fewmark.verbs.cards.engines import engines_card
from fewmark.verbs.report import report


def measured(
    engine: str, load: int, e2e: float, *, ttft: float = 0.1, n_in: int = 128, **beside: object
) -> Measurement:
    steps = tuple(ttft + (e2e - ttft) / 15 * i for i in range(16))
    samples = tuple(
        Sample(e2e_latency_s=e2e * s, ttft_s=ttft * s, output_tokens=16, token_times_s=tuple(t * s for t in steps))
        for s in (0.98, 1.0, 1.02)
    )
    return Measurement(
        Case(Deployment(engine, "tiny", accelerator="cpu", precision="float32"), Workload(n_in, 16, batch_size=load)),
        samples=samples,
        environment={"engine": {"threads": 1, "dtype": "float32" if engine == "b" else "bfloat16"}},
        extra=beside,
    )


@pytest.fixture
def runs() -> list[Measurement]:
    return [
        measured("a", 1, 1.0, own_metrics={"ttft_s": 0.05}),
        measured("a", 8, 1.6),
        measured("a", 1, 2.0, n_in=1024),
        measured("b", 1, 1.2, own_metrics={"ttft_s": [0.2, None, 0.1, 0.09]}),
        measured("b", 8, 9.4),
    ]


def test_the_card_tells_speeds_batching_own_metrics_and_what_differs(runs: list[Measurement]) -> None:
    card = engines_card(runs)
    assert card is not None
    tables = {table.title.partition(" (")[0].partition(":")[0]: table for table in card.tables}
    speeds = tables["Throughput"]
    assert speeds.columns == ("cell", "a", "b")
    assert [row[0] for row in speeds.rows] == [
        "128 in, 16 out, batch 1",
        "128 in, 16 out, batch 8",
    ]  # shared cells alone
    assert speeds.rows[1][1] == "80 [78.43, 81.63]"
    assert [row[2:] for row in tables["Who batches"].rows] == [(1.6, "batches"), (7.83, "one after another")]
    own = tables["What the engine's own metrics say"]
    assert [(row[0], row[-1]) for row in own.rows] == [("a", 0.5), ("b", 1.0)]
    assert [advice.message.split("'")[0] for advice in card.advice] == ["a"]
    assert tables["What is not alike, as the engines tell it"].rows == (("dtype", "bfloat16", "float32"),)
    by_position = card.charts[-1]
    assert {series.name for series in by_position.series} == {"a", "b"}
    assert max(by_position.series[0].x) > 1024 and by_position.series[0].y[0] == pytest.approx(0.06)


def test_one_engine_or_no_shared_cell_is_no_comparison(runs: list[Measurement]) -> None:
    assert engines_card(runs[:3]) is None
    assert engines_card([runs[2], runs[4]]) is None


@pytest.mark.slow
def test_it_stands_in_the_report_of_a_store(runs: list[Measurement], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        store.add(runs)
    cards = report(tmp_path / "out.html", store=url, model="loglog", cache=False)
    compared = next(card for card in cards if card.kind == "engines")
    for render in RENDERERS.values():
        assert "one after another" in render([compared], "engines")
