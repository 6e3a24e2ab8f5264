"""Generations cut short and projected, against full measurements of the same cells, engine by engine.

    python benchmarks/projection.py [--engines transformers vllm llama.cpp] [--folder FOLDER] [--json OUT]

Every cell is measured three times over, block by block in turn on one loaded engine, so that all see the same hours of
the machine: cut short to so many tokens (with a few cells in full, as in any run), in full, and in full again. Printed
are each rule's errors against the first full pass, how often the intervals hold, the seconds, and what two full passes
differ by: no projection can be nearer than that. An engine that is not installed is told and left out.

``--rounds 3`` makes the repeats of every pass in rounds over the cells of a block (``--blocks 1``: of all), and
``--simulated`` says what that gives on a machine of two speeds, simulated (`benchmarks/simulated_machine.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewmark.core import Case, Deployment, EngineError, Measurement, Status, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import LocalExecutor, Runner, RunSettings
from fewmark.runner.projection.projector import RULES, Projector
from fewmark.runner.projection.truncation import Truncation
from fewmark.runner.worker.launch import Launch
from fewmark.runner.worker.warm import WarmWorker
from fewmark.store import open_store
from simulated_machine import report as simulated

INPUTS, BATCHES = (16, 32, 64, 96, 128, 192, 256, 384), (1, 2, 4, 8)
N_BLOCKS = 4
BAR, POINT = 0.03, 0.01
MODELS: dict[str, dict[str, Any]] = {
    "transformers": {"threads": 1, "config": {"num_hidden_layers": 4}},
    "vllm": {"threads": 1},
    "llama.cpp": {"threads": 1},
    "deepspeed": {"threads": 1},
    "openvino": {"threads": 1},
    "onnxruntime": {"threads": 1},
}


def cells(engine: str, output_tokens: int, n_cells: int, seed: int) -> list[Case]:
    """Cells at random from the grid, one deployment."""
    options = MODELS.get(engine, {})
    deployment = Deployment(engine=engine, model="llama-tiny", precision="float32", engine_options=options)  # type: ignore[arg-type]
    grid = [(ii, bb) for ii in INPUTS for bb in BATCHES]
    picks = np.random.default_rng(seed).permutation(len(grid))[:n_cells]
    return [Case(deployment, Workload(grid[i][0], output_tokens, batch_size=grid[i][1])) for i in picks]


def measure(engine: str, folder: Path, options: argparse.Namespace) -> None:
    """The three passes into three stores; what is there is not measured again."""
    cases = cells(engine, options.output_tokens, options.cells, options.seed)
    launch = Launch(options.engine_python.get(engine))
    policy = Policy(min_repeats=options.repeats, max_repeats=options.repeats)
    cut = Truncation(output_tokens=options.tokens, n_validated=3)
    with contextlib.ExitStack() as stack:
        warm_worker = stack.enter_context(contextlib.closing(WarmWorker()))
        stores = {
            kind: stack.enter_context(open_store(f"sqlite:///{folder / f'{engine}-{kind}.db'}"))
            for kind in ("short", "full", "again")
        }
        for block in range(options.blocks):
            for number, (kind, store) in enumerate(stores.items()):
                settings = RunSettings(
                    policy=policy, seed=number, launch=launch, warm_worker=warm_worker, rounds=options.rounds
                )
                if kind == "short":
                    settings = replace(settings, truncation=replace(cut, known=tuple(store.measurements())))
                Runner(store, settings, quiet=True, executor=LocalExecutor()).run(cases[block :: options.blocks])


def read(folder: Path, engine: str, kind: str) -> list[Measurement]:
    with open_store(f"sqlite:///{folder / f'{engine}-{kind}.db'}") as store:
        return [m for m in store.measurements() if m.status is Status.OK]


def report(engine: str, folder: Path, options: argparse.Namespace) -> dict[str, Any] | None:
    """What the passes say; None where an engine measured too little."""
    full = {m.case.case_id: m for m in read(folder, engine, "full")}
    again = {m.case.case_id: m for m in read(folder, engine, "again")}
    held = read(folder, engine, "short")
    checked = {m.case.case_id for m in held if m.provenance == "measured"}
    latest = {m.case.case_id: m for m in held if m.provenance == "projected"}  # projected anew when more was known
    short = [m for key, m in latest.items() if key in full.keys() - checked]
    if len(short) < 5:
        return None
    truth = [_seconds(full[m.case.case_id]) for m in short]
    errors: dict[str, list[float]] = {}
    for rule in RULES:
        told = [
            m.projection if rule == "growth" else Projector(rule).project(m.case.workload, m.samples) for m in short
        ]
        errors[rule] = [statistics.median(p.e2e_latency_s) / t - 1 for p, t in zip(told, truth, strict=True) if p]
    inside = [m.projection.low_s <= t <= m.projection.high_s for m, t in zip(short, truth, strict=True) if m.projection]  # type: ignore[operator]
    apart = [abs(_seconds(again[key]) / _seconds(m) - 1) for key, m in full.items() if key in again]
    wall = {kind: sum(m.cost.wall_s or 0.0 for m in ms) for kind, ms in (("full", full.values()), ("short", held))}
    found = {
        "engine": engine,
        "n_cells": len(short),
        "repeatability_error": statistics.median(apart),
        "median_error": {rule: statistics.median(map(abs, values)) for rule, values in errors.items()},
        "bias": {rule: statistics.median(values) for rule, values in errors.items()},
        "coverage": sum(inside) / len(inside),
        "seconds_full": wall["full"],
        "seconds_projected": wall["short"],
        "seconds_projected_without_checks": sum(m.cost.wall_s or 0.0 for m in held if m.provenance == "projected"),
    }
    print(f"\n{engine}: {len(short)} cells of {options.output_tokens} tokens, cut to {options.tokens}")
    print(f"  two full passes differ by {found['repeatability_error']:.1%} (median)")
    for rule in RULES:
        print(f"  {rule:12} median error {found['median_error'][rule]:6.1%}, bias {found['bias'][rule]:+6.1%}")
    print(f"  90% intervals hold {found['coverage']:.0%}")
    print(
        f"  {wall['full']:.0f} s in full, {wall['short']:.0f} s with projection and its checks in full "
        f"({wall['full'] / wall['short']:.1f}×), {found['seconds_projected_without_checks']:.0f} s of it cut short"
    )
    allowed = max(BAR, found["repeatability_error"] + POINT)
    error = found["median_error"]["growth"]
    print(f"  {'holds' if error <= allowed else 'FAILS'}: {error:.1%} of {allowed:.1%}")
    return found


def _seconds(measurement: Measurement) -> float:
    value = measurement.median("e2e_latency_s")
    assert value is not None
    return value


def _pythons(texts: Sequence[str]) -> dict[str, str]:
    return dict(text.split("=", 1) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="*", default=["transformers", "vllm", "llama.cpp", "deepspeed"])
    parser.add_argument("--engine-python", nargs="*", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--folder", type=Path, help="kept; run again to go on")
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32, help="really generated")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="in which the repeats are made")
    parser.add_argument("--blocks", type=int, default=N_BLOCKS, help="in which the three passes take turns")
    parser.add_argument("--simulated", type=int, nargs="?", const=40, metavar="SWEEPS", help="no engine: a simulation")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.simulated is not None:
        simulated(options.simulated)
        return
    options.engine_python = _pythons(options.engine_python)
    out = []
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for engine in options.engines:
            try:
                measure(engine, folder, options)
            except EngineError as error:
                print(f"\n{engine}: left out: {error.what}: {error.got}")
                continue
            if (found := report(engine, folder, options)) is None:
                print(f"\n{engine}: too few cells were measured")
            else:
                out.append(found)
    if cells_told := sum(found["n_cells"] for found in out):
        held = sum(found["coverage"] * found["n_cells"] for found in out) / cells_told
        print(f"\nall engines: 90% intervals hold {held:.0%}")
    if options.json:
        options.json.write_text(json.dumps(out, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
