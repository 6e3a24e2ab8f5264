"""Whether a time depends on what the process measured before: repeats, orders and contexts, with freed memory kept
(what fewmark does) and with the C library's defaults.

    python benchmarks/allocator.py            # llama-tiny, fp32, one thread; some ten minutes
    python benchmarks/allocator.py --quick    # shorter generations, two minutes
    python benchmarks/allocator.py --orders transformers,onnxruntime,openvino,llama.cpp,vllm    # some minutes
    python benchmarks/allocator.py --steps    # the time of a step against the tokens cached, a minute or two

Each line is a process of its own: latency, CPU time, kernel time and page faults of each repeat, then the first repeat
over the median of the others, in CPU seconds. The last lines compare a sweep over contexts in two opposite orders, and
``--orders`` does that alone, engine by engine, each in its own environment: rising, falling, and rising again, whose
difference from the first is what any other has to be seen against. ``--steps`` shows at what number of cached tokens a
step becomes dear, in a first run and in a second one of the same case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewmark.core import Deployment, FrozenMap, Workload
from fewmark.engines.base import Engine
from fewmark.engines.environments.folders import environment_python
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.worker.loading import failed_load, ready_engine

Cell = tuple[int, int, int]  # input tokens, output tokens, batch size
SWEEP: list[Cell] = [(64, 64, 1), (64, 64, 8), (512, 64, 8), (2048, 64, 2), (4000, 64, 1)]
AROUND = (64, 192, 320, 448, 576, 704, 800, 880)  # output tokens
LIMITS: dict[str, dict[str, int]] = {
    "vllm": {"max_model_len": 4096, "max_num_seqs": 8},
    "llama.cpp": {"slot_tokens": 4096, "slots": 8},
    "openvino": {"max_num_seqs": 8},
}
SOURCE = Path(__file__).resolve().parents[1] / "src"


def measured(choice: str, engine_name: str, model: str, cells: list[Cell], repeats: int) -> list[dict[str, Any]]:
    """Measure cells one after the other in this process."""
    engine = ready_engine(engine_name)
    options = {"allocator": choice, "threads": 1, **LIMITS.get(engine_name, {})}
    deployment = Deployment(model=model, engine=engine_name, precision="fp32", engine_options=FrozenMap(options))
    if (failed := failed_load(engine, deployment)) is not None:
        raise SystemExit(failed.reason)
    found = [_one(engine, cell, repeats) for cell in cells]
    engine.close()
    return found


def _one(engine: Engine, cell: Cell, repeats: int) -> dict[str, Any]:
    n_in, n_out, batch = cell
    workload = Workload(input_tokens=n_in, output_tokens=n_out, batch_size=batch)
    outcome = measure(engine, workload, Policy(min_repeats=repeats, max_repeats=repeats), 0)
    told = {name: outcome.extra.get(name) for name in ("cpu_s", "kernel_s", "page_faults")}
    steps = [[round(1000 * ms, 2) for ms in steps_at(s.token_times_s, AROUND)] for s in outcome.samples]
    return {"cell": cell, "e2e_s": [round(s.e2e_latency_s or 0.0, 2) for s in outcome.samples], **told, "steps": steps}


def steps_at(times_s: Sequence[float], around: Sequence[int]) -> list[float]:
    """The median of 32 steps around each of these output tokens, in seconds, as far as there are so many."""
    steps = [after - before for before, after in itertools.pairwise(times_s)]
    return [statistics.median(steps[n - 16 : n + 16]) for n in around if len(steps) >= n + 16]


def in_a_process(choice: str, engine: str, model: str, cells: list[Cell], repeats: int) -> list[dict[str, Any]]:
    """The same in a new process, whose heap nothing has touched."""
    request = json.dumps([choice, engine, model, cells, repeats])
    python = environment_python(engine) or sys.executable
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [str(python), __file__, "--cells", request]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_orders(choice: str, engine: str, model: str, cells: list[Cell], repeats: int) -> None:
    """A sweep in two opposite orders, and in the first of them again, each in a process of its own."""
    up = in_a_process(choice, engine, model, cells, repeats)
    down = in_a_process(choice, engine, model, cells[::-1], repeats)[::-1]
    again = in_a_process(choice, engine, model, cells, repeats)
    opposite, same, firsts = [], [], []
    for found in zip(up, down, again, strict=True):
        a, b, c = (statistics.median(one["cpu_s"]) for one in found)
        opposite.append(abs(math.log(b / a)))
        same.append(abs(math.log(c / a)))
        first = statistics.median(one["cpu_s"][0] / statistics.median(one["cpu_s"][1:]) for one in found)
        firsts.append(first)
        print(
            f"{engine:13} {choice:7} {found[0]['cell']!s:14} rising {a:.2f}, falling {b:.2f}, rising again {c:.2f} "
            f"CPU-s; a first repeat over the later ones {first:.2f}",
            flush=True,
        )
    print(
        f"{engine:13} {choice:7} opposite orders differ by {_percent(statistics.median(opposite))} (at most "
        f"{_percent(max(opposite))}), the same order twice by {_percent(statistics.median(same))} (at most "
        f"{_percent(max(same))}); a first repeat takes {min(firsts):.2f} to {max(firsts):.2f} of a later one",
        flush=True,
    )


def _percent(log_ratio: float) -> str:
    return f"{math.exp(log_ratio) - 1:.1%}"


def compare_steps(engine: str, model: str) -> None:
    """A long generation of eight sequences in a new process: the time of a step against the tokens that are cached."""
    n_in, n_out, batch = cell = (64, 900, 8)
    for choice in ("system", "keep"):
        (found,) = in_a_process(choice, engine, model, [cell], 2)
        for n, first, second in zip(AROUND, *found["steps"], strict=True):
            print(
                f"{choice:7} {batch * (n_in + n):6,} tokens cached: {first:5.1f} ms, again {second:5.1f} ms", flush=True
            )
        print(f"{choice:7} {found['cpu_s']} CPU-s, {found['page_faults']} page faults, of {n_out} tokens", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--model", default="llama-tiny")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--orders", metavar="ENGINES", help="only the two orders, of these engines")
    parser.add_argument("--steps", action="store_true", help="only steps against the tokens cached")
    parser.add_argument("--cells", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cells:
        choice, engine, model, cells, repeats = json.loads(options.cells)
        print(json.dumps(measured(choice, engine, model, [tuple(cell) for cell in cells], repeats)))
        return
    if options.orders:
        for engine in options.orders.split(","):
            compare_orders("keep", engine, options.model, SWEEP, options.repeats)
        return
    if options.steps:
        compare_steps(options.engine, options.model)
        return
    n_out = 300 if options.quick else 900
    cells = [(64, n_out, 1), (64, n_out, 8), (512, n_out // 4, 8)]
    for choice in ("system", "keep"):
        for cell in cells:
            (found,) = in_a_process(choice, options.engine, options.model, [cell], options.repeats)
            cpu_s: list[float] = found["cpu_s"]
            ratio = cpu_s[0] / statistics.median(cpu_s[1:])
            print(f"{choice:7}", json.dumps(found), f"first/later {ratio:.2f}", flush=True)
    contexts: list[Cell] = [(n, 32, 8) for n in ((64, 512, 1024) if options.quick else (64, 512, 1024, 2048))]
    for choice in ("system", "keep"):
        compare_orders(choice, options.engine, options.model, contexts, options.repeats)


if __name__ == "__main__":
    main()
