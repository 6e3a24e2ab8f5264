"""The quick way through an answer sees what the thorough one sees, and steps of the clock are noticed."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from fewmark.load import clock, events
from fewmark.load.clock import StepWatch
from fewmark.load.decoding import Decoder


def decode(pieces, cuts=None, **options):
    """Decode an answer cut at these places, each read a millisecond after the one before."""
    raw = b"".join(pieces)
    edges = [0, *sorted(cuts or []), len(raw)]
    reads = [raw[a:b] for a, b in itertools.pairwise(edges) if b > a]
    decoder = Decoder(stream=True, **options)
    decoder.feed([1_000_000 * (i + 1) for i in range(len(reads))], reads)
    decoder.end()
    return decoder


TEXTS = [" a", " plain", "", ' "', " \\", "\n", " ☃", ' x","text":"y', " b", "c" * 3000, " d", " e", "data: [DONE]"]


@pytest.mark.parametrize("seed", range(30))
def test_reads_cut_anywhere_give_the_same_chunks(wire, seed):
    draw = random.Random(seed)
    texts = draw.choices(TEXTS, k=40)
    parts = [wire.event(text) for text in texts]
    chunks = []
    while parts:  # chunks of one event, of several, and some not at the edges of events
        take = draw.choice([1, 1, 1, 1, 2, 5])
        group, parts = b"".join(parts[:take]), parts[take:]
        at = draw.randrange(len(group)) if draw.random() < 0.2 else 0
        chunks += [wire.chunk(piece) for piece in (group[:at], group[at:]) if piece]
    pieces = [wire.CHUNKED, *chunks, wire.chunk(wire.event(usage=40)), wire.chunk(wire.DONE), wire.END]
    size = sum(map(len, pieces))
    cuts = sorted(draw.sample(range(size), draw.choice([0, 3, 50])))
    quick, thorough = decode(pieces, cuts), decode(pieces, cuts, keep_chunks=True)
    assert quick.failure is None, quick.failure
    assert quick.complete
    shown = [text for text in texts if text]
    assert [text for _, text in thorough.answer.chunks] == shown
    stamps = [at for at, _ in thorough.answer.chunks]
    assert quick.answer.n_chunks == len(shown)
    assert (quick.answer.first_ns, quick.answer.last_ns) == (stamps[0], stamps[-1])
    gaps = [(b - a) / 1e9 for a, b in itertools.pairwise(stamps) if b > a]
    assert list(quick.answer.gaps_s) == gaps == list(thorough.answer.gaps_s)
    assert quick.answer.n_coalesced == len(shown) - 1 - len(gaps) == thorough.answer.n_coalesced
    assert quick.answer.second_ns == thorough.answer.second_ns


@pytest.mark.parametrize("seed", range(40))
def test_damaged_answers_never_raise_and_both_ways_agree(wire, seed):
    draw = random.Random(seed)
    pieces = [wire.CHUNKED, *(wire.chunk(wire.event(draw.choice(TEXTS))) for _ in range(30)), *wire.answer(3)[4:]]
    raw = bytearray(b"".join(pieces))
    for _ in range(draw.choice([1, 1, 3])):
        at = draw.randrange(len(wire.CHUNKED) if draw.random() < 0.8 else 0, len(raw))
        kind = draw.random()
        if kind < 0.5:
            raw[at] = draw.choice([0, 9, 10, 13, 34, 92, 128, 255, draw.randrange(256)])
        elif kind < 0.75:
            del raw[at : at + draw.randrange(1, 40)]
        else:
            raw[at:at] = raw[: draw.randrange(60)]
    cuts = sorted(draw.sample(range(len(raw)), 12))
    quick, thorough = decode([bytes(raw)], cuts), decode([bytes(raw)], cuts, keep_chunks=True)
    assert quick.outcome()[0] == thorough.outcome()[0]
    if quick.failure is None:  # else events of the read that failed may have been counted before
        assert quick.answer.n_chunks == thorough.answer.n_chunks
        assert quick.answer.gaps_s == thorough.answer.gaps_s


def test_a_chunk_counts_when_its_last_byte_came(wire):
    chunks = [wire.chunk(wire.event(f" t{i}")) for i in range(4)]
    pieces = [wire.CHUNKED, *chunks, wire.chunk(wire.DONE), wire.END]
    edge = len(wire.CHUNKED) + len(chunks[0]) + len(chunks[1]) + 30
    answer = decode(pieces, [edge, edge + len(chunks[2])]).answer
    assert list(answer.gaps_s) == [0.001, 0.001]
    assert answer.n_coalesced == 1


@pytest.mark.parametrize("at_once", [1, 3, 12, 40])
def test_chunks_count_when_they_came_however_many_reads_are_fed_at_once(wire, at_once):
    """Also where lines end with carriage returns, as some servers' do."""
    for returns in (b"\n", b"\r\n"):
        events_ = [wire.event(" t"), *(wire.event(f" t{i}") for i in range(30)), wire.DONE]
        reads = [wire.CHUNKED, *(wire.chunk(event.replace(b"\n", returns)) for event in events_), wire.END]
        stamps = list(range(0, 1_000_000 * len(reads), 1_000_000))
        decoder = Decoder(stream=True)
        for at in range(0, len(reads), at_once):
            decoder.feed(stamps[at : at + at_once], reads[at : at + at_once])
        decoder.end()
        assert decoder.outcome()[0] == "ok"
        assert list(decoder.answer.gaps_s) == [0.001] * 30


@pytest.mark.parametrize("at_once", [1, 40])
def test_half_a_character_is_not_made_good_by_the_next_chunk(wire, at_once):
    halves = [wire.event("~").replace(b"~", half) for half in (b"\xc3", b"\xa9")]
    parts = [*(wire.event(f" t{i}") for i in range(9)), *halves, *(wire.event(" u") for _ in range(9)), wire.DONE]
    reads = [wire.CHUNKED, *map(wire.chunk, parts), wire.END]
    decoder = Decoder(stream=True)
    for at in range(0, len(reads), at_once):
        decoder.feed(range(at, at + len(reads[at : at + at_once])), reads[at : at + at_once])
    assert (decoder.outcome()[0], decoder.answer.n_chunks) == ("malformed", 9)


def test_a_chunk_of_the_wrong_size_is_not_taken_for_one_like_it(wire):
    good = [wire.chunk(wire.event(" abcd")) for _ in range(3)]
    bad = b"%x" % (len(wire.event(" abcd")) - 1) + good[0][good[0].index(b"\r\n") :]
    pieces = [wire.CHUNKED, *good, bad, *good]
    decoder = decode(pieces, [len(b"".join(pieces[:i])) for i in range(1, 6)])
    assert decoder.failure is not None
    assert decoder.answer.n_chunks == 3


def test_events_that_differ_in_more_than_their_text_are_read(wire):
    parts = [wire.event(f" t{i}", created=i) for i in range(30)]
    parts += [b'data: {"choices":[{"text":" a"}],"usage":{"completion_tokens":%d}}\n\n' % i for i in range(1, 31)]
    answer = decode([wire.CHUNKED, *map(wire.chunk, parts), wire.chunk(wire.DONE), wire.END]).answer
    assert (answer.n_chunks, answer.completion_tokens) == (60, 30)


def test_without_msgspec(wire, monkeypatch):
    monkeypatch.setattr(events, "_decode", json.loads)
    answer = decode(wire.answer(6)).answer
    assert (answer.n_chunks, answer.completion_tokens, answer.finish_reason) == (6, 6, "length")
    bad = decode([wire.CHUNKED, wire.chunk(b'data: {"choices":[{"text":"\xff"}]}\n\n'), wire.END])
    assert bad.failure is not None


def test_a_step_of_the_clock_is_noticed(monkeypatch):
    now = {"real": 1_000_000_000_000, "monotonic": 5_000_000_000}
    monkeypatch.setattr(clock.time, "clock_gettime_ns", lambda which: now["real"])
    monkeypatch.setattr(clock.time, "monotonic_ns", lambda: now["monotonic"])
    watch = StepWatch()
    for step_ns in (0, 400_000, 0, -2_000_000_000, 0, 30_000_000):
        now["real"] += 1_000_000_000 + step_ns
        now["monotonic"] += 1_000_000_000
        watch.look()
    assert [round(step.step_s, 3) for step in watch.steps] == [-2.0, 0.03]
    assert watch.steps[0].at_s == pytest.approx(now["real"] / 1e9 - 2.03)
