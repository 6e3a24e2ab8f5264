"""Tables to measurements and back, through files, without loss."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Status, Workload
from fewmark.core.columns import CANONICAL_COLUMNS
from fewmark.interop import from_measurements, is_complete, read_table, to_measurements, write_table

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
labels = texts.filter(lambda text: bool(text.strip())).filter(lambda text: text != "unknown")
times = st.none() | st.floats(1e-300, 1e300)
counts = st.integers(1, 2**53)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=4
)
names = st.text("abcxyz_", min_size=1, max_size=8).filter(lambda name: name not in {*CANONICAL_COLUMNS, "provenance"})
options = st.dictionaries(names, values, max_size=3)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    load = draw(st.sampled_from(["batch_size", "concurrency"]))
    tokens = counts | st.floats(0.5, 1e6)
    sample = Sample(*(draw(times) for _ in range(6)))
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
            Workload(draw(tokens), draw(tokens), **{load: draw(counts)}, options=draw(options)),  # type: ignore[arg-type]
        ),
        status=draw(st.sampled_from(Status)),
        samples=(sample,) if sample != Sample() else (),
        provenance="imported",
        flags=tuple(draw(st.lists(st.text("abc-", min_size=1), max_size=2))),
        source=draw(st.none() | labels),
        n_repeats=draw(st.none() | st.integers(0, 1000)),
        extra=draw(options),  # type: ignore[arg-type]
    )


def without_row(measurement: Measurement) -> Mapping[str, Any]:
    return {name: value for name, value in measurement.to_dict().items() if name != "row"}


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
