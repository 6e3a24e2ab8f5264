"""Tables to measurements and back, through files, without loss."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.core import Case, Deployment, InputError, Measurement, Requests, Sample, Status, Workload
from fewmark.core.columns import CANONICAL_COLUMNS, COUNT_COLUMNS, KNOWN_COLUMNS, SERVING_COLUMNS, STATISTICS
from fewmark.interop import from_measurements, is_complete, read_table, to_measurements, write_table

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
labels = texts.filter(lambda text: bool(text.strip())).filter(lambda text: text != "unknown")
times = st.none() | st.floats(1e-300, 1e8)  # what lies beyond is no measurement
counts = st.integers(1, 2**53)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=4
)
names = st.text("abcxyz_", min_size=1, max_size=8).filter(lambda name: name not in {*KNOWN_COLUMNS, "provenance"})
options = st.dictionaries(names, values, max_size=3)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    load = draw(st.sampled_from(["batch_size", "concurrency", "request_rate"]))
    size = counts if load != "request_rate" else st.floats(1e-6, 1e6)
    tokens = counts | st.floats(0.5, 1e6)
    stated = draw(st.dictionaries(st.sampled_from(SERVING_COLUMNS), times, max_size=3))
    stated |= draw(st.dictionaries(st.sampled_from(COUNT_COLUMNS), counts, max_size=2))
    sample = Sample(*(draw(times) for _ in range(6)), statistics=stated)  # type: ignore[arg-type]
    return Measurement(
        Case(
            Deployment(
                draw(labels),
                draw(labels),
                *(draw(st.none() | labels) for _ in range(3)),
                *(draw(st.none() | counts) for _ in range(2)),
                placement=draw(st.none() | labels | st.dictionaries(texts, texts, min_size=1, max_size=2)),  # type: ignore[arg-type]
                engine_options=draw(options),  # type: ignore[arg-type]
            ),
            Workload(draw(tokens), draw(tokens), **{load: draw(size)}, options=draw(options)),  # type: ignore[arg-type]
        ),
        status=draw(st.sampled_from(Status)),
        samples=(sample,) if sample != Sample() else (),
        provenance="imported",
        flags=tuple(draw(st.lists(st.text("abc-", min_size=1), max_size=2))),
        source=draw(st.none() | labels),
        n_repeats=draw(st.none() | st.integers(0, 1000)),
        extra=draw(options),  # type: ignore[arg-type]
        statistic=draw(st.none() | st.sampled_from(STATISTICS)),
    )


def without_row(measurement: Measurement) -> Mapping[str, Any]:
    return {name: value for name, value in measurement.to_dict().items() if name != "row"}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(measurements(), min_size=1, max_size=4), st.sampled_from([".csv", ".parquet"]))
def test_measurements_survive_a_table_and_a_file(originals: list[Measurement], suffix: str) -> None:
    frame = from_measurements(originals)
    assert list(map(without_row, to_measurements(frame))) == list(map(without_row, originals))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        write_table(frame, path)
        again = list(to_measurements(read_table(path)))
    assert list(map(without_row, again)) == list(map(without_row, originals))
    assert [item.row for item in again] == list(range(1, len(originals) + 1))


def test_what_was_measured_here_is_reduced_and_filled_in() -> None:
    case = Case(Deployment("e", "m"), Workload(100, 11, batch_size=2))
    samples = tuple(Sample(e2e_latency_s=e2e, ttft_s=1.0) for e2e in (2.0, 3.0, 100.0))
    frame = from_measurements([Measurement(case, samples=samples)])
    row = frame.iloc[0]
    assert (row["e2e_latency_s"], row["n_repeats"]) == (3.0, 3)
    assert row["tpot_s"] == pytest.approx(0.2)
    assert row["throughput_tok_s"] == pytest.approx(2 * 11 / 3)
    (again,) = to_measurements(frame)
    assert again.provenance == "measured"


def test_what_was_imported_comes_back_as_the_file_had_it() -> None:
    case = Case(Deployment("e", "m"), Workload(100, 11, batch_size=2))
    frame = from_measurements([Measurement(case, samples=(Sample(e2e_latency_s=2.0),), provenance="imported")])
    assert frame["throughput_tok_s"].isna().all()
    assert frame["n_repeats"].isna().all()


def test_an_incomplete_row_is_told_and_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("model,input_tokens,output_tokens,batch_size\nm,128,128,1\nm,128,128,\nm,,128,1\n")
    frame = read_table(path)
    assert is_complete(frame).tolist() == [True, False, False]
    with pytest.raises(InputError, match="row 2"):
        list(to_measurements(frame))
    (only,) = to_measurements(frame[is_complete(frame)])
    assert only.case.deployment.engine == "unknown"
    assert from_measurements([only])["engine"].tolist() == [None]


def test_an_empty_store_gives_an_empty_table() -> None:
    frame = from_measurements([])
    assert len(frame) == 0
    assert set(CANONICAL_COLUMNS) <= set(frame.columns)


def test_what_was_served_here_comes_with_its_percentiles_and_counts() -> None:
    case = Case(Deployment("e", "m"), Workload(100, 11, request_rate=2.5))
    requests = Requests(e2e_latency_s=(1.1, 2.2, None), ttft_s=(0.1, 0.2, None), output_tokens=(11, 11, None))
    sample = Sample(throughput_tok_s=20.0, statistics={"goodput_req_s": 1.5}, requests=requests)  # type: ignore[arg-type]
    frame = from_measurements([Measurement(case, samples=(sample,))])
    row = frame.iloc[0]
    assert (row["request_rate"], row["goodput_req_s"], row["statistic"]) == (2.5, 1.5, "mean")
    assert (row["ttft_p50_s"], row["n_requests"], row["n_failed"]) == (0.1, 2, 1)
    assert row["ttft_s"] == pytest.approx(0.15)
    (again,) = to_measurements(frame)
    assert again.case == case and again.median("ttft_p50_s") == 0.1 and again.extra["note"].startswith("too few")


def test_columns_that_were_foreign_once_are_the_table_s_own() -> None:
    case = Case(Deployment("e", "m"), Workload(100, 11, concurrency=2))
    extra = {"ttft_p99_s": 0.4, "itl_p50_s": "n/a", "request_rate": 5, "note": "converted"}
    row = from_measurements([Measurement(case, provenance="imported", extra=extra)]).iloc[0]  # type: ignore[arg-type]
    assert (row["ttft_p99_s"], row["note"], row["extra.request_rate"]) == (0.4, "converted", 5)
    assert "itl_p50_s" not in row and np.isnan(row["request_rate"])
