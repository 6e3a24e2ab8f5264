"""Closed and open loops, sessions, time limits, worker processes."""

from __future__ import annotations

import itertools
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewmark.core.errors import InputError
from fewmark.load import connection
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.fallback import FallbackLoop
from fewmark.load.loop import Loop
from fewmark.load.records import RequestStatus
from fewmark.load.settings import LoadSettings


def in_flight(records):
    """The most requests in flight at once, by their own times."""
    changes = sorted([(r.send_s, 1) for r in records] + [(r.end_s, -1) for r in records])
    return max(itertools.accumulate(change for _, change in changes))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_closed_loop_keeps_its_concurrency(server, load, wire, workers):
    server.script = lambda path: [0.02, *wire.answer()]
    result = load(server.url, (wire.plan(i) for i in range(40)), concurrency=6, workers=workers)
    assert [r.index for r in result.records] == list(range(40))
    assert all(r.status is RequestStatus.OK for r in result.records)
    assert in_flight(result.records) <= 6
    assert {r.stream for r in result.records} == set(range(6))
    assert server.n_connections == 6
    assert sum(use.n_requests for use in result.workers) == 40
    assert len(result.workers) == max(workers, 1)
    assert result.client_cpu_s > 0
    assert result.started_s <= min(r.send_s for r in result.records)
    assert result.ended_s >= max(r.end_s for r in result.records)
    by_stream = sorted(result.records, key=lambda r: (r.stream, r.send_s))
    for before, after in itertools.pairwise(by_stream):
        if before.stream == after.stream:
            assert before.end_s <= after.planned_send_s <= after.send_s
            assert after.reused


@pytest.mark.parametrize("workers", [0, 2])
def test_an_open_loop_sends_by_its_schedule(server, load, wire, workers):
    server.script = lambda path: [0.2, *wire.answer()]
    times = [0.0, 0.0, 0.05, 0.1, 0.1, 0.3]
    plans = [wire.plan(i, planned_send_s=at) for i, at in enumerate(times)]
    result = load(server.url, plans, concurrency=None, workers=workers)
    assert [r.planned_send_s - result.started_s for r in result.records] == pytest.approx(times, abs=1e-5)
    assert all(late >= 0 for late in result.lateness_s)
    assert len(result.lateness_s) == 6
    assert in_flight(result.records) > 2  # nothing waits for an answer


def test_a_limit_on_an_open_loop_makes_requests_late_not_lost(server, load, wire):
    server.script = lambda path: [0.1, *wire.answer()]
    plans = [wire.plan(i, planned_send_s=0.0) for i in range(6)]
    result = load(server.url, plans, concurrency=None, max_in_flight=2)
    assert in_flight(result.records) <= 2
    assert all(r.status is RequestStatus.OK for r in result.records)
    assert max(result.lateness_s) > 0.15


def test_turns_of_a_session_wait_for_one_another(server, load, wire):
    server.script = lambda path: [0.03, *wire.answer()]
    plans = [wire.plan(i, session="ab"[i % 2], think_s=0.05 * (i > 1)) for i in range(6)]
    for workers in 0, 2:
        result = load(server.url, plans, concurrency=4, workers=workers)
        for name in "ab":
            turns = [r for r in result.records if r.session == name]
            for before, after in itertools.pairwise(turns):
                assert after.send_s - before.end_s >= 0.05 - 1e-6
                assert after.planned_send_s - before.end_s == pytest.approx(0.05, abs=0.04)


def test_endless_plans_end_with_the_duration(server, load, wire):
    server.script = lambda path: [0.02, *wire.answer()]
    for workers in 0, 1:
        result = load(server.url, map(wire.plan, itertools.count()), duration_s=0.4, workers=workers)
        assert all(r.status is RequestStatus.OK for r in result.records)
        assert max(r.send_s for r in result.records) - result.started_s < 0.4 + 0.1


@pytest.mark.parametrize("transport", ["sockets", "aiohttp"])
def test_a_plan_that_arrives_after_the_end_keeps_no_worker(server, wire, transport):
    """A driver that is late hands out a plan when the load has ended; the worker must end all the same."""
    server.script = lambda path: [*wire.answer()[:3], 1.5, *wire.answer()[3:]]
    make = Loop if transport == "sockets" else FallbackLoop
    records = []
    loop = make(
        Endpoint(server.url),
        LoadSettings(concurrency=1, workers=0, duration_s=0.5, transport=transport),
        None,
        lambda record, chunks: records.append(record),
    )
    loop.schedule.add(wire.plan(0))
    reading, writing = os.pipe()

    def late():
        os.read(reading, 1)
        loop.schedule.add(wire.plan(1))

    loop.listen(reading, late)
    timer = threading.Timer(0.8, os.write, (writing, b"."))
    timer.start()
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    thread.join(30)
    timer.join()
    assert not thread.is_alive()
    assert [record.index for record in records] == [0]
    os.close(reading)
    os.close(writing)


def test_what_does_not_end_is_cancelled(server, load, wire):
    server.script = lambda path: [*wire.answer()[:3], 3.0]
    plans = [wire.plan(i, planned_send_s=0.0 if i < 3 else 0.1 * i) for i in range(60)]
    result = load(server.url, plans, concurrency=None, max_in_flight=3, duration_s=0.5, drain_s=0.2)
    sent = [r for r in result.records if r.send_s is not None]
    assert len(sent) == 3
    assert all(r.status is RequestStatus.CANCELLED and r.n_chunks == 2 for r in sent)
    unsent = [r for r in result.records if r.send_s is None]
    assert [r.index for r in unsent] == [3, 4, 5]  # due before the end; the others belong to a later time
    assert all(r.status is RequestStatus.CANCELLED and r.stream == -1 for r in unsent)


def test_a_connection_closed_while_idle_is_made_anew(server, load, wire):
    server.close_after = True  # without saying so in a header
    result = load(server.url, [wire.plan(i) for i in range(12)], concurrency=2)
    assert all(r.status is RequestStatus.OK for r in result.records)
    assert server.n_connections == 12


def test_a_dead_server_does_not_spin(load, wire):
    start = time.monotonic()
    result = load("http://127.0.0.1:9", map(wire.plan, itertools.count()), concurrency=2, duration_s=0.5)
    assert time.monotonic() - start < 20
    assert all(r.status is RequestStatus.REFUSED for r in result.records)
    assert 2 <= len(result.records) <= 12


def test_a_worker_that_dies_leaves_its_requests_cancelled(server, wire):
    server.script = lambda path: [*wire.answer()[:3], 2.0, *wire.answer()[3:]]
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = set(children.read_text().split())

    def kill():
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and len(server.bodies) < 2:
            time.sleep(0.01)
        (worker,) = set(children.read_text().split()) - before
        os.kill(int(worker), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    settings = LoadSettings(concurrency=2, workers=1)
    result = run_load([wire.plan(i) for i in range(4)], Endpoint(server.url), settings)
    killer.join()
    assert [r.index for r in result.records] == [0, 1, 2, 3]
    assert all(r.status is RequestStatus.CANCELLED and "died" in r.error for r in result.records)


def test_wrong_input_of_a_worker_is_said_by_the_driver(server, load, wire, tmp_path):
    with pytest.raises(InputError, match="certificates"):
        load("https://localhost:1", [wire.plan()], {"ca_file": str(tmp_path / "none")}, workers=1)


def test_records_come_as_they_end(server, wire):
    seen = []
    for workers in 0, 1:
        settings = LoadSettings(concurrency=2, workers=workers)
        result = run_load([wire.plan(i) for i in range(8)], Endpoint(server.url), settings, on_record=seen.append)
        assert sorted(seen, key=lambda r: r.index) == list(result.records)
        seen.clear()


@pytest.mark.parametrize("workers", [0, 1])
def test_kept_chunks_say_what_came_when(server, load, wire, workers):
    result = load(server.url, [wire.plan()], keep_chunks=True, workers=workers)
    (record,) = result.records
    assert [text for _, text in result.chunks[0]] == [" t0", " t1", " t2", " t3"]
    assert (result.chunks[0][0][0], result.chunks[0][-1][0]) == (record.first_chunk_s, record.last_token_s)


def test_reads_do_not_gather_for_longer_than_the_gaps_of_streams_that_flow():
    """Of 256 streams 64 have a chunk each 5 ms; the others wait in the server's queue."""
    loop = Loop(Endpoint("http://127.0.0.1:9"), LoadSettings(concurrency=256), None, lambda *_: None)
    now = time.monotonic_ns()
    for fd in range(256):
        loop._connections[fd] = SimpleNamespace(
            sent=SimpleNamespace(send_ns=1), decoder=SimpleNamespace(), reads=[], began_ns=now, seen_ns=now,
            seen_reads=0, n_reads=10 if fd % 4 == 0 else 0,
        )  # fmt: skip
    loop._n_in_flight, loop._n_events, loop._n_answered, loop._usual_s = 256, 640, 1, 5.0
    loop._scan(now)
    assert 0.001 < loop._gathering_s(0.05) < 0.005


def test_a_hundred_streams(server, load, wire):
    server.script = lambda path: [piece for part in wire.answer(10) for piece in (part, 0.01)]
    result = load(server.url, [wire.plan(i, output_tokens=10) for i in range(200)], concurrency=100)
    assert all(r.status is RequestStatus.OK and r.n_chunks == 10 for r in result.records)
    assert server.n_connections <= 100


def test_without_the_kernels_times(server, load, wire, monkeypatch):
    monkeypatch.setattr(connection, "stamp_socket", lambda sock: None)
    monkeypatch.setattr(connection, "_stamp_sends", lambda sock: False)
    monkeypatch.delattr(select, "epoll", raising=False)
    server.script = lambda path: [piece for part in wire.answer(6) for piece in (part, 0.02)]
    result = load(server.url, [wire.plan(i, output_tokens=6) for i in range(8)], concurrency=2)
    for record in result.records:
        assert (record.status, record.n_chunks, record.kernel_stamps) == (RequestStatus.OK, 6, False)
        assert record.planned_send_s <= record.send_s <= record.first_byte_s <= record.last_token_s <= record.end_s


def test_with_the_kernels_times(server, load, wire):
    result = load(server.url, [wire.plan(i) for i in range(4)])
    assert all(record.kernel_stamps for record in result.records) or sys.platform != "linux"


@pytest.mark.parametrize(
    "bad",
    [
        {"concurrency": 0},
        {"workers": -1},
        {"duration_s": 0.0},
        {"stall_timeout_s": float("nan")},
        {"transport": "curl"},
    ],
)
def test_settings_out_of_range(bad):
    with pytest.raises(InputError):
        LoadSettings(**bad)
