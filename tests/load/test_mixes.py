"""Mixes draw what they were asked for; conversations and traces share the prefixes that they should."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewmark.core.errors import InputError
from fewmark.load.lengths import FixedLength, LogNormalLength, NormalLength, UniformLength, parse_lengths
from fewmark.load.mixes import RequestClass, RequestMix, RequestSpec, replay
from fewmark.load.traces import Trace, TraceRequest


def take(mix: RequestMix, n: int, seed: int = 0) -> list[RequestSpec]:
    return list(itertools.islice(mix.requests(seed), n))


def test_requests_that_are_all_alike_share_nothing():
    specs = take(RequestMix.of(128, 32), 20)
    assert {(s.input_tokens, s.output_tokens, s.session) for s in specs} == {(128, 32, None)}
    assert [s.index for s in specs] == list(range(20))
    assert len({s.segments[0].name for s in specs}) == 20


def test_classes_come_by_weight_with_their_own_model_and_fields():
    mix = RequestMix(
        (
            RequestClass(FixedLength(10), FixedLength(5), weight=3),
            RequestClass(FixedLength(99), FixedLength(9), model="adapter", extra_body={"top_k": 1}),
        )
    )
    specs = take(mix, 4000)
    counts = Counter(s.model for s in specs)
    assert counts[None] == pytest.approx(3000, abs=4 * (4000 * 0.75 * 0.25) ** 0.5)
    assert {s.input_tokens for s in specs if s.model} == {99}
    assert all(s.extra_body == ({"top_k": 1} if s.model else {}) for s in specs)


def test_the_same_seed_draws_the_same_requests():
    mix = RequestMix((RequestClass(UniformLength(1, 500), LogNormalLength(100, 80)),))
    assert take(mix, 50, 1) == take(mix, 50, 1) != take(mix, 50, 2)


def test_a_share_of_the_prompt_is_one_of_the_common_prefixes():
    mix = RequestMix((RequestClass(FixedLength(200), FixedLength(5), shared_prefix_share=0.75, n_prefixes=3),))
    specs = take(mix, 300)
    assert {(s.segments[0].tokens, s.segments[1].tokens) for s in specs} == {(150, 50)}
    assert len({s.segments[0].name for s in specs}) == 3
    assert len({s.segments[1].name for s in specs}) == 300


def test_a_prompt_may_be_shared_whole():
    spec = take(RequestMix((RequestClass(FixedLength(8), FixedLength(1), shared_prefix_share=1.0),)), 1)[0]
    assert spec.input_tokens == 8


def test_each_turn_holds_the_conversation_so_far():
    mix = RequestMix((RequestClass(FixedLength(50), FixedLength(20), turns=FixedLength(3), think_s=2.0),))
    specs = take(mix, 6)
    assert [s.input_tokens for s in specs] == [50, 120, 190, 50, 120, 190]
    assert [s.session for s in specs] == ["session/0"] * 3 + ["session/1"] * 3
    for earlier, later in itertools.pairwise(specs[:3]):
        assert later.segments[: len(earlier.segments)] == earlier.segments
    assert [segment.role for segment in specs[2].segments] == ["user", "assistant", "user", "assistant", "user"]
    assert specs[0].think_s == specs[3].think_s == 0
    pauses = [s.think_s for s in take(mix, 6000) if s.think_s]
    assert statistics.fmean(pauses) == pytest.approx(2.0, rel=4 / len(pauses) ** 0.5)


def test_a_replayed_trace_shares_its_whole_blocks_only():
    requests = (
        TraceRequest(0.0, 1100, 5, (1, 2, 3), 512),
        TraceRequest(0.5, 1300, 6, (1, 2, 3), 512, model="m"),
        TraceRequest(0.7, 100, 7),
    )
    first, second, third = replay(Trace(requests, {}, 0.7))
    assert [s.input_tokens for s in (first, second, third)] == [1100, 1300, 100]
    assert first.segments[:2] == second.segments[:2]
    assert first.segments[2].name != second.segments[2].name
    assert (second.time_s, second.model, second.output_tokens) == (0.5, "m", 6)


@pytest.mark.parametrize(
    ("lengths", "mean", "sd"),
    [(UniformLength(10, 30), 20, 6.06), (NormalLength(200, 30), 200, 30), (LogNormalLength(200, 100), 200, 100)],
)
def test_lengths_have_their_moments(lengths, mean, sd):
    rng = random.Random(0)
    drawn = [lengths.draw(rng) for _ in range(20_000)]
    assert statistics.fmean(drawn) == pytest.approx(mean, rel=0.02)
    assert statistics.pstdev(drawn) == pytest.approx(sd, rel=0.06)


@given(st.integers(1, 500), st.integers(0, 500), st.floats(0, 1000), st.integers(0, 100))
def test_lengths_stay_inside_their_bounds(low, more, sd, seed):
    rng = random.Random(seed)
    for kind in (NormalLength, LogNormalLength):
        lengths = kind(low + more / 2, sd, low, low + more)
        assert all(low <= lengths.draw(rng) <= low + more for _ in range(5))


def test_lengths_are_parsed():
    assert parse_lengths("128") == parse_lengths(128) == FixedLength(128)
    assert parse_lengths("64-256") == UniformLength(64, 256)
    assert parse_lengths("normal:mean=100,sd=20") == NormalLength(100, 20)
    assert parse_lengths("lognormal: mean=100, sd=20, low=4, high=900") == LogNormalLength(100, 20, 4, 900)


@pytest.mark.parametrize(
    "text",
    ["", "0", "-5", "9-3", "abc", "normal:mean=5", "normal:mean=5,sd=1,x=2", "poisson:mean=1,sd=1", "1e3", "inf"],
)
def test_lengths_that_make_no_sense_are_refused(text):
    with pytest.raises(InputError):
        parse_lengths(text)


@pytest.mark.parametrize(
    "wrong", [{"weight": 0}, {"shared_prefix_share": 1.5}, {"n_prefixes": 0}, {"think_s": -1}, {"weight": float("nan")}]
)
def test_classes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        RequestClass(FixedLength(1), FixedLength(1), **wrong)


def test_an_empty_mix_is_refused():
    with pytest.raises(InputError):
        RequestMix(())
