"""The worker process of a load: plans come on its standard input, records go to its standard output.

    driver  ("start", endpoint, settings, worker, first_slot)
    worker  ("ready",) or ("failed", what, got, hint)
    driver  ("go", start_ns): after the first plans
    worker  ("want", n): it has room for so many further plans
    driver  ("plans", [fields…]), ("end",): there are no more; ("stop",): send nothing more, cancel what is in flight
    worker  ("record", fields, chunks)
    worker  ("done", use, clock_steps): the last message

The key is in none of them: a worker reads it from the variable or file that the endpoint names. A worker whose
standard input closes stops.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import marshal
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from fewmark.core.errors import FewmarkError
from fewmark.load.endpoint import Endpoint
from fewmark.load.frames import HEAD, FrameReader, pack, record_values
from fewmark.load.loop import Chunks, Loop
from fewmark.load.records import RequestPlan, RequestRecord
from fewmark.load.settings import LoadSettings

if TYPE_CHECKING:
    from fewmark.load.fallback import FallbackLoop

AHEAD: Final = 128  # plans that a worker holds beyond its streams
READ: Final = 1 << 20
MAX_GATHERED: Final = 1 << 15
COMMAND: Final = (
    "import marshal,struct,sys;r=sys.stdin.buffer.raw\n"
    "def read(n):\n"
    "    b=b''\n"
    "    while len(b)<n:\n"
    "        d=r.read(n-len(b))\n"
    "        if not d: sys.exit(1)\n"
    "        b+=d\n"
    "    return b\n"
    "s=marshal.loads(read(struct.unpack('<Q',read(8))[0]))\n"
    "g={'__name__':'fewmark_load_boot'};exec(s['boot'],g);g['start'](s)"
)
BOOT: Final = """
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, sources):
        self.sources = sources
    def find_spec(self, name, path=None, target=None):
        if name in self.sources:
            return importlib.util.spec_from_loader(name, self, is_package=self.sources[name][0])
    def get_source(self, name):
        return self.sources[name][1]
    def exec_module(self, module):
        text = self.sources[module.__name__][1]
        exec(compile(text, "<worker>/" + module.__name__.replace(".", "/"), "exec"), module.__dict__)

def start(message):
    sys.meta_path.insert(0, Finder(message["sources"]))
    sys.path[:] = [entry for entry in sys.path if entry]
    from fewmark.load.worker import main
    sys.exit(main())
"""


def worker_sources() -> bytes:
    """What a worker process reads first: the sources of the modules that this one has loaded of core and load.

    Taken from the modules themselves, since this process may have got them as sources too.
    """
    sources: dict[str, tuple[bool, str]] = {}
    for name in sorted(sys.modules):
        if name == "fewmark" or name.startswith(("fewmark.core", "fewmark.load")):
            spec = sys.modules[name].__spec__
            get_source = getattr(spec.loader, "get_source", None) if spec is not None else None
            text = get_source(name) if get_source is not None else None
            if spec is not None and text is not None:
                sources[name] = (spec.submodule_search_locations is not None, text)
    data = marshal.dumps({"boot": BOOT, "sources": sources})
    return HEAD.pack(len(data)) + data


def worker_command() -> list[str]:
    """The command of a worker process."""
    return [sys.executable, "-c", COMMAND]


class Pipe:
    """The worker's end of both pipes; writing waits, reading does not.

    Messages are gathered: each one by itself would wake the driver, which may need the very core that sends.
    """

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._gathered = bytearray()
        self._wanted = 0
        self._out = os.dup(1)
        os.dup2(2, 1)  # what anything prints must not get between the messages

    def write(self, *message: object) -> None:
        """Send a message, and those that were gathered before it."""
        self._gathered += pack(*message)
        self.flush()

    def gather(self, *message: object) -> None:
        """Send a message soon."""
        self._gathered += pack(*message)
        if len(self._gathered) > MAX_GATHERED:
            self.flush()

    def want(self, count: int) -> None:
        """Ask for plans, once enough are wanted."""
        self._wanted += count
        if self._wanted >= AHEAD // 4:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if self._wanted:
            self._gathered += pack("want", self._wanted)
            self._wanted = 0
        data, self._gathered = self._gathered, bytearray()
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]

    def read(self) -> list[tuple[Any, ...]] | None:
        """The messages that have come, at least a part of one; None at the end."""
        data = os.read(0, READ)
        return self._reader.feed(data) if data else None


def main() -> int:
    """Serve one load."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver says when to stop
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each stream is a file
    pipe = Pipe()
    start: tuple[Any, ...] | None = None
    early: list[tuple[Any, ...]] = []
    while start is None:
        messages = pipe.read()
        if messages is None:
            return 1
        if messages:
            start, *early = messages
    _, endpoint, settings, worker, first_slot = start
    try:
        loop = _make_loop(Endpoint(**endpoint), LoadSettings(**settings), pipe, worker, first_slot)
    except FewmarkError as error:
        pipe.write("failed", error.what, None if error.got is None else str(error.got), error.hint)
        return 1
    take = _taker(loop, pipe)
    pipe.write("ready")
    take(early)
    while not loop.is_started:
        messages = pipe.read()
        if messages is None:
            return 1
        take(messages)
    gc.freeze()
    gc.disable()  # nothing here refers to itself, and looking for what does takes longer than reading
    with contextlib.suppress(BrokenPipeError):
        use = loop.run()
        pipe.write("done", astuple(use), [astuple(step) for step in loop.steps.steps])
    return 0


def _make_loop(
    endpoint: Endpoint, settings: LoadSettings, pipe: Pipe, worker: int, first_slot: int
) -> Loop | FallbackLoop:
    def keep(record: RequestRecord, chunks: Chunks) -> None:
        pipe.gather("record", record_values(record), chunks)

    if settings.transport == "aiohttp":
        make: type[Loop | FallbackLoop] = importlib.import_module("fewmark.load.fallback").FallbackLoop
    else:
        make = Loop
    return make(endpoint, settings, None, keep, first_slot=first_slot, worker=worker)


def _taker(loop: Loop | FallbackLoop, pipe: Pipe) -> Callable[[list[tuple[Any, ...]]], None]:
    def take(messages: list[tuple[Any, ...]]) -> None:
        for message in messages:
            if message[0] == "plans":
                for values in message[1]:
                    loop.schedule.add(RequestPlan(*values))
            elif message[0] == "go":
                loop.start_at(message[1])
            elif message[0] == "end":
                loop.schedule.finished = True
            elif message[0] == "stop":
                loop.stop()

    def on_readable() -> None:
        messages = pipe.read()
        if messages is None:
            os._exit(1)  # the driver is gone
        take(messages)

    loop.on_low = pipe.want
    loop.on_scan = pipe.flush
    loop.listen(0, on_readable)
    return take
