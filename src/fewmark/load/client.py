"""Drive a load: in this process, or dealt to worker processes, and put their records together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any, Final

from fewmark.core.errors import FewmarkError, InputError
from fewmark.load.clock import realtime_ns
from fewmark.load.decoding import unsent_record
from fewmark.load.endpoint import Endpoint
from fewmark.load.frames import FrameReader, pack, plan_values, value_record
from fewmark.load.loop import Loop
from fewmark.load.records import ClockStep, LoadResult, RequestPlan, RequestRecord, WorkerUse
from fewmark.load.settings import LoadSettings
from fewmark.load.worker import AHEAD, worker_command, worker_sources

START_IN_S: Final = 0.05  # from the last worker being ready to the start of the load
READY_S: Final = 60.0
LAST_S: Final = 30.0  # beyond its limits, after which a worker that says nothing is given up
READ: Final = 1 << 20
F_SETPIPE_SZ: Final = 1031  # of Linux
MAX_AT_ONCE: Final = 256
NEVER_NS: Final = 1 << 62

OnRecord = Callable[[RequestRecord], None]


class LoadError(FewmarkError):
    """The load cannot be driven at all; a request that fails is a record instead."""

    exit_code = 1


def run_load(
    plans: Iterable[RequestPlan],
    endpoint: Endpoint,
    settings: LoadSettings | None = None,
    *,
    on_record: OnRecord | None = None,
) -> LoadResult:
    """Send the planned requests and record what became of each.

    Parameters
    ----------
    plans : iterable of RequestPlan
        Taken as they are needed; may be endless where `settings.duration_s` is given. In an open loop in the order of
        their times.
    endpoint : Endpoint
    settings : LoadSettings, optional
        By default one request at a time, by one worker process.
    on_record : callable, optional
        Called with each record as soon as it exists, in the order of the requests' ends.

    Returns
    -------
    LoadResult
        A record of each request that was planned up to the end of the load.

    Raises
    ------
    InputError
        If the key or the certificates cannot be read, or the transport is not installed.
    LoadError
        If a worker process cannot be started. One that dies in the middle leaves its requests as cancelled.
    """
    settings = settings or LoadSettings(concurrency=1)
    endpoint.read_key()
    if settings.transport == "aiohttp":
        import_module("fewmark.load.fallback")
    if settings.workers == 0:
        return _run_here(iter(plans), endpoint, settings, on_record)
    n_workers = min(settings.workers, settings.concurrency or settings.max_in_flight or settings.workers)
    driver = _Driver(iter(plans), endpoint, settings, n_workers, on_record)
    try:
        return driver.run()
    finally:
        driver.close()


def _run_here(
    plans: Iterator[RequestPlan], endpoint: Endpoint, settings: LoadSettings, on_record: OnRecord | None
) -> LoadResult:
    records: list[RequestRecord] = []
    kept: dict[int, tuple[tuple[float, str], ...]] = {}

    def keep(record: RequestRecord, chunks: list[tuple[int, str]]) -> None:
        records.append(record)
        if settings.keep_chunks:
            kept[record.index] = tuple((at / 1e9, text) for at, text in chunks)
        if on_record is not None:
            on_record(record)

    make = Loop if settings.transport == "sockets" else import_module("fewmark.load.fallback").FallbackLoop
    loop = make(endpoint, settings, plans, keep)
    use = loop.run()
    return _result(records, loop.start_ns, [use], loop.steps.steps, settings, kept)


def _result(
    records: list[RequestRecord],
    start_ns: int,
    uses: list[WorkerUse],
    steps: list[ClockStep],
    settings: LoadSettings,
    chunks: dict[int, tuple[tuple[float, str], ...]],
) -> LoadResult:
    records.sort(key=lambda record: record.index)
    return LoadResult(
        tuple(records),
        start_ns / 1e9,
        realtime_ns() / 1e9,
        tuple(sorted(uses, key=lambda use: use.worker)),
        tuple(steps),
        settings.transport,
        chunks,
    )


class _Worker:
    """A worker process, seen from the driver."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reader = FrameReader()
        self.out = bytearray()
        self.room = 0
        self.held: dict[int, RequestPlan] = {}
        self.is_ready = False
        self.is_told_end = False
        self.use: WorkerUse | None = None
        self.ended = False
        self.process = subprocess.Popen(
            worker_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.stdin, False)
        os.set_blocking(self.stdout, False)
        with contextlib.suppress(OSError, ValueError):
            fcntl.fcntl(self.stdout, F_SETPIPE_SZ, READ)  # so that a worker need not wait for the driver


class _Driver:
    """Deals plans to workers as they have room, and collects their records."""

    def __init__(
        self,
        plans: Iterator[RequestPlan],
        endpoint: Endpoint,
        settings: LoadSettings,
        n_workers: int,
        on_record: OnRecord | None,
    ) -> None:
        self._plans: Iterator[RequestPlan] | None = plans
        self._endpoint = endpoint
        self._settings = settings
        self._n_workers = n_workers
        self._on_record = on_record
        self._workers: list[_Worker] = []
        self._records: list[RequestRecord] = []
        self._chunks: dict[int, tuple[tuple[float, str], ...]] = {}
        self._steps: list[ClockStep] = []
        self._sessions: dict[str, int] = {}
        self._next = 0
        self._pushed: RequestPlan | None = None
        self._selector = selectors.DefaultSelector()
        self._start_ns = NEVER_NS
        self._is_started = False

    def run(self) -> LoadResult:
        sources = worker_sources()
        for number in range(self._n_workers):
            try:
                worker = _Worker(number)
            except OSError as error:
                raise LoadError("a worker process cannot be started", got=error) from error
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
            self._write(worker, sources)
            share, first = self._share(number)
            self._write(worker, pack("start", asdict(self._endpoint), share.to_dict(), number, first))
            worker.room = AHEAD + (share.concurrency or 0)
        deadline_ns = realtime_ns() + int(READY_S * 1e9)
        while not all(worker.is_ready for worker in self._workers):
            self._wait(0.5)
            if realtime_ns() > deadline_ns or any(worker.ended for worker in self._workers):
                raise LoadError("a worker process did not start", hint="its messages are on standard error")
        while self._deal():  # before the start, since making prompts may take long
            pass
        self._start_ns = realtime_ns() + int(START_IN_S * 1e9)
        for worker in self._workers:
            self._write(worker, pack("go", self._start_ns))
        self._is_started = True
        while not all(worker.ended for worker in self._workers):
            self._wait(0.5)
            self._deal()
            self._give_up_late()
        uses = [worker.use for worker in self._workers if worker.use is not None]
        return _result(self._records, self._start_ns, uses, self._steps, self._settings, self._chunks)

    def close(self) -> None:
        """End every worker that is still there."""
        for worker in self._workers:
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                worker.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._selector.close()

    def _share(self, number: int) -> tuple[LoadSettings, int]:
        """A worker's part of the streams, and the number of its first."""

        def part(total: int | None) -> int | None:
            return (
                None if total is None else total * (number + 1) // self._n_workers - total * number // self._n_workers
            )

        settings = self._settings
        share = replace(
            settings, concurrency=part(settings.concurrency), max_in_flight=part(settings.max_in_flight), workers=0
        )
        streams = settings.concurrency or settings.max_in_flight
        return share, 1_000_000 * number if streams is None else streams * number // self._n_workers

    def _wait(self, timeout_s: float) -> None:
        for key, mask in self._selector.select(timeout_s):
            worker = key.data
            if mask & selectors.EVENT_WRITE:
                self._flush(worker)
            if mask & selectors.EVENT_READ and key.fd == worker.stdout:
                self._read(worker)

    def _read(self, worker: _Worker) -> None:
        try:
            data = os.read(worker.stdout, READ)
        except BlockingIOError:
            return
        if not data:
            self._lost(worker)
            return
        for message in worker.reader.feed(data):
            self._take(worker, message)

    def _take(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "want":
            worker.room += message[1]
        elif kind == "record":
            record = value_record(message[1])
            worker.held.pop(record.index, None)
            self._keep(record)
            if self._settings.keep_chunks:
                self._chunks[record.index] = tuple((at / 1e9, text) for at, text in message[2])
        elif kind == "ready":
            worker.is_ready = True
        elif kind == "failed":
            raise InputError(message[1], got=message[2], hint=message[3])
        elif kind == "done":
            worker.use = WorkerUse(*message[1])
            self._steps += [ClockStep(*step) for step in message[2]]

    def _keep(self, record: RequestRecord) -> None:
        self._records.append(record)
        if self._on_record is not None:
            self._on_record(record)

    def _lost(self, worker: _Worker) -> None:
        """The worker's output has ended; without its account, it died, and what it held is cancelled."""
        worker.ended = True
        self._selector.unregister(worker.stdout)
        worker.out.clear()
        self._watch(worker)
        if worker.use is not None or not self._is_started:
            return
        for plan in worker.held.values():
            self._keep(unsent_record(plan, None, "the client's worker process died"))
        worker.held.clear()

    def _deal(self) -> int:
        """Give the workers plans that they have room for, and say how many; a session's turns stay with one worker."""
        batches: dict[int, list[RequestPlan]] = {}
        for _ in range(MAX_AT_ONCE):
            live = [w for w in self._workers if w.room > 0 and not w.ended]
            plan = self._pull() if live else None
            if plan is None:
                break
            target = self._target(plan, live)
            if target is None:
                self._pushed = plan
                break
            target.room -= 1
            target.held[plan.index] = plan
            batches.setdefault(target.number, []).append(plan)
        for number, batch in batches.items():
            self._write(self._workers[number], pack("plans", [plan_values(plan) for plan in batch]))
        if self._plans is None and self._pushed is None:
            for worker in self._workers:
                if not worker.is_told_end and not worker.ended:
                    worker.is_told_end = True
                    self._write(worker, pack("end"))
        return sum(map(len, batches.values()))

    def _pull(self) -> RequestPlan | None:
        if (pushed := self._pushed) is not None:
            self._pushed = None
            return pushed
        if self._plans is None:
            return None
        plan = next(self._plans, None)
        if plan is None:
            self._plans = None
        return plan

    def _target(self, plan: RequestPlan, live: list[_Worker]) -> _Worker | None:
        """The worker for a plan: its session's, else the next in turn; None while the session's has no room."""
        if plan.session is not None and plan.session in self._sessions:
            worker = self._workers[self._sessions[plan.session]]
            if not worker.ended:
                return worker if worker.room > 0 else None
        self._next += 1
        target = live[self._next % len(live)]
        if plan.session is not None:
            self._sessions[plan.session] = target.number
        return target

    def _give_up_late(self) -> None:
        """Once the load's own end and every limit are past, a worker that says nothing is ended."""
        settings = self._settings
        if settings.duration_s is None:
            return
        limit_s = settings.duration_s + settings.drain_s + LAST_S
        if realtime_ns() - self._start_ns > limit_s * 1e9:
            for worker in self._workers:
                if not worker.ended:
                    worker.process.kill()

    def _write(self, worker: _Worker, data: bytes) -> None:
        worker.out += data
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        try:
            while worker.out:
                size = os.write(worker.stdin, memoryview(worker.out)[: 1 << 16])
                del worker.out[:size]
        except BlockingIOError:
            pass
        except OSError:
            worker.out.clear()  # it is gone; the end of its output says so
        self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        watched = worker.stdin in self._selector.get_map()
        if worker.out and not watched:
            self._selector.register(worker.stdin, selectors.EVENT_WRITE, worker)
        elif not worker.out and watched:
            self._selector.unregister(worker.stdin)
