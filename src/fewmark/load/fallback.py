"""The same loop on aiohttp: for proxies (by the usual environment variables) and servers that need another client.

Slower, and its receive times are taken when the process comes to read: records say so by `kernel_stamps` False.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Final

from fewmark.core.errors import InputError
from fewmark.load.clock import StepWatch, realtime_ns
from fewmark.load.decoding import Decoder, Sent, make_record, unsent_record
from fewmark.load.endpoint import Endpoint, Mask
from fewmark.load.records import GIVEN_UP, RequestPlan, RequestRecord, RequestStatus, WorkerUse
from fewmark.load.schedule import Schedule
from fewmark.load.settings import LoadSettings

try:
    import aiohttp
except ImportError as error:
    raise InputError(
        "the transport aiohttp is not installed", hint='pip install "fewmark[load]", or use the transport sockets'
    ) from error

READ_BUFFER: Final = 1 << 20  # a small one stops and starts long prompts' answers
SCAN_S: Final = 0.05
MAX_SENDS: Final = 8  # of one request, over connections that turn out to be closed
BACKOFF_S: Final = 0.1
PULL: Final = 64


class FallbackLoop:
    """Drives one worker's share of a load; the parameters are those of `fewmark.load.loop.Loop`."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: LoadSettings,
        plans: Iterator[RequestPlan] | None,
        sink: Callable[[RequestRecord, list[tuple[int, str]]], None],
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
        self._listeners: dict[int, Callable[[], None]] = {}
        self._endpoint = endpoint
        self._plans = plans
        self._sink = sink
        self._worker = worker
        self._key = endpoint.read_key()
        self._mask = Mask(self._key)
        self._context = endpoint.tls_context()
        self._free: list[int] = []
        self._freed_ns: dict[int, int] = {}
        self._n_slots = 0
        self._first_slot = first_slot
        self._tasks: dict[asyncio.Task[None], Sent] = {}
        self._n_requests = 0
        self._longest_pause_ns = 0
        self._stopped_ns: int | None = None
        self._stopping = False

    def start_at(self, start_ns: int) -> None:
        """The load starts at this time of the real-time clock."""
        self.start_ns = self.schedule.start_ns = start_ns
        self.is_started = True

    def listen(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` is readable."""
        self._listeners[fd] = callback

    def stop(self) -> None:
        """Send nothing more and cancel what is in flight."""
        self._stopping = True

    def run(self) -> WorkerUse:
        """Drive the load to its end."""
        if not self.is_started:
            self.start_at(realtime_ns())
        cpu_s = time.process_time()
        started_ns = realtime_ns()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._main())
        self.steps.look()
        return WorkerUse(
            self._worker,
            started_ns / 1e9,
            realtime_ns() / 1e9,
            time.process_time() - cpu_s,
            self._n_requests,
            self._longest_pause_ns / 1e9,
        )

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        for fd, callback in self._listeners.items():
            loop.add_reader(fd, callback)
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_on_made)
        trace.on_connection_reuseconn.append(_on_reused)
        settings = self.settings
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._context if self._context is not None else True),
            timeout=aiohttp.ClientTimeout(
                total=settings.request_timeout_s,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.stall_timeout_s,
            ),
            read_bufsize=READ_BUFFER,
            trust_env=True,
            trace_configs=[trace],
        ) as session:
            while not (self.schedule.finished and not len(self.schedule) and not self._tasks):
                self._end_if_due()
                self._send_due(session)
                patience_s = self._patience_s()
                before = time.monotonic_ns()
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(patience_s)
                late_ns = time.monotonic_ns() - before - int(patience_s * 1e9)
                self._longest_pause_ns = max(self._longest_pause_ns, late_ns)
                self.steps.look()
                if self.on_scan is not None:
                    self.on_scan()
        for fd in self._listeners:
            loop.remove_reader(fd)

    def _end_if_due(self) -> None:
        settings, now_ns = self.settings, realtime_ns()
        duration_s = settings.duration_s
        if self._stopped_ns is None:
            if self._stopping:
                self._stopped_ns = now_ns
            elif duration_s is not None and now_ns - self.start_ns > duration_s * 1e9:
                self._stopped_ns = self.start_ns + int(duration_s * 1e9)
        if self._stopped_ns is not None:  # at each turn: plans may still have been on their way from the driver
            for plan, due_ns in self.schedule.drop(self._stopped_ns):
                self._sink(unsent_record(plan, due_ns), [])
        if self._stopped_ns is not None and (self._stopping or now_ns - self._stopped_ns > settings.drain_s * 1e9):
            for task in self._tasks:
                task.cancel()

    def _patience_s(self) -> float:
        limit = self.settings.concurrency or self.settings.max_in_flight
        due_ns = self.schedule.next_ns()
        if due_ns is None or (limit is not None and len(self._tasks) >= limit):
            return SCAN_S
        return min(max((max(due_ns, self.start_ns) - realtime_ns()) / 1e9, 0.0), SCAN_S)

    def _send_due(self, session: aiohttp.ClientSession) -> None:
        limit = self.settings.concurrency or self.settings.max_in_flight
        now_ns = realtime_ns()
        while self._stopped_ns is None and now_ns >= self.start_ns and (limit is None or len(self._tasks) < limit):
            while self._plans is not None and not self.schedule.finished and self.schedule.n_fresh < PULL // 2:
                plan = next(self._plans, None)
                if plan is None:
                    self.schedule.finished = True
                else:
                    self.schedule.add(plan)
                if self.schedule.is_blocked:
                    break
            due = self.schedule.take(now_ns)
            if due is None:
                return
            slot = heapq.heappop(self._free) if self._free else self._first_slot + self._n_slots
            self._n_slots += slot == self._first_slot + self._n_slots
            sent = Sent(due[0], slot, due[1] if due[1] is not None else self._freed_ns.get(slot, self.start_ns))
            sent.kernel_stamps = False
            task = asyncio.get_running_loop().create_task(self._request(session, sent))
            self._tasks[task] = sent
            task.add_done_callback(self._done)
            if self.on_low is not None:
                self.on_low(1)

    def _done(self, task: asyncio.Task[None]) -> None:
        sent = self._tasks.pop(task)
        now_ns = realtime_ns()
        self._freed_ns[sent.slot] = now_ns
        heapq.heappush(self._free, sent.slot)
        self.schedule.ended(sent.plan, now_ns)
        self._n_requests += 1
        task.result()

    async def _request(self, session: aiohttp.ClientSession, sent: Sent) -> None:
        settings, plan = self.settings, sent.plan
        decoder = Decoder(stream=plan.stream, limit=settings.max_answer_bytes, keep_chunks=settings.keep_chunks)
        status: RequestStatus | None = None
        reason: str | None = None
        headers = {"Content-Type": "application/json", "User-Agent": "fewmark", **self._endpoint.headers}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            for _ in range(MAX_SENDS):
                try:
                    await self._exchange(session, sent, headers, decoder)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not sent.reused or sent.first_byte_ns is not None:
                        raise
                    sent.reused = False  # the server closed it while it was idle; what was sent never arrived
                    continue
                break
            else:
                raise aiohttp.ServerDisconnectedError
        except asyncio.CancelledError:
            status, reason = RequestStatus.CANCELLED, "not finished before the end of the load"
        except Exception as error:  # every failure of a request is its record
            status, reason = _status(error), f"{type(error).__name__}: {error}"
        if sent.end_ns is None or status in GIVEN_UP:
            sent.end_ns = realtime_ns()  # until then it kept its stream
        answered = decoder if sent.send_ns is not None else None
        record = make_record(sent, answered, status, reason if answered else self._mask(reason), self._mask)
        self._sink(record, decoder.answer.chunks)
        if status in (RequestStatus.REFUSED, RequestStatus.TLS_ERROR):
            await asyncio.sleep(BACKOFF_S)

    async def _exchange(
        self, session: aiohttp.ClientSession, sent: Sent, headers: dict[str, str], decoder: Decoder
    ) -> None:
        plan = sent.plan
        url = f"{'https' if self._endpoint.is_tls else 'http'}://{_netloc(self._endpoint)}"
        async with session.post(
            url + self._endpoint.path(plan.path),
            data=plan.body,
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=sent,
        ) as response:
            sent.first_byte_ns = realtime_ns()
            decoder.feed([sent.first_byte_ns], [_head(response)])
            while decoder.failure is None and not decoder.says_done:
                data = await response.content.readany()
                stamp_ns = realtime_ns()
                if not data:
                    break
                decoder.feed([stamp_ns], [data])
                sent.end_ns = stamp_ns
            if decoder.failure is None:
                await response.read()  # the end of the body, so that the connection can carry another request
            decoder.end()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def _netloc(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _head(response: aiohttp.ClientResponse) -> bytes:
    """The head as the decoder needs it; the body's framing and encoding are aiohttp's work."""
    kind = response.headers.get("Content-Type", "")
    location = response.headers.get("Location", "")
    head = f"HTTP/1.1 {response.status:03d} -\r\nContent-Type: {kind}\r\nLocation: {location}\r\n\r\n"
    return head.encode("utf-8", "replace")


def _status(error: Exception) -> RequestStatus:
    if isinstance(error, TimeoutError):
        return RequestStatus.TIMEOUT
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        return RequestStatus.TLS_ERROR
    if isinstance(error, aiohttp.ClientConnectorError):
        return RequestStatus.REFUSED
    if isinstance(
        error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError
    ):
        return RequestStatus.CUT
    return RequestStatus.MALFORMED


async def _on_made(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    sent: Sent = context.trace_request_ctx
    sent.connect_ns = sent.send_ns = realtime_ns()


async def _on_reused(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    sent: Sent = context.trace_request_ctx
    sent.reused = True
    sent.send_ns = realtime_ns()
