"""A worker that answers as it should, but for one moment of its first start, or of each: the plan says what then.

Its text is run by an interpreter without site packages, and imports little, so that its start takes little;
`FEWMARK_PLAN` is its folder.
"""

from __future__ import annotations

import binascii
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

STEPS = {"load": "loaded", "run": "result", "close": "closed"}
LONG_S = 600


def say(content: bytes, at_once: int = 1 << 20, pause_s: float = 0.0) -> None:
    """Write all of it, in pieces where that is asked for."""
    while content:
        content = content[os.write(1, content[:at_once]) :]
        if pause_s:
            time.sleep(pause_s)


def flood(number: int, line: bytes) -> None:
    """Write to a stream for as long as it is read, three seconds at most."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        os.write(number, line * 1000)


def child(code: str = "import time; time.sleep(600)") -> None:
    """Start another process, which stays in our group and has our streams."""
    import subprocess

    subprocess.Popen([sys.executable, "-I", "-S", "-c", code])


def heeds_nothing() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LONG_S)


def closes(*numbers: int) -> None:
    for number in numbers:
        os.close(number)


def ends_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def ends_later() -> None:
    import threading

    threading.Timer(0.05, os._exit, (4,)).start()


def then(*steps: Callable[[], object]) -> Callable[[], object]:
    """One step after the other."""
    return lambda: [step() for step in steps]


def sleeps() -> None:
    time.sleep(LONG_S)


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
ENDINGS: dict[str, Callable[[], object]] = {
    "ends": lambda: os._exit(0),
    "ends with 1": lambda: os._exit(1),
    "ends with 3": lambda: os._exit(3),
    "ends with 137": lambda: os._exit(137),
    "ends with 255": lambda: os._exit(255),
    "raises": lambda: 1 // 0,
    "aborts": os.abort,
    "speaks of memory and ends": then(lambda: os.write(2, b"CUDA out of memory\n"), lambda: os._exit(1)),
    **{
        f"ends by {name}": partial(ends_itself, getattr(signal, name))
        for name in ("SIGKILL", "SIGSEGV", "SIGTERM", "SIGINT", "SIGHUP", "SIGBUS", "SIGPIPE", "SIGXCPU", "SIGUSR1")
    },
    "hangs": sleeps,
    "stops itself": partial(ends_itself, signal.SIGSTOP),
    "hangs and heeds no signal": heeds_nothing,
    "closes its output and ends": then(lambda: closes(1), lambda: os._exit(0)),
    "closes its output and hangs": then(lambda: closes(1), sleeps),
    "closes its input and goes on": lambda: closes(0),
    "closes its input and hangs": then(lambda: closes(0), sleeps),
    "closes its log and goes on": lambda: closes(2),
    "closes everything and hangs": then(lambda: closes(0, 1, 2), sleeps),
    "floods its log": lambda: flood(2, b"x" * 80 + b"\n"),
    "floods its log without a line feed": lambda: flood(2, b"x" * 80),
    "floods its output": lambda: flood(1, b"y" * 80 + b"\n"),
    "floods its output without a line feed": lambda: flood(1, b"y" * 80),
    "floods its output with messages": lambda: flood(1, b'{"fewmark": 1, "event": "x"}\n'),
    "floods its output with samples": lambda: flood(1, b'{"fewmark": 1, "event": "sample", "sample": {}}\n'),
    "logs what is no text": lambda: os.write(2, bytes(range(256)) * 20),
    "logs a secret and ends": then(lambda: os.write(2, b"HF_TOKEN=hf_abcdefghijklmnopq\n"), lambda: os._exit(1)),
    "steers the terminal by its log and ends": then(lambda: os.write(2, b"\x1b[2J\x07\n"), lambda: os._exit(1)),
    "leaves a child that holds its output": then(child, lambda: os._exit(0)),
    "leaves a child that heeds no signal": then(lambda: child(STUBBORN), lambda: os._exit(0)),
    "leaves twenty children": then(*[child] * 20, lambda: os._exit(3)),
    "leaves a child that talks": then(
        lambda: child('while True: print(\'{"fewmark": 1, "event": "result"}\', flush=True)'), lambda: os._exit(0)
    ),
    "has a child and hangs": then(child, sleeps),
    "ends a little later": ends_later,
    "becomes another program": lambda: os.execv("/bin/sleep", ["sleep", str(LONG_S)]),
    "becomes a program that echoes": lambda: os.execv("/bin/cat", ["cat"]),
}


def main() -> None:
    folder = os.environ["FEWMARK_PLAN"]
    with os.fdopen(os.open(f"{folder}/plan", os.O_RDONLY)) as file:
        plan = json.load(file)
    try:
        os.close(os.open(f"{folder}/started", os.O_CREAT | os.O_EXCL))
        astray = True
    except FileExistsError:
        astray = plan["always"]
    for n, line in enumerate(sys.stdin.buffer):
        request = json.loads(line) if n else {}
        step = STEPS[request["op"]] if n else "hello"
        message = dict(plan["good"][step])
        if step == "result":
            seconds = float(request["workload"]["batch_size"])
            message["number"] = request["number"]
            message["samples"] = [dict(sample, e2e_latency_s=seconds) for sample in message["samples"]]
        own = json.dumps(message).encode() + b"\n"
        if not astray or n != plan["at"]:
            say(own)
        else:
            for piece in plan["pieces"]:
                content = own if piece is None else binascii.a2b_base64(piece)
                say(content, plan["at_once"], plan["pause_s"])
            if plan["ending"] is not None:
                ENDINGS[plan["ending"]]()
        if step == "closed":
            break


if __name__ == "__main__":
    main()
