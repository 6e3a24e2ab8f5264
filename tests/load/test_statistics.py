"""What is said of a run whose every second is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fewmark.core.errors import InputError
from fewmark.load.goodput import Tier, meets
from fewmark.load.records import LoadResult, RequestStatus
from fewmark.load.request_metrics import e2e_latency_s, tpot_s, ttft_s
from fewmark.load.statistics import combine_runs, run_statistics, tokens_by_part

from .made import closed_run, record


def with_records(run: LoadResult, change) -> LoadResult:
    return replace(run, records=tuple(change(i, r) for i, r in enumerate(run.records)))


def test_a_run_that_is_always_alike_has_its_values():
    stats = run_statistics(closed_run(10, 400), 10)
    values = {name: e.value for name, e in stats.estimates.items()}
    assert values["ttft_s"] == pytest.approx(0.1)
    assert values["tpot_s"] == pytest.approx(0.02)
    assert values["itl_s"] == pytest.approx(0.02)
    assert values["e2e_latency_s"] == pytest.approx(0.3)
    assert values["request_throughput_req_s"] == pytest.approx(10 / 0.3, rel=0.01)
    assert values["throughput_tok_s"] == pytest.approx(110 / 0.3, rel=0.01)
    assert values["total_throughput_tok_s"] == pytest.approx(1110 / 0.3, rel=0.01)
    assert values["ttft_p99_s"] == pytest.approx(0.1)
    assert values["itl_p99_s"] == pytest.approx(0.02)
    assert stats.tokens_per_chunk == 1.0
    assert stats.counts.ok == 400
    assert stats.idle_gap_s == pytest.approx(0.0, abs=1e-9)


def test_streams_in_step_are_served_at_the_rate_of_their_latency():
    # 8 streams that start at once, of 300 to 307 ms: seven of the last wave end outside the window, one inside
    records = [
        record(turn * (0.3 + stream / 1000), turn * (0.3 + stream / 1000) + 0.1, [0.02 + stream / 10_000] * 10)
        for stream in range(8)
        for turn in range(7)
    ]
    run = LoadResult(tuple(replace(r, index=i, stream=i // 7) for i, r in enumerate(records)), 0.0, 2.2)
    stats = run_statistics(run, 8, [Tier("met", {"ttft_s": 0.5})])
    rate = sum(1 / (0.3 + stream / 1000) for stream in range(8))
    assert stats.estimates["request_throughput_req_s"].value == pytest.approx(rate, rel=0.01)
    assert stats.estimates["total_throughput_tok_s"].value == pytest.approx(111 * rate, rel=0.01)
    assert stats.attainments[0].goodput_req_s.value == pytest.approx(rate, rel=0.01)


def test_idle_streams_are_told():
    stats = run_statistics(closed_run(4, 200, idle=0.1), 4)
    assert stats.idle_gap_s == pytest.approx(0.1)
    assert stats.idle_share == pytest.approx(0.25)


def test_latency_is_told_from_the_schedule_and_from_the_send():
    run = with_records(closed_run(4, 200), lambda i, r: replace(r, planned_send_s=r.send_s - 0.05))
    estimates = run_statistics(run, 4).estimates
    assert estimates["ttft_s"].value == pytest.approx(0.1)
    assert estimates["ttft_from_schedule_s"].value == pytest.approx(0.15)
    assert estimates["e2e_latency_from_schedule_s"].value == pytest.approx(0.35)


def test_too_few_requests_for_a_p99_give_its_bound():
    estimate = run_statistics(closed_run(4, 100), 4).estimates["ttft_p99_s"]
    assert estimate.value is None
    assert estimate.low == pytest.approx(0.1)
    assert "299" in estimate.note


def test_chunks_of_several_tokens_keep_gaps_per_chunk_apart():
    # 8 chunks of 4 tokens, 160 ms apart: 40 ms a token after the first chunk
    run = with_records(closed_run(2, 100, tpot=0.16, tokens=8), lambda i, r: replace(r, completion_tokens=32))
    stats = run_statistics(run, 2)
    assert stats.tokens_per_chunk == 4.0
    assert stats.estimates["chunk_gap_s"].value == pytest.approx(0.16)
    assert stats.estimates["chunk_gap_p50_s"].value == pytest.approx(0.16)
    assert stats.estimates["itl_s"].value == pytest.approx(0.04)
    assert stats.estimates["itl_p50_s"].value is None
    assert "not known" in stats.estimates["itl_p50_s"].note
    assert stats.estimates["tpot_s"].value == pytest.approx(7 * 0.16 / 31)


def test_without_usage_there_is_no_throughput():
    run = with_records(closed_run(2, 100), lambda i, r: replace(r, completion_tokens=None if i == 50 else 11))
    estimates = run_statistics(run, 2).estimates
    assert estimates["throughput_tok_s"].value is None
    assert "usage" in estimates["throughput_tok_s"].note
    assert estimates["request_throughput_req_s"].value


def test_answers_that_are_not_streamed_have_no_first_token():
    run = with_records(
        closed_run(2, 100),
        lambda i, r: replace(r, first_chunk_s=None, last_token_s=None, n_chunks=0, chunk_gaps_s=r.chunk_gaps_s[:0]),
    )
    estimates = run_statistics(run, 2).estimates
    assert "ttft_s" not in estimates
    assert "tpot_s" not in estimates
    assert estimates["e2e_latency_s"].value == pytest.approx(0.3)
    assert estimates["throughput_tok_s"].value == pytest.approx(22 / 0.3, rel=0.05)


def test_tokens_of_an_answer_over_the_windows_end_are_apportioned():
    r = record(0.0, 1.0, [1.0] * 9)  # tokens at 1, 2, … 10
    assert tokens_by_part(r, [0.0, 2.5, 5.0, 20.0]) == [2.0, 3.0, 5.0]
    assert tokens_by_part(r, [3.5, 6.0]) == [3.0]
    assert tokens_by_part(replace(r, completion_tokens=20), [0.0, 2.5, 5.0, 20.0]) == [4.0, 6.0, 10.0]
    assert tokens_by_part(replace(r, first_chunk_s=None), [0.0, 5.0, 20.0]) == [0.0, 10.0]
    assert tokens_by_part(r, [11.0, 12.0]) == [0.0]


def test_failures_count_but_give_no_latency():
    run = with_records(
        closed_run(4, 400),
        lambda i, r: replace(r, status=RequestStatus.CUT, last_token_s=r.first_chunk_s) if i % 10 == 0 else r,
    )
    stats = run_statistics(run, 4, [Tier("slow", {"e2e_latency_s": 10.0})])
    assert stats.counts.failed == 40
    assert stats.estimates["e2e_latency_s"].value == pytest.approx(0.3)
    assert stats.attainments[0].share.value == pytest.approx(0.9, abs=0.01)


def test_several_tiers_are_judged_at_once():
    rng = random.Random(0)
    run = with_records(closed_run(4, 800), lambda i, r: replace(r, send_s=r.send_s - 0.2 * rng.random()))
    tight, loose = run_statistics(
        run, 4, [Tier("tight", {"ttft_s": 0.2, "tpot_s": 0.05}), Tier("loose", {"ttft_s": 0.3})]
    ).attainments
    assert tight.share.value == pytest.approx(0.5, abs=0.08)
    assert tight.share.low < 0.5 < tight.share.high
    assert loose.share.value == 1.0
    assert loose.share.low < 1.0
    total = 4 / 0.3
    assert tight.goodput_req_s.value == pytest.approx(total * tight.share.value, rel=0.02)


def test_an_objective_that_cannot_be_judged_is_not():
    tier = Tier("t", {"tpot_s": 0.01})
    one_token = record(0.0, 1.0)
    assert meets(one_token, tier)
    assert meets(record(0.0, 1.0, [0.1], tokens=None, completion_tokens=None), tier) is None
    run = with_records(closed_run(2, 100), lambda i, r: replace(r, completion_tokens=None))
    share = run_statistics(run, 2, [tier]).attainments[0].share
    assert share.value is None
    assert "lack" in share.note


@pytest.mark.parametrize("limits", [{}, {"speed": 1.0}, {"ttft_s": 0.0}, {"ttft_s": float("nan")}])
def test_tiers_without_meaning_are_refused(limits):
    with pytest.raises(InputError):
        Tier("t", limits)


def test_the_metrics_of_a_request_are_unknown_rather_than_zero():
    failed = record(0.0, None, status=RequestStatus.REFUSED, end_s=None)
    assert (ttft_s(failed), tpot_s(failed), e2e_latency_s(failed)) == (None, None, None)
    assert tpot_s(record(0.0, 1.0)) is None


def test_repeats_are_combined_by_their_own_spread():
    runs = [run_statistics(closed_run(4, 400, ttft=t), 4) for t in (0.10, 0.11, 0.12)]
    combined = combine_runs(runs)
    assert combined["ttft_s"].value == pytest.approx(0.11)
    assert combined["ttft_s"].n == 3
    assert combined["ttft_s"].high - combined["ttft_s"].value == pytest.approx(2.92 * 0.01 / 3**0.5, rel=0.01)
    # within each run there was no spread at all
    assert runs[0].estimates["ttft_s"].high == pytest.approx(0.10)


def test_a_percentile_that_one_run_does_not_know_stays_a_bound():
    runs = [run_statistics(closed_run(4, n), 4) for n in (100, 800)]
    combined = combine_runs(runs)["ttft_p99_s"]
    assert combined.value is None
    assert combined.low == pytest.approx(0.1)
    assert "1 of 2" in combined.note


def test_one_run_keeps_its_own_intervals():
    run = run_statistics(closed_run(4, 100), 4)
    assert combine_runs([run]) == run.estimates


def test_nothing_is_said_of_a_run_without_a_steady_part():
    stats = run_statistics(closed_run(8, 8), 8)
    assert stats.window is None
    assert stats.estimates == {}
    assert stats.counts.in_window == 0
