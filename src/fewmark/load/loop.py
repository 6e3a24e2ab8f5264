"""The loop of one worker: sends what is due, reads what has come, and decodes it when there is nothing else to do.

Accuracy does not rest on this loop being quick: receive times are the kernel's. What it delays is sending, which is
seen in each request's lateness.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from fewmark.load.addresses import Addresses
from fewmark.load.clock import StepWatch, realtime_ns
from fewmark.load.connection import MAX_READS, Connection, Read, Receive, drain
from fewmark.load.decoding import Decoder, Sent, make_record, unsent_record
from fewmark.load.endpoint import Endpoint, Mask
from fewmark.load.flows import Flows
from fewmark.load.polling import make_poller
from fewmark.load.records import GIVEN_UP, RequestPlan, RequestRecord, RequestStatus, WorkerUse
from fewmark.load.schedule import Schedule
from fewmark.load.settings import LoadSettings
from fewmark.load.stamping import kernel_stamping
from fewmark.load.streams import Streams

SCAN_S: Final = 0.05
MIN_GATHER_S: Final = 0.0003
MAX_GATHER_S: Final = 0.008
GATHER_SHARE: Final = 1 / 3  # of a stream's usual gap between reads
LAG_SHARE: Final = 0.004  # of a request
BUSY_RATE: Final = 2_000  # reads a second
QUIET_S: Final = 1.0  # an answer that said [DONE] and then nothing is over
BACKOFF_NS: Final = 100_000_000  # a stream's pause after a connection was refused
MAX_BACKLOG: Final = 64  # answers to be decoded, beyond which one is decoded in each turn
PULL: Final = 64
MAX_SENDS: Final = 16  # at once; then answers are read, so that their first chunks do not pile up

Chunks = list[tuple[int, str]]
Sink = Callable[[RequestRecord, Chunks], None]


class Loop:
    """Drives one worker's share of a load.

    Parameters
    ----------
    endpoint : Endpoint
    settings : LoadSettings
        Its `concurrency` and `max_in_flight` are this worker's share.
    plans : iterator of RequestPlan, or None
        None: they are added from outside (`schedule.add`), asked for through `on_low`.
    sink : callable
        Takes each record, and the chunks where they are kept.
    first_slot : int
        The number of this worker's first stream.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: LoadSettings,
        plans: Iterator[RequestPlan] | None,
        sink: Sink,
        *,
        first_slot: int = 0,
        worker: int = 0,
    ) -> None:
        self.settings = settings
        self.start_ns = 0
        self.is_started = False
        self.schedule = Schedule(timed=settings.concurrency is None)
        self.steps = StepWatch()
        self.on_low: Callable[[int], None] | None = None
        self.on_scan: Callable[[], None] | None = None
        self.on_readable: dict[int, Callable[[], None]] = {}
        self.n_requests = 0
        self._endpoint = endpoint
        self._plans = plans
        self._sink = sink
        self._worker = worker
        self._key = endpoint.read_key()
        self._mask = Mask(self._key)
        self._heads: dict[str, bytes] = {}
        self._addresses = Addresses(endpoint)
        self._connections: dict[int, Connection] = {}
        self._flows = Flows()
        self._idle: list[Connection] = []
        self._backlog: deque[tuple[Sent, Decoder, list[Read], RequestStatus | None, str | None]] = deque()
        self._streams = Streams(first_slot)
        self._n_in_flight = 0
        self._n_flowing = 0  # answers of which something came between the last two scans
        self._asked = 0
        self._longest_pause_ns = 0
        self._n_events = 0
        self._gather_s = 0.0
        self._usual_s = 0.0  # of a request, from send to end; of those in flight, as long as none has ended
        self._n_answered = 0
        self._stopped_ns: int | None = None
        self._poller, self._poll = make_poller()

    def listen(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` is readable."""
        self.on_readable[fd] = callback
        self._poller.register(fd, select.POLLIN)

    def stop(self) -> None:
        """Send nothing more and cancel what is in flight."""
        self._stopped_ns = realtime_ns()
        self._give_up()
        self._cancel()

    def start_at(self, start_ns: int) -> None:
        """The load starts at this time of the real-time clock."""
        self.start_ns = self.schedule.start_ns = start_ns
        self.is_started = True

    def run(self) -> WorkerUse:
        """Drive the load to its end."""
        if not self.is_started:
            self.start_at(realtime_ns())
        cpu_s = time.process_time()
        started_ns = realtime_ns()
        with kernel_stamping():
            try:
                self._turn()
            finally:
                for connection in list(self._connections.values()):
                    self._drop(connection)
                if hasattr(self._poller, "close"):
                    self._poller.close()
        self.steps.look()
        return WorkerUse(
            self._worker,
            started_ns / 1e9,
            realtime_ns() / 1e9,
            time.process_time() - cpu_s,
            self.n_requests,
            self._longest_pause_ns / 1e9,
        )

    def _turn(self) -> None:
        poll, connections, flows, backlog = self._poll, self._connections, self._flows, self._backlog
        monotonic_ns = time.monotonic_ns
        last_scan = before = monotonic_ns()
        scan_ns = int(SCAN_S * 1e9)
        while True:
            self._send_due()
            if self._is_over():
                return
            pause = monotonic_ns() - before
            if pause > self._longest_pause_ns:
                self._longest_pause_ns = pause
            patience_s = 0.0 if backlog else self._patience_s()
            gather_s = self._gather_s
            if gather_s and patience_s > gather_s:
                time.sleep(gather_s)
                patience_s -= gather_s
            events = poll(patience_s)
            before = monotonic_ns()
            self._n_events += len(events)
            for fd, mask in flows.read(events):
                found = connections.get(fd)
                if found is not None:
                    found.on_event(mask)
                elif fd in self.on_readable:
                    self.on_readable[fd]()
            if backlog and (not events or len(backlog) > MAX_BACKLOG):
                self._decode_one()
            if before - last_scan > scan_ns:
                self._scan(before)
                self._gather_s = self._gathering_s((before - last_scan) / 1e9)
                last_scan = before

    def _gathering_s(self, elapsed_s: float) -> float:
        """How long to let reads gather before looking: they cost less together, and their times are the kernel's.

        No longer than a third of a stream's usual gap between reads, so that they hardly ever meet in one, nor than
        0.4% of a request: half of that is the mean wait of a stream for its next one. What is due earlier is sent in
        time. A stream whose request waits in the server's queue has no gap, and does not count.
        """
        rate, self._n_events = self._n_events / elapsed_s, 0
        if rate < BUSY_RATE:
            return 0.0
        if not self._n_answered:
            began = [c.began_ns for c in self._connections.values() if c.sent is not None]
            self._usual_s = (time.monotonic_ns() - min(began)) / 1e9 if began else 0.0
        gather_s = min(MAX_GATHER_S, GATHER_SHARE * self._n_flowing / rate, LAG_SHARE * self._usual_s)
        return gather_s if gather_s >= MIN_GATHER_S else 0.0

    def _is_over(self) -> bool:
        if self._n_in_flight or self._backlog:
            return False
        return self.schedule.finished and not len(self.schedule)

    def _patience_s(self) -> float:
        """How long nothing needs to be sent."""
        if not self._may_send():
            return SCAN_S
        due_ns = self.schedule.next_ns()
        if due_ns is None:
            return SCAN_S
        return min(max((due_ns - realtime_ns()) / 1e9, 0.0), SCAN_S)

    # What is sent

    def _may_send(self) -> bool:
        limit = self.settings.concurrency or self.settings.max_in_flight
        return limit is None or self._n_in_flight + self._streams.n_resting < limit

    def _send_due(self) -> None:
        now_ns = realtime_ns()
        self._streams.wake(now_ns)
        duration_s = self.settings.duration_s
        if duration_s is not None and self._stopped_ns is None and now_ns - self.start_ns > duration_s * 1e9:
            self._stopped_ns = self.start_ns + int(duration_s * 1e9)
            self._give_up()
        if self._stopped_ns is not None:
            if len(self.schedule):
                self._give_up()  # plans that were on their way from the driver when the load ended
            return
        if now_ns < self.start_ns:
            return
        for _ in range(MAX_SENDS):
            if not self._may_send():
                return
            self._refill()
            due = self.schedule.take(now_ns)
            if due is None:
                return
            self._send(*due)

    def _refill(self) -> None:
        schedule = self.schedule
        if schedule.finished or schedule.n_fresh > PULL // 2 or schedule.is_blocked:
            return
        if self._plans is None:
            return
        for _ in range(PULL - schedule.n_fresh):
            plan = next(self._plans, None)
            if plan is None:
                schedule.finished = True
                return
            schedule.add(plan)

    def _send(self, plan: RequestPlan, due_ns: int | None) -> None:
        slot, freed_ns = self._streams.take()
        planned_ns = due_ns if due_ns is not None else self.start_ns if freed_ns is None else freed_ns
        sent = Sent(plan, slot, planned_ns)
        self._n_in_flight += 1
        if self.on_low is not None:
            self.on_low(1)
        self._carry(sent)

    def _carry(self, sent: Sent, address: int = 0, *, fresh: bool = False) -> None:
        plan = sent.plan
        settings = self.settings
        decoder = Decoder(stream=plan.stream, limit=settings.max_answer_bytes, keep_chunks=settings.keep_chunks)
        head = self._heads.get(plan.path)
        if head is None:
            head = self._heads[plan.path] = self._endpoint.head(plan.path, self._key)
        if self._idle and not fresh:
            connection = self._idle.pop()
        else:
            made = self._addresses.connect(self, address)
            if isinstance(made, str):
                self._close_request(sent, None, [], RequestStatus.REFUSED, made)
                return
            connection = made
        connection.began_ns = connection.seen_ns = time.monotonic_ns()
        connection.start(sent, decoder, head)

    # What connections say

    def watch(self, connection: Connection, mask: int) -> None:
        """Wait for this from now on."""
        if self._connections.get(connection.fd) is connection:
            self._poller.modify(connection.fd, mask)
        else:
            self._connections[connection.fd] = connection
            self._poller.register(connection.fd, mask)

    def ready(self, connection: Connection) -> None:
        """The connection is made: its address is the first to be tried from now on."""
        self._addresses.answered(connection)

    def flows(self, connection: Connection, recvmsg: Receive) -> None:
        """Reads of this connection need only be kept from now on."""
        self._flows.add(connection, recvmsg)

    def ended(self, connection: Connection, status: RequestStatus | None, error: str | None) -> None:
        """The request on this connection has ended, or an idle connection has."""
        self._flows.discard(connection)
        sent, decoder, reads = connection.sent, connection.decoder, connection.reads
        if sent is None or decoder is None:
            if connection in self._idle:
                self._idle.remove(connection)
            self._drop(connection)
            return
        reused = status is None and connection.may_be_reused()
        connection.sent = connection.decoder = None
        connection.reads = []
        connection.is_eager = True
        if reused:
            self._idle.append(connection)
        else:
            another = self._addresses.after(connection)
            self._drop(connection)
            if status is RequestStatus.REFUSED and another is not None:
                self._carry(sent, another, fresh=True)
                return
            if status is RequestStatus.CUT and sent.reused and not reads and sent.first_byte_ns is None:
                sent.end_ns = None
                self._carry(sent, fresh=True)  # the server closed it while it was idle; what was sent never arrived
                return
        self._close_request(sent, decoder, reads, status, error)

    def _close_request(
        self,
        sent: Sent,
        decoder: Decoder | None,
        reads: list[Read],
        status: RequestStatus | None,
        error: str | None,
    ) -> None:
        now_ns = realtime_ns()
        self._n_in_flight -= 1
        self.n_requests += 1
        if status in (RequestStatus.REFUSED, RequestStatus.TLS_ERROR):
            self._streams.rest(sent.slot, now_ns + BACKOFF_NS)
        else:
            self._streams.give_back(sent.slot, now_ns)
        if sent.end_ns is None or status in GIVEN_UP:
            sent.end_ns = now_ns  # until then it kept its stream
        if sent.send_ns is not None:
            self._n_answered += 1
            weight = max(0.05, 1 / self._n_answered)
            self._usual_s += weight * ((now_ns - sent.send_ns) / 1e9 - self._usual_s)
        self.schedule.ended(sent.plan, now_ns)
        if decoder is None or sent.send_ns is None:
            self._sink(make_record(sent, None, status, self._mask(error)), [])
        else:
            self._backlog.append((sent, decoder, reads, status, error))

    def _decode_one(self) -> None:
        sent, decoder, reads, status, error = self._backlog.popleft()
        end_ns = sent.end_ns
        drain(sent, decoder, reads)
        sent.end_ns = end_ns
        record = make_record(sent, decoder, status, error, self._mask)
        self._sink(record, decoder.answer.chunks)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            self._poller.unregister(connection.fd)
        self._addresses.forget(connection)
        connection.close()

    # Limits

    def _scan(self, now_ns: int) -> None:
        """Look after every request in flight: limits on time, and answers that are over without saying so."""
        self.steps.look()
        if self.on_scan is not None:
            self.on_scan()
        settings = self.settings
        if self._stopped_ns is not None and realtime_ns() - self._stopped_ns > settings.drain_s * 1e9:
            self._cancel()
            return
        connect_ns, stall_ns = settings.connect_timeout_s * 1e9, settings.stall_timeout_s * 1e9
        request_ns, quiet_ns = settings.request_timeout_s * 1e9, QUIET_S * 1e9
        self._n_flowing = 0
        for connection in [c for c in self._connections.values() if c.sent is not None]:
            if connection.n_reads != connection.seen_reads:
                self._n_flowing += connection.n_reads > 0
                connection.seen_reads = connection.n_reads
                connection.seen_ns = now_ns
            quiet = now_ns - connection.seen_ns
            sent, decoder = connection.sent, connection.decoder
            assert sent is not None
            assert decoder is not None
            if sent.send_ns is None and now_ns - connection.began_ns > connect_ns:
                self.ended(connection, RequestStatus.TIMEOUT, f"no connection in {settings.connect_timeout_s:.3g} s")
            elif now_ns - connection.began_ns > request_ns:
                self.ended(connection, RequestStatus.TIMEOUT, f"no end in {settings.request_timeout_s:.3g} s")
            elif quiet > stall_ns:
                self.ended(connection, RequestStatus.TIMEOUT, f"not a byte in {settings.stall_timeout_s:.3g} s")
            elif len(connection.reads) > MAX_READS or (quiet > quiet_ns and connection.n_reads):
                connection.decode()
                if decoder.failure is not None or decoder.says_done:
                    self.ended(connection, None, None)

    def _give_up(self) -> None:
        assert self._stopped_ns is not None
        if self._plans is not None and self.settings.concurrency is None:
            self._refill()
        for plan, due_ns in self.schedule.drop(self._stopped_ns):
            self._sink(unsent_record(plan, due_ns), [])

    def _cancel(self) -> None:
        for connection in [c for c in self._connections.values() if c.sent is not None]:
            self.ended(connection, RequestStatus.CANCELLED, "not finished before the end of the load")
