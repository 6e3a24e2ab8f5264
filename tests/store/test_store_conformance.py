"""What every store does, whatever it lives in: run against an SQLite file, SQLite in memory, and PostgreSQL."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewmark.core import (
    CANONICAL_COLUMNS,
    Case,
    Cost,
    Deployment,
    InputError,
    Measurement,
    Prediction,
    Projection,
    Requests,
    Sample,
    Status,
    StoreError,
    Workload,
)
from fewmark.core.columns import COUNT_COLUMNS, SERVING_COLUMNS
from fewmark.store import Annotation, Store, open_store

Make = Callable[..., Measurement]


def forecast(case: Case, value: float | None = 10.0, **fields: object) -> Prediction:
    known: dict[str, object] = {
        "metric": "throughput_tok_s",
        "low": 9.0,
        "high": 11.0,
        "confidence_level": 0.9,
        "provenance": "interpolated",
        "model": "auto",
    }
    return Prediction(case=case, value=value, **(known | fields))  # type: ignore[arg-type]


def test_what_is_added_comes_back_equal_and_in_order(store: Store, make_measurement: Make) -> None:
    added = [make_measurement(number) for number in (5, 3, 4, 1)]
    assert store.add(iter(added)) == 4
    back = list(store.measurements())
    assert back == added
    assert [item.measurement_id for item in back] == [item.measurement_id for item in added]
    assert json.dumps([item.to_dict() for item in back]) == json.dumps([item.to_dict() for item in added])


def test_equal_content_is_stored_once(store: Store, make_measurement: Make) -> None:
    assert store.add([make_measurement(1), make_measurement(1), make_measurement(2)]) == 2
    assert store.add([make_measurement(2), make_measurement(3)]) == 1
    assert store.add([make_measurement(1)]) == 0
    assert store.add([]) == 0
    assert store.count() == 3
    assert len(store.environments()) == 3
    assert len(store.deployments()) == 3


def test_a_repeat_of_a_case_is_another_measurement(store: Store, make_measurement: Make) -> None:
    first, second = make_measurement(1), make_measurement(1, samples=(Sample(e2e_latency_s=9.0),))
    assert store.add([first, second]) == 2
    assert store.case_ids() == {first.case.case_id}


def test_more_than_a_batch_and_a_page(store: Store, make_measurement: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewmark.store.store.BATCH", 450)
    added = [make_measurement(number) for number in range(1_045)]
    assert store.add(added) == len(added)
    assert list(store.measurements()) == added
    assert store.table()["measurement_id"] == [item.measurement_id for item in added]


def test_reading_while_adding_sees_each_measurement_once(store: Store, make_measurement: Make) -> None:
    store.add(make_measurement(number) for number in range(1_050))
    seen = []
    for item in store.measurements():
        if len(seen) in (0, 700):
            store.add([make_measurement(10_000 + len(seen))])
        seen.append(item.row)
    assert seen == [*range(1, 1_051), 10_001, 10_701]


def test_filters(store: Store, make_measurement: Make) -> None:
    items = [make_measurement(number) for number in range(40)]
    items.append(make_measurement(40, status=Status.OUT_OF_MEMORY, samples=(), error="no room"))
    store.add(items)

    def rows(**filters: object) -> list[int | None]:
        found = [item.row for item in store.measurements(**filters)]  # type: ignore[arg-type]
        of_table = store.table(**filters)["measurement_id"]  # type: ignore[arg-type]
        assert of_table == [items[row - 1].measurement_id for row in found if row is not None]
        if "case_ids" not in filters:
            assert store.count(**filters) == len(found)  # type: ignore[arg-type]
        return found

    def expected(keep: Callable[[Measurement], bool]) -> list[int | None]:
        kept = [item.row for item in items if keep(item)]
        assert 0 < len(kept) < len(items)
        return kept

    chosen = items[7].case.deployment
    same = expected(lambda item: item.case.deployment == chosen)
    assert rows(deployment=chosen) == rows(deployment=chosen.deployment_id) == same
    assert rows(deployment={"model": "model-2"}) == expected(lambda item: item.case.deployment.model == "model-2")
    wanted = {"engine": "vllm", "model": ["model-1", "model-2"], "accelerator_count": 1}
    assert rows(deployment=wanted) == expected(
        lambda item: (
            item.case.deployment.engine == "vllm"
            and item.case.deployment.model in wanted["model"]  # type: ignore[operator]
            and item.case.deployment.accelerator_count == 1
        )
    )
    assert rows(deployment={"accelerator": None}) == expected(lambda item: item.case.deployment.accelerator is None)
    assert rows(deployment={"accelerator": ["A100", None]}) == [item.row for item in items]
    assert rows(statuses=["out_of_memory"]) == [41]
    assert rows(statuses=[Status.OK], sources=["source-1"]) == expected(lambda item: item.source == "source-1")
    assert rows(deployment={"model": "no such"}) == rows(statuses=[]) == rows(case_ids=[]) == []
    cases = [items[9].case.case_id, items[2].case.case_id, "unknown"]
    assert sorted(rows(case_ids=cases)) == expected(lambda item: item.case.case_id in cases)
    assert store.case_ids() == {item.case.case_id for item in items}
    assert store.case_ids(["out_of_memory"]) == {items[40].case.case_id}
    assert store.case_ids(deployment=chosen) == {item.case.case_id for item in items if item.row in same}
    assert {item.deployment_id for item in store.deployments()} == {
        item.case.deployment.deployment_id for item in items
    }


def test_many_case_ids(store: Store, make_measurement: Make) -> None:
    items = [make_measurement(number) for number in range(30)]
    store.add(items)
    ids = [*(f"unknown-{number}" for number in range(2_000)), *(item.case.case_id for item in items)]
    assert len(list(store.measurements(case_ids=iter(ids)))) == 30


@pytest.mark.parametrize("wrong", [{"gpu": "A100"}, 7, {"accelerator_count": "many"}])
def test_wrong_filters_are_refused(store: Store, wrong: object) -> None:
    with pytest.raises(InputError):
        store.measurements(deployment=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="list"):
        store.table(statuses="ok")


def test_the_table_holds_medians_and_every_axis(store: Store) -> None:
    deployment = Deployment("vllm", "m", placement={"weights": "cpu"}, engine_options={"eager": True, "sizes": [1, 2]})  # type: ignore[arg-type]
    workload = Workload(100, 50, concurrency=4, options={"rate": 2.5})  # type: ignore[arg-type]
    samples = [Sample(e2e_latency_s=value, ttft_s=1.0) for value in (5.0, 3.0, 10.0)]
    measured = Measurement(
        Case(deployment, workload),
        samples=samples,  # type: ignore[arg-type]
        cost=Cost(wall_s=20.0),
        flags=("a", "b"),
        extra={"note": "x", "status": "foreign"},  # type: ignore[arg-type]
    )
    imported = Measurement(
        Case(Deployment("tgi", "m"), Workload(10, 10, batch_size=2)),
        samples=(Sample(throughput_tok_s=7.0),),
        provenance="imported",
        source="paper",
    )
    store.add([measured, imported])
    table = store.table()
    assert list(table)[: len(CANONICAL_COLUMNS)] == list(CANONICAL_COLUMNS)
    frame = pd.DataFrame(table)
    first, second = (frame.iloc[i].to_dict() for i in range(2))
    assert first["e2e_latency_s"] == 5.0
    assert first["tpot_s"] == pytest.approx(4 / 49)
    assert (first["n_repeats"], first["wall_s"], first["concurrency"], first["flag"]) == (3, 20.0, 4, "a;b")
    assert json.loads(first["placement"]) == {"weights": "cpu"}
    assert (first["option.eager"], first["option.sizes"]) == (True, "[1,2]")
    assert (first["workload.rate"], first["note"], first["status"]) == (2.5, "x", "ok")
    assert math.isnan(first["batch_size"])
    # An imported value stands alone: nothing is filled in before it was screened.
    assert (second["throughput_tok_s"], second["source"], second["batch_size"]) == (7.0, "paper", 2)
    assert math.isnan(second["e2e_latency_s"]) and math.isnan(second["n_repeats"])
    assert second["option.eager"] is None
    for name in ("e2e_latency_s", "power_w", "accelerator_count", "input_tokens"):
        assert frame[name].dtype == "float64"


def test_serving_is_kept_beside_batches(store: Store) -> None:
    deployment = Deployment("vllm", "m")
    requests = Requests(e2e_latency_s=(1.1, 2.2, None), ttft_s=(0.1, 0.2, None), output_tokens=(11, 11, None))
    sample = Sample(throughput_tok_s=20.0, statistics={"goodput_req_s": 1.5}, requests=requests)  # type: ignore[arg-type]
    served = Measurement(Case(deployment, Workload(100, 11, request_rate=2.5)), samples=(sample,))
    batch = Measurement(Case(deployment, Workload(100, 11, batch_size=2)), samples=(Sample(e2e_latency_s=2.0),))
    older = Measurement(
        Case(deployment, Workload(100, 11, concurrency=2)),
        samples=(Sample(ttft_s=0.3),),
        provenance="imported",
        extra={"ttft_p99_s": 0.4, "itl_p50_s": "n/a", "note": "converted"},  # type: ignore[arg-type]
    )
    store.add_predictions([forecast(served.case, 0.5, low=0.1, high=0.9, metric="ttft_p50_s")])
    assert store.add([served, batch, older]) == 3
    assert store.add([served, older]) == 0
    assert list(store.measurements()) == [served, batch, older]
    table = store.table()
    frame = pd.DataFrame(table)
    assert frame["request_rate"].tolist()[0] == 2.5 and frame["request_rate"].isna().tolist() == [False, True, True]
    assert frame["ttft_p50_s"].tolist()[0] == 0.1 and math.isnan(frame["ttft_p99_s"][0])  # of two requests
    assert frame["ttft_p99_s"][2] == 0.4
    assert frame["goodput_req_s"].tolist()[0] == 1.5 and math.isnan(frame["goodput_req_s"][1])
    assert frame["n_failed"].tolist()[0] == 1 and frame["ttft_s"].tolist()[0] == pytest.approx(0.15)
    assert table["statistic"] == ["mean", "median", None]
    assert table["note"][0].startswith("too few requests") and table["note"][1:] == [None, "converted"]
    assert "itl_p50_s" not in frame  # no number was known
    assert store.table(case_ids=[batch.case.case_id])["statistic"] == ["median"]
    (outcome,) = store.outcomes("ttft_p50_s")
    assert (outcome.measurement_id, outcome.actual) == (served.measurement_id, 0.1)


def test_an_empty_store_reads_as_empty(store: Store) -> None:
    assert list(store.measurements()) == list(store.predictions()) == store.deployments() == store.annotations() == []
    assert set(CANONICAL_COLUMNS) <= set(store.table())
    assert {len(column) for column in store.table().values()} == {0}


def test_forecasts_are_kept_and_scored_by_what_comes_later(store: Store, make_measurement: Make) -> None:
    early, later, again = make_measurement(1), make_measurement(2), make_measurement(2, row=77)
    store.add([early])
    forecasts = [
        forecast(early.case),
        forecast(later.case, 20.0),
        forecast(later.case, 0.5, metric="ttft_s", similarity=0.25),
        forecast(later.case, None, low=None, high=None, provenance="abstained", abstained="too far", model="ala"),
    ]
    assert store.add_predictions(forecasts) == 4
    assert store.add_predictions(forecasts[:2]) == 0
    assert list(store.predictions()) == forecasts
    assert list(store.predictions(case_ids=[early.case.case_id])) == forecasts[:1]
    assert list(store.predictions(metric="ttft_s", model="auto")) == forecasts[2:3]
    assert list(store.outcomes("throughput_tok_s")) == []
    store.add([later, again, make_measurement(2, status="crashed", samples=(), row=5)])
    found = list(store.outcomes("throughput_tok_s", model="auto"))
    assert [(item.prediction, item.measurement_id) for item in found] == [
        (forecasts[1], later.measurement_id),
        (forecasts[1], again.measurement_id),
    ]
    assert found[0].actual == later.median("throughput_tok_s")
    assert [item.prediction.similarity for item in store.outcomes("ttft_s")] == [0.25, 0.25]
    with pytest.raises(InputError):
        store.outcomes("beauty")


def test_a_forecast_may_be_for_a_case_never_measured(store: Store, make_measurement: Make) -> None:
    case = make_measurement(1).case
    assert store.add_predictions([forecast(case)]) == 1
    assert [item.case for item in store.predictions()] == [case]
    assert store.deployments() == [case.deployment]
    assert store.case_ids() == set()


def test_marks_are_appended_and_the_last_holds(store: Store, make_measurement: Make) -> None:
    items = [make_measurement(number) for number in range(3)]
    store.add(items)
    one, two, _ = (item.measurement_id for item in items)
    exclude = Annotation(one, "impossible-speed", "exclude", "170 times too fast")
    correct = Annotation(two, "batch", "correct", "a chunk size", {"batch_size": 1})  # type: ignore[arg-type]
    assert store.annotate([exclude, correct, exclude]) == 2
    assert store.annotate([exclude]) == 0
    assert store.annotations() == [exclude, correct]
    clear = Annotation(one, "impossible-speed", "clear", "the clock was wrong")
    assert store.annotate([Annotation(one, "outlier", "clear"), clear]) == 1
    assert store.annotations() == [correct]
    assert store.annotate([exclude]) == 1
    assert store.annotations([one]) == [exclude]
    assert store.annotations(history=True) == [exclude, correct, clear, exclude]
    assert list(store.measurements()) == items
    with pytest.raises(InputError, match="measurement of the store"):
        store.annotate([correct, Annotation("nothing", "outlier", "warn")])
    with pytest.raises(InputError, match="action"):
        Annotation(one, "outlier", "delete")


def test_values_that_cannot_be_stored_are_refused(store: Store, make_measurement: Make) -> None:
    with pytest.raises(InputError, match="finite number"):
        store.add([make_measurement(1), make_measurement(2, cost=Cost(wall_s=math.nan))])
    with pytest.raises(InputError, match="cannot be stored"):
        store.add_predictions([forecast(make_measurement(1).case, math.inf)])
    with pytest.raises(InputError, match="cannot be stored"):
        store.add([make_measurement(1, row=10**400)])
    assert store.count() == 0


def test_threads_share_a_store(store: Store, make_measurement: Make) -> None:
    failures: list[BaseException] = []
    added: list[int] = []

    def work(first: int) -> None:
        try:
            for start in range(first, first + 60, 7):
                added.append(store.add(make_measurement(number) for number in range(start, start + 7)))
                assert store.count() >= sum(1 for _ in itertools.islice(store.measurements(), 7))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(20 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    rows = [item.row for item in store.measurements()]
    assert sorted(rows) == list(range(1, 164)) and sum(added) == 163


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count()


def test_opening_again_finds_everything(durable_url: str, make_measurement: Make) -> None:
    with open_store(durable_url) as store:
        store.add([make_measurement(1)])
    with open_store(durable_url, create=False) as store:
        assert store.add([make_measurement(1), make_measurement(2)]) == 1
        assert store.count() == 2


TEXT = st.text(min_size=1, max_size=8)
WORDS = TEXT.filter(lambda text: text.strip() != "")
NUMBERS = st.floats(min_value=1e-9, max_value=1e12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
COUNTS = st.none() | st.integers(1, 2**53)
DEPLOYMENTS = st.builds(
    Deployment,
    engine=WORDS,
    model=WORDS,
    precision=st.none() | WORDS,
    accelerator=st.none() | WORDS,
    accelerator_count=COUNTS,
    placement=st.none() | TEXT | OPTIONS,
    engine_options=OPTIONS,
)
WORKLOADS = st.builds(Workload, NUMBERS, NUMBERS, batch_size=st.integers(1, 2**53), options=OPTIONS) | st.builds(
    Workload, NUMBERS, NUMBERS, concurrency=st.integers(1, 1000)
)
WORKLOADS |= st.builds(Workload, NUMBERS, NUMBERS, request_rate=NUMBERS)
CASES = st.builds(Case, DEPLOYMENTS, WORKLOADS)
SAMPLES = st.builds(
    Sample,
    e2e_latency_s=st.none() | NUMBERS,
    ttft_s=st.none() | NUMBERS,
    throughput_tok_s=st.none() | NUMBERS,
    token_times_s=st.lists(NUMBERS, max_size=3),
    statistics=st.dictionaries(st.sampled_from((*SERVING_COLUMNS, *COUNT_COLUMNS)), NUMBERS, max_size=3),
    requests=st.none()
    | st.lists(st.tuples(st.none() | NUMBERS, st.none() | NUMBERS), max_size=4).map(
        lambda pairs: Requests(e2e_latency_s=tuple(e2e for e2e, _ in pairs), ttft_s=tuple(ttft for _, ttft in pairs))
    ),
)
MEASUREMENTS = st.builds(
    Measurement,
    case=CASES,
    status=st.sampled_from(Status),
    samples=st.lists(SAMPLES, max_size=3),
    provenance=st.sampled_from(["measured", "projected", "imported"]),
    cost=st.builds(Cost, wall_s=st.none() | NUMBERS),
    environment=OPTIONS,
    flags=st.lists(st.text(max_size=5), max_size=2),
    error=st.none() | st.text(max_size=20),
    source=st.none() | st.text(max_size=5),
    row=COUNTS,
    measured_at=st.none() | st.text(max_size=5),
    n_repeats=COUNTS,
    extra=OPTIONS,
)


# One store for all examples: what one leaves behind must not disturb the next.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEASUREMENTS, min_size=1, max_size=3))
@pytest.mark.slow
def test_any_measurement_comes_back(store: Store, items: list[Measurement]) -> None:
    before = {item.measurement_id for item in store.measurements()}
    ids = {item.measurement_id for item in items}
    assert store.add(items) == len(ids - before)
    for item in items:
        filters = {name: getattr(item.case.deployment, name) for name in ("engine", "accelerator", "accelerator_count")}
        found = {
            other.measurement_id: other
            for other in store.measurements(case_ids=[item.case.case_id], deployment=filters, statuses=[item.status])
        }
        back = found[item.measurement_id]
        assert Measurement.from_dict(json.loads(json.dumps(back.to_dict()))) == back
        assert back.case.case_id == item.case.case_id
        if item.measurement_id not in before:
            assert back.to_dict() in [other.to_dict() for other in items]
    assert len(set(map(len, store.table().values()))) == 1


@pytest.mark.parametrize("provenance", ["measured", "projected"])
def test_rates_follow_from_latencies_however_far_an_even_number_of_repeats_lies_apart(provenance: str) -> None:
    case = Case(Deployment("vllm", "m"), Workload(100, 11, batch_size=4))
    samples = tuple(Sample(e2e_latency_s=e2e, ttft_s=0.5) for e2e in (9.5, 1.5, 2.0, 3.0))
    measured = Measurement(case, samples=samples, provenance=provenance)
    with open_store("sqlite:///:memory:") as store:
        store.add([measured])
        row = {name: values[0] for name, values in store.table().items()}
    assert row["e2e_latency_s"] == 2.5
    assert row["throughput_tok_s"] == pytest.approx(4 * 11 / 2.5) == measured.median("throughput_tok_s")
    assert row["total_throughput_tok_s"] == pytest.approx(4 * 111 / 2.5) == measured.median("total_throughput_tok_s")
    assert measured.median("decode_throughput_tok_s") == pytest.approx(4 * 10 / 2.0)


def test_projections_are_kept_told_apart_and_no_truth(store: Store, make_measurement: Make) -> None:
    projection = Projection("growth", 8, (12.0, 14.0), 11.0, 16.0, 0.9)
    projected = make_measurement(2, provenance="projected", projection=projection)
    store.add([make_measurement(1)])
    store.add_predictions([forecast(projected.case)])
    assert store.add([projected]) == 1
    back = list(store.measurements())[1]
    assert back == projected and back.projection == projection
    assert back.interval("e2e_latency_s") == (11.0, 16.0)
    row = pd.DataFrame(store.table()).iloc[1]
    assert (row["provenance"], row["projection_rule"], row["generated_tokens"]) == ("projected", "growth", 8)
    assert (row["e2e_latency_s"], row["e2e_latency_s_low"], row["e2e_latency_s_high"]) == (13.0, 11.0, 16.0)
    assert row["throughput_tok_s"] == pytest.approx(projected.case.workload.load * 64 / 13.0)
    assert store.case_ids(provenances=["measured"]) == {make_measurement(1).case.case_id}
    assert store.case_ids() == {make_measurement(1).case.case_id, projected.case.case_id}
    assert list(store.outcomes("throughput_tok_s")) == []
    store.add([make_measurement(2)])
    assert [item.measurement_id for item in store.outcomes("throughput_tok_s")] == [make_measurement(2).measurement_id]
