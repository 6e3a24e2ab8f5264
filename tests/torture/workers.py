"""Workers and engines that misbehave: any message at any time, any end. One case each, and later cases are measured."""

from __future__ import annotations

import itertools
import json
import os
import random
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from guard import announce
from mutations import ODD
from processes import MARKER, family, told, wait_until_gone
from tally import Clock, Tally

from fewmark.core import Case, Deployment, EngineError, FrozenMap, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, RunSettings
from fewmark.runner.deployment import measure_deployment
from fewmark.runner.results import measurements_of

PLUGIN = Path(__file__).parents[1] / "runner" / "plugin"
THREADS: Final = 4
CASES = [Case(Deployment("dummy", "toy"), Workload(4, 2, batch_size=b)) for b in (1, 2)]
SAMPLE = {"e2e_latency_s": 1.0, "ttft_s": 0.5, "output_tokens": 2, "token_times_s": [0.5, 1.0]}
RESULT = {
    **{"fewmark": 1, "event": "result", "status": "ok", "samples": [SAMPLE], "wall_s": 1.0, "flags": []},
    **{"energy_j": 1.0, "extra": {"a": 1}, "error": None, "provenance": "measured"},
}
GOOD = [
    {"fewmark": 1, "event": "hello", "pid": 0, "environment": {"a": 1}, "scratch": None},
    {"fewmark": 1, "event": "loaded", "environment": {"a": 1}},
    RESULT,
    RESULT,
    {"fewmark": 1, "event": "closed"},
]
ENDINGS = {
    "ends": "exit 0",
    "fails": "exit 3",
    "is killed": "kill -9 $$",
    "faults": "kill -11 $$",
    "sleeps": "exec sleep 2",
    "closes its output": "exec 1>&-; sleep 2",
    "closes its input": "exec 0<&-; sleep 0.2",
    "floods its log": "yes >&2 & sleep 0.2; kill $!",
    "floods its output": "yes & sleep 0.2; kill $!",
    "heeds no signal": "trap '' TERM INT HUP; sleep 2",
    "leaves a child with its output": "sleep 2 & exit 0",
    "says the last once more": 'cat "$last"; cat "$last"; exit 0',
}
WHOLE: dict[str, Callable[[str, random.Random], str]] = {
    "is cut short": lambda text, rng: text[: rng.randrange(len(text))],
    "has no line feed": lambda text, rng: text.rstrip("\n"),
    "has a banner before it": lambda text, rng: "Welcome to host\n" + text,
    "stands behind a prompt": lambda text, rng: "$ " + text,
    "comes twice": lambda text, rng: text * 2,
    "comes 5000 times": lambda text, rng: text * 5000,
    "is broken in two lines": lambda text, rng: text[:20] + "\n" + text[20:],
    "is nested deeply": lambda text, rng: '{"fewmark": ' * 3000 + "\n",
    "is a list without an end": lambda text, rng: "[" * 10_000 + "\n",
    "is no text": lambda text, rng: "\udcff\udcfe" * 10 + "\n",
    "holds NUL": lambda text, rng: text.replace("event", "ev\0ent"),
    "ends in CR LF": lambda text, rng: text.replace("\n", "\r\n"),
    "begins with a BOM": lambda text, rng: "\ufeff" + text,
    "is of another protocol": lambda text, rng: text.replace('"fewmark": 1', '"fewmark": 2'),
    "has single quotes": lambda text, rng: text.replace('"', "'"),
    "is empty": lambda text, rng: "",
    "is a blank line": lambda text, rng: "\n",
    "is 2 MB long": lambda text, rng: text.replace('"event"', f'"x": "{"y" * 2_000_000}", "event"'),
    "holds NaN": lambda text, rng: text.replace("1.0", "NaN").replace('"a": 1', '"a": NaN'),
    "holds infinity": lambda text, rng: text.replace("1.0", "1e999").replace('"a": 1', '"a": -Infinity'),
    "holds a negative time": lambda text, rng: text.replace("1.0", "-1.0"),
    "holds a number of 401 digits": lambda text, rng: text.replace("1.0", "9" * 401).replace(
        '"a": 1', '"a": ' + "9" * 401
    ),
    "holds a number of 5000 digits": lambda text, rng: text.replace("1", "9" * 5000),
    "holds an age of the world": lambda text, rng: text.replace("1.0", "1e18"),
    "holds a key twice": lambda text, rng: text.replace('"event"', '"event": "x", "event"'),
    "steers the terminal": lambda text, rng: text.replace('"event"', '"error": "\\u001b[2J\\u0007", "event"'),
    "tells a secret": lambda text, rng: text.replace('"event"', '"error": "HF_TOKEN=hf_abcdefghijklmnopq", "event"'),
}
WORDS: Final = ("hello", "loaded", "result", "closed", "failed", "sample", "unavailable", "refused", "", "x")
# What an engine does that runs in a real worker: the option `do` of the tests' engine.
ENGINE_WAYS: Final = (
    *("raise", "exit", "kill", "hang", "escape", "fill", "memory", "allocate", "hold", "abort", "share", "refuse"),
    *("short", "unsupported"),
)


Said = Callable[[random.Random], str]


def ways() -> list[tuple[str, int, Said]]:
    """Every way in which one message of a conversation can be wrong: its name, which message, and what is sent."""
    out: list[tuple[str, int, Said]] = []
    for at, message in enumerate(GOOD):
        name = f"{message['event']} {at}"
        for key in message:
            out.append((f"{name} without {key}", at, changed(at, partial(drop, key=key))))
            for number, odd in enumerate(ODD):
                out.append((f"{name}: {key} is odd value {number}", at, changed(at, partial(put, key=key, value=odd))))
        out += [(f"{name} says {word!r}", at, changed(at, partial(put, key="event", value=word))) for word in WORDS]
        out += [(f"{name} {how}", at, whole(json.dumps(message) + "\n", change)) for how, change in WHOLE.items()]
    for key, (number, odd) in itertools.product([*SAMPLE, "tpot_s", "power_w", "new"], enumerate(ODD)):
        sample = partial(put, key="samples", value=[{**SAMPLE, key: odd}])
        out.append((f"a sample's {key} is odd value {number}", 2, changed(2, sample)))
    return out


def put(message: dict[str, Any], key: str, value: Any) -> None:
    """Change one value of a message."""
    message[key] = value


def drop(message: dict[str, Any], key: str) -> None:
    """Leave one value of a message out."""
    del message[key]


def changed(at: int, change: Callable[[dict[str, Any]], object]) -> Said:
    """The message of a place with something of it changed."""

    def made(rng: random.Random) -> str:
        message = json.loads(json.dumps(GOOD[at]))
        change(message)
        return json.dumps(message) + "\n"

    return made


def whole(text: str, change: Callable[[str, random.Random], str]) -> Said:
    """A message whose text is changed."""
    return lambda rng: change(text, rng)


def conversation(own: int, all_ways: list[tuple[str, int, Said]], tally: Tally) -> None:
    """A worker that says what it should, but for one message, and then ends in one of the ways."""
    rng = random.Random(own)
    name, bad, text = rng.choice(all_ways)
    ending = rng.choice(list(ENDINGS))
    last = rng.randint(bad + 1, len(GOOD))
    with tempfile.TemporaryDirectory() as folder:
        script, lines = Path(folder) / "worker", ["#!/bin/sh"]
        for number, message in enumerate(GOOD[:last]):
            said = text(rng) if number == bad else json.dumps(message) + "\n"
            path = Path(folder) / str(number)
            path.write_bytes(said.encode("utf-8", "surrogateescape" if "\udcff" in said else "surrogatepass"))
            lines += ["IFS= read -r request", f"last={shlex.quote(str(path))}", 'cat "$last"']
        script.write_text("\n".join([*lines, ENDINGS[ending], ""]))
        script.chmod(0o755)
        settings = RunSettings(
            Policy(warmup=0, max_repeats=3), timeout_s=5, load_timeout_s=5, launch=Launch(python=str(script))
        )
        what = f"{own} ({name}; then {ending})"
        began = time.monotonic()
        try:
            found = [m for result in measure_deployment(CASES, settings, {}) for m in measurements_of(result)]
            if {m.case for m in found} != set(CASES):
                tally.fail(f"{what}: {len(found)} of {len(CASES)} cases have a measurement")
            for m in found:
                held = json.dumps(m.to_dict(), allow_nan=False)
                if "abcdefghijklmnopq" in held or "\x1b" in held:
                    tally.fail(f"{what}: a secret, or what steers a terminal, is kept")
                if m.status is Status.OK and any(not 0 < s.e2e_latency_s < 1e8 for s in m.samples if s.e2e_latency_s):
                    tally.fail(f"{what}: nonsense is ok")
                if len(m.error or "") > 5000:
                    tally.fail(f"{what}: an error of {len(m.error or '')} letters")
        except EngineError:
            pass
        except Exception as error:
            tally.fault(error, what)
    tally.tried += 1
    tally.ways.add(name)
    tally.took(time.monotonic() - began)


def run(seed: int, seconds: float) -> list[Tally]:
    """Conversations at random, several at a time, until the time is over; then engines that misbehave."""
    rng, clock = random.Random(seed), Clock(seconds * 0.7)
    all_ways, tally = ways(), Tally("misbehaving worker")

    def turn(own: int) -> None:
        if clock:
            announce(f"conversation {own}")
            conversation(own, all_ways, tally)

    with ThreadPoolExecutor(THREADS) as pool:
        while clock:
            list(pool.map(turn, [rng.randrange(2**32) for _ in range(THREADS * 4)]))
    tally.failed = [f"{text}   [--repeat workers:{text.split()[0].rstrip(':')}]" for text in tally.failed]
    return [tally, engines(rng, Clock(seconds * 0.3))]


def engines(rng: random.Random, clock: Clock) -> Tally:
    """Real workers whose engine misbehaves, while loading or in a run: nothing of it runs on, no file of it stays."""
    tally = Tally("misbehaving engine")
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    for number, way in enumerate(endless(rng)):
        if not clock and number:
            break
        loading = rng.random() < 0.3
        with tempfile.TemporaryDirectory() as folder:
            word = f"{os.getpid()}-engine-{number}"
            environment = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": folder, MARKER: word}
            launch = Launch(environment=environment, memory_limit_bytes=2**29)
            settings = RunSettings(
                Policy(warmup=0, min_repeats=1, max_repeats=2), timeout_s=20, load_timeout_s=60, launch=launch
            )
            options = FrozenMap({"fill": True, "load": way} if loading else {"fill": True})
            deployment = Deployment("dummy", "toy", engine_options=options)
            asks = FrozenMap({} if loading else {"do": way})
            work = [Workload(4, 2, batch_size=1, options=asks), Workload(4, 2, batch_size=2)]
            cases = [Case(deployment, item) for item in work]
            what, began = f"{way} {'while loading' if loading else 'in a run'}", time.monotonic()
            announce(f"engine: {what}")
            try:
                came = [m for result in measure_deployment(cases, settings, {}) for m in measurements_of(result)]
                found = {m.case: m for m in came}
                if set(found) != set(cases):
                    tally.fail(f"{what}: {len(found)} of 2 cases have a measurement")
                elif not loading and found[cases[1]].status is not Status.OK and way != "hold":
                    tally.fail(f"{what}: the case after it is {found[cases[1]].status}: {found[cases[1]].error}")
            except EngineError:
                if not loading:
                    tally.fail(f"{what}: it ends the whole run")
            except Exception as error:
                tally.fault(error, what)
            if left := wait_until_gone(partial(family, word)):
                tally.fail(f"{what}: runs on: {told(left)}")
            if kept := sorted(path.name for path in Path(folder).iterdir()):
                tally.fail(f"{what}: temporary files stay: {kept}")
        tally.tried += 1
        tally.ways.add(what)
        tally.took(time.monotonic() - began)
    return tally


def endless(rng: random.Random) -> Iterator[str]:
    """Every way of an engine, in a new order each time round."""
    while True:
        yield from rng.sample(ENGINE_WAYS, len(ENGINE_WAYS))


def repeat(words: list[str]) -> list[Tally]:
    """The conversation of a number once more."""
    tally = Tally("misbehaving worker")
    conversation(int(words[0]), ways(), tally)
    return [tally]
