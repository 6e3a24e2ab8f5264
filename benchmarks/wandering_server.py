"""Mock servers on real sockets that batch continuously at a speed that wanders, for `load_intervals.py --live`.

Each is a `simulated_server.Server` in real time: a step gives a token to every request in the batch, reading
a prompt holds up the batch, and all of it takes exp(Z(t)) times as long, Z an Ornstein-Uhlenbeck process of its
own. Requests are as in `paced_server.py`; answers are `max_tokens` long.

    python benchmarks/wandering_server.py COUNT SEED SERVER       prints the ports; SERVER as JSON
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
from collections import deque

from paced_server import HEADER, LAST, LEAD, TAIL, USAGE, chunk
from simulated_server import Server


class Batch:
    """What one server is working on."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.drift = self.rng.gauss(0, server.drift_sd)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.work = asyncio.Event()

    async def run(self) -> None:
        """Work, until the process ends."""
        clock = asyncio.get_running_loop().time
        now = clock()
        while True:
            if not self.waiting and not self.running:
                self.work.clear()
                await self.work.wait()
                self.wander(clock() - now)
                now = clock()
            prefill = 0.0
            while self.waiting and len(self.running) < self.server.max_batch:
                self.running.append(self.waiting.popleft())
                prefill += self.server.prefill_s
            step = self.server.base_s + self.server.per_request_s * len(self.running) + prefill
            step *= math.exp(self.drift)
            self.wander(step)
            now += step  # by the schedule, so that a late wake-up adds up to nothing
            await asyncio.sleep(max(now - clock(), 0.0))
            self.running = [request for request in self.running if request.give()]

    def wander(self, seconds: float) -> None:
        """Let the speed move on."""
        kept = math.exp(-seconds / self.server.drift_s)
        self.drift = self.drift * kept + self.rng.gauss(0, self.server.drift_sd * math.sqrt(1 - kept * kept))


class Request:
    """One answer on its way."""

    def __init__(self, number: int, tokens: int, writer: asyncio.StreamWriter) -> None:
        self.lead = LEAD.format(number).encode()
        self.left = self.total = tokens
        self.writer = writer
        self.is_over = asyncio.Event()

    def give(self) -> bool:
        """Send the next token; whether there are more."""
        self.left -= 1
        head = HEADER if self.left + 1 == self.total else b""
        data = head + chunk(self.lead + b" t" + (TAIL if self.left else LAST))
        if not self.left:
            usage = USAGE.format(self.total + 8, self.total).encode()
            data += chunk(usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
            self.is_over.set()
        if not self.writer.is_closing():
            self.writer.write(data)
        return self.left > 0


async def serve(server: Server, seed: int, tasks: set[asyncio.Task[None]]) -> int:
    """Start one server; its port."""
    batch = Batch(server, seed)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = json.loads(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0])))
                request = Request(id(body), int(body["max_tokens"]), writer)
                batch.waiting.append(request)
                batch.work.set()
                await request.is_over.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    tasks.add(asyncio.create_task(batch.run()))
    tasks.add(asyncio.create_task(listener.serve_forever()))
    port: int = listener.sockets[0].getsockname()[1]
    return port


async def main(count: int, seed: int, server: Server) -> None:
    """Serve until the process is ended."""
    tasks: set[asyncio.Task[None]] = set()
    ports = [await serve(server, seed + i, tasks) for i in range(count)]
    print(*ports, flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Server(**json.loads(sys.argv[3]))))
