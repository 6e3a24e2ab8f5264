"""From a mix to a verdict: planned, sent over real sockets, and said of."""

from __future__ import annotations

import itertools
import json

from fewmark.load.arrivals import OpenLoop
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.goodput import Tier
from fewmark.load.mixes import RequestMix
from fewmark.load.plans import BodyOptions, make_plans
from fewmark.load.prompts import TokenIdPrompts
from fewmark.load.settings import LoadSettings
from fewmark.load.statistics import run_statistics
from fewmark.load.validity import judge

TOKEN_CODES = {"failed_requests", "short_answers", "long_answers", "prompt_mismatch", "no_usage", "no_steady_state"}


def plans(n, send_times=None, output_tokens=4):
    made = make_plans(RequestMix.of(5, output_tokens).requests(), TokenIdPrompts(), BodyOptions("m"), send_times)
    return itertools.islice(made, n)


def test_a_closed_loop_is_planned_sent_and_said_of(server, wire):
    server.script = lambda path: [0.005, *wire.answer(4)]
    result = run_load(plans(80), Endpoint(server.url), LoadSettings(concurrency=2, workers=0))
    statistics = run_statistics(result, 2, [Tier("all", {"e2e_latency_s": 60.0})])
    assert (statistics.counts.ok, statistics.counts.failed) == (80, 0)
    assert statistics.estimates["ttft_s"].value >= 0.005
    assert statistics.estimates["throughput_tok_s"].value > 0
    assert statistics.attainments[0].share.value == 1.0
    assert not TOKEN_CODES & {reason.code for reason in judge(result, statistics, 2).reasons}
    bodies = [json.loads(body) for body in server.bodies]
    assert len({body["prompt"][0] for body in bodies}) == 80  # no prompt begins like another


def test_an_open_loop_tells_latency_from_the_schedule(server, wire):
    times = OpenLoop.constant(100.0, process="constant").send_times(limit=60)
    result = run_load(plans(60, times), Endpoint(server.url), LoadSettings(concurrency=None, workers=0))
    estimates = run_statistics(result).estimates
    # a client that is late adds to what a user waits, and nothing else does
    added = estimates["ttft_from_schedule_s"].value - estimates["ttft_s"].value
    assert 0 <= added <= max(result.lateness_s) + 1e-6


def test_answers_that_are_shorter_than_asked_make_the_run_invalid(server, wire):
    result = run_load(plans(60, output_tokens=9), Endpoint(server.url), LoadSettings(concurrency=2, workers=0))
    verdict = judge(result, run_statistics(result, 2), 2)
    assert "short_answers" in {reason.code for reason in verdict.reasons}
