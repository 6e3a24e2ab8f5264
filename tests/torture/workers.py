"""Workers that misbehave: any message at any time, any end. One case each, and later cases are measured."""

from __future__ import annotations

import json
import random
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from tally import Clock, Tally

from fewmark.core import Case, Deployment, EngineError, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Launch, RunSettings
from fewmark.runner.deployment import measure_deployment

CASES = [Case(Deployment("dummy", "toy"), Workload(4, 2, batch_size=b)) for b in (1, 2)]
SAMPLE = {"e2e_latency_s": 1.0, "output_tokens": 2}
GOOD = [
    {"fewmark": 1, "event": "hello", "pid": 0, "environment": {}},
    {"fewmark": 1, "event": "loaded", "environment": {}},
    {"fewmark": 1, "event": "result", "status": "ok", "samples": [SAMPLE], "wall_s": 1.0},
    {"fewmark": 1, "event": "result", "status": "ok", "samples": [SAMPLE], "wall_s": 1.0},
    {"fewmark": 1, "event": "closed"},
]
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    "",
    "x",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": {}},
    10**400,
    "ok",
    "\ud800",
    [None] * 50,
]
ENDINGS = ["exit 0", "exit 3", "kill -9 $$", "kill -11 $$", "exec sleep 2", "exec 1>&-; sleep 2", "yes >&2 & sleep 0.2"]


def spoiled(message: Any, rng: random.Random) -> str:
    """A message with something of it changed, as the text that is sent."""
    kind = rng.randrange(8)
    message = json.loads(json.dumps(message))
    if kind == 0:
        message.pop(rng.choice(list(message)))
    elif kind in (1, 2, 3):
        message[rng.choice(list(message))] = rng.choice(ODD)
    elif kind == 4 and message.get("samples"):
        message["samples"][0][rng.choice(["e2e_latency_s", "ttft_s", "output_tokens", "token_times_s", "new"])] = (
            rng.choice(ODD)
        )
    text = json.dumps(message)
    if kind == 5:
        text = text[: rng.randrange(len(text))]
    elif kind == 6:
        text = text.replace("1.0", rng.choice(["NaN", "Infinity", "-1", "9" * 401, '"1"']))
    elif kind == 7:
        text = rng.choice(
            ["banner", "[" * 10_000, '{"fewmark": ' * 3000, text * 3, "\xff" * 10, text[:20] + "\n" + text[20:]]
        )
    return text + "\n"


def run(seed: int, seconds: float) -> list[Tally]:
    """Random conversations until the time is over."""
    rng, clock, tally = random.Random(seed), Clock(seconds), Tally("misbehaving worker")
    while clock:
        own = rng.randrange(2**32)
        once = random.Random(own)
        with tempfile.TemporaryDirectory() as name:
            script, lines = Path(name) / "worker", ["#!/bin/sh"]
            bad, last = once.randrange(len(GOOD)), once.randint(1, len(GOOD))
            for number, message in enumerate(GOOD[:last]):
                text = spoiled(message, once) if number == bad else json.dumps(message) + "\n"
                (Path(name) / str(number)).write_bytes(text.encode("utf-8", "surrogatepass"))
                lines += ["IFS= read -r request", f"cat {shlex.quote(str(Path(name) / str(number)))}"]
            script.write_text("\n".join([*lines, once.choice(ENDINGS), ""]))
            script.chmod(0o755)
            settings = RunSettings(
                Policy(warmup=0, max_repeats=3), timeout_s=5, load_timeout_s=5, launch=Launch(python=str(script))
            )
            tally.tried += 1
            began = time.monotonic()
            try:
                found = [result.measurement for result in measure_deployment(CASES, settings, {})]
                if {m.case for m in found} != set(CASES):
                    tally.fail(f"conversation {own}: {len(found)} of {len(CASES)} cases have a measurement")
                for m in found:
                    json.dumps(m.to_dict(), allow_nan=False)
            except EngineError:
                pass
            except Exception as error:
                tally.fault(error, f"conversation {own}")
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
    return [tally]
