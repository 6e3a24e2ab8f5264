"""A discrete simulation of a continuous-batching server whose speed wanders, and what a client would record of it.

One step gives a token to each request in the batch and takes `base_s + per_request_s · batch`, times exp(Z(t)), Z an
Ornstein-Uhlenbeck process of standard deviation `drift_sd` and correlation time `drift_s`: what other work, clocks and
caches do to a machine. A request that finds a place in the batch first has its prompt read, which holds up the whole
batch. Places go in order of arrival. Times are in seconds from 0.
"""

from __future__ import annotations

import heapq
import math
import random
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from fewmark.load.records import LoadResult, RequestRecord, RequestStatus


@dataclass(frozen=True)
class Server:
    """How a simulated server behaves; `run_sd` is how much whole runs differ."""

    base_s: float = 0.010
    per_request_s: float = 0.0004
    prefill_s: float = 0.030
    max_batch: int = 32
    drift_sd: float = 0.15
    drift_s: float = 1.0
    run_sd: float = 0.0


@dataclass(frozen=True)
class Lengths:
    """Answers of geometric length, at least 2 tokens."""

    mean: float = 60.0

    def draw(self, rng: random.Random) -> int:
        return 2 + int(math.log(1 - rng.random()) / math.log1p(-1 / (self.mean - 1)))


class Simulation:
    """One run: a server, a loop that sends requests to it, and what was recorded of each."""

    def __init__(self, server: Server, lengths: Lengths, seed: int) -> None:
        self.server, self.lengths = server, lengths
        self.rng = random.Random(seed)
        self.now = 0.0
        self.drift = self.rng.gauss(0, server.drift_sd)
        self.pace = math.exp(self.rng.gauss(0, server.run_sd)) if server.run_sd else 1.0
        self.waiting: deque[tuple[float, int, int]] = deque()
        self.batch: list[tuple[int, float, int, int, int]] = []  # step of the end; sent; stream; tokens; first step
        self.step_ends: list[float] = []
        self.records: list[RequestRecord] = []

    def closed(self, concurrency: int, n_requests: int) -> LoadResult:
        """Streams that send their next request when the last has ended, until so many were sent."""
        sent = min(concurrency, n_requests)
        self.waiting.extend((0.0, stream, self.lengths.draw(self.rng)) for stream in range(sent))
        while self.waiting or self.batch:
            for stream in self._step():
                if sent < n_requests:
                    self.waiting.append((self.now, stream, self.lengths.draw(self.rng)))
                    sent += 1
        return self._result()

    def open(self, send_times: Iterable[float]) -> LoadResult:
        """Requests at given times."""
        arrivals: Iterator[tuple[int, float]] = enumerate(send_times)
        coming = next(arrivals, None)
        while self.waiting or self.batch or coming is not None:
            if not self.waiting and not self.batch and coming is not None:
                self._pass(max(coming[1] - self.now, 0.0))
            while coming is not None and coming[1] <= self.now:
                self.waiting.append((coming[1], coming[0], self.lengths.draw(self.rng)))
                coming = next(arrivals, None)
            for _ in self._step():
                pass
        return self._result()

    def _step(self) -> Iterator[int]:
        server = self.server
        number = len(self.step_ends)
        prefill = 0.0
        while self.waiting and len(self.batch) < server.max_batch:
            sent, stream, tokens = self.waiting.popleft()
            heapq.heappush(self.batch, (number + tokens, sent, stream, tokens, number))
            prefill += server.prefill_s
        speed = math.exp(self.drift) * self.pace
        self._pass((server.base_s + server.per_request_s * len(self.batch) + prefill) * speed)
        self.step_ends.append(self.now)
        while self.batch and self.batch[0][0] <= number + 1:
            _, sent, stream, tokens, first = heapq.heappop(self.batch)
            self._record(sent, stream, tokens, first)
            yield stream

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        kept = math.exp(-seconds / self.server.drift_s)
        self.drift = self.drift * kept + self.rng.gauss(0, self.server.drift_sd * math.sqrt(1 - kept * kept))

    def _record(self, sent: float, stream: int, tokens: int, first: int) -> None:
        times = self.step_ends[first : first + tokens]
        self.records.append(
            RequestRecord(
                len(self.records),
                RequestStatus.OK,
                stream=stream,
                planned_send_s=sent,
                send_s=sent,
                reused=True,
                first_byte_s=times[0],
                first_chunk_s=times[0],
                first_output_s=times[0],
                second_token_s=times[1],
                last_token_s=times[-1],
                end_s=times[-1],
                output_tokens_asked=tokens,
                completion_tokens=tokens,
                prompt_tokens=100,
                input_tokens_asked=100,
                n_chunks=tokens,
                chunk_gaps_s=array("d", (b - a for a, b in pairwise(times))),
                kernel_stamps=True,
                finish_reason="length",
                http_status=200,
            )
        )

    def _result(self) -> LoadResult:
        return LoadResult(tuple(self.records), 0.0, self.now)
