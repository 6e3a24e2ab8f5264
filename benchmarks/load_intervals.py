"""How often 90% intervals of one run hold the truth, on a simulated server whose load and speed hang together.

    python benchmarks/load_intervals.py [--runs 200] [--json OUT]

A run of about a minute is simulated many times with different seeds; the truth is the mean over one run that is a
hundred times as long. Beside the intervals of `fewmark.load.estimates` stand those that take all requests for
independent. The last row's servers differ from run to run by 5%, and its intervals are of five runs each.

    python benchmarks/load_intervals.py --live 50

drives mock servers on real sockets instead (`wandering_server.py`), eight seconds a run, ten at once; the truth of
each run is the mean of all others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fewmark.load.arrivals import OpenLoop
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.estimates import Estimate
from fewmark.load.records import LoadResult, RequestPlan
from fewmark.load.request_metrics import tpot_s, ttft_s
from fewmark.load.settings import LoadSettings
from fewmark.load.statistics import RunStatistics, combine_runs, run_statistics
from simulated_server import Lengths, Server, Simulation

METRICS = ("ttft_s", "tpot_s", "throughput_tok_s")
LONG = 100
Z90 = 1.645
LIVE_STREAMS = 8
LIVE_S = 8.0


@dataclass(frozen=True)
class Scenario:
    """A server and a load: of `size` requests in a closed loop, or for `size` seconds of an open one."""

    name: str
    server: Server
    size: float
    concurrency: int | None = None
    request_rate: float | None = None
    repeats: int = 1

    def run(self, seed: int, times: float = 1.0) -> LoadResult:
        simulation = Simulation(self.server, Lengths(), seed)
        if self.concurrency is not None:
            return simulation.closed(self.concurrency, int(self.size * times))
        assert self.request_rate is not None
        return simulation.open(OpenLoop.constant(self.request_rate, self.size * times).send_times(seed))


SCENARIOS = (
    Scenario("closed, 16 streams", Server(), 600, concurrency=16),
    Scenario("closed, 64 streams, queueing", Server(), 1200, concurrency=64),
    Scenario("closed, 4 streams, 120 requests", Server(), 120, concurrency=4),
    Scenario("closed, speed wanders slowly", Server(drift_s=3.0), 600, concurrency=16),
    Scenario("open, 8 requests/s (60% of capacity)", Server(), 60, request_rate=8.0),
    Scenario("five runs, servers 5% apart", Server(run_sd=0.05), 200, concurrency=16, repeats=5),
)


def truth(scenario: Scenario) -> dict[str, float]:
    """Means over a long run; a server that differs between runs is at its mean."""
    spread = scenario.server.run_sd
    result = replace(scenario, server=replace(scenario.server, run_sd=0.0)).run(seed=10**6, times=LONG)
    start, end = 0.01 * result.ended_s, 0.99 * result.ended_s
    inside = [record for record in result.records if start < (record.end_s or 0.0) <= end]
    out = {
        "ttft_s": statistics.fmean(value for r in inside if (value := ttft_s(r)) is not None),
        "tpot_s": statistics.fmean(value for r in inside if (value := tpot_s(r)) is not None),
        "throughput_tok_s": sum(r.completion_tokens or 0 for r in inside) / (end - start),
    }
    slower = math.exp(spread**2 / 2)  # the mean of a log-normal factor on times, and of its inverse on rates
    return {name: value * slower for name, value in out.items()}


def naive(values: Sequence[float]) -> tuple[float, float]:
    """As if all were independent."""
    mean, half = statistics.fmean(values), Z90 * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def estimates_of(scenario: Scenario, seed: int) -> tuple[dict[str, Estimate], list[LoadResult]]:
    results = [scenario.run(seed * scenario.repeats + i) for i in range(scenario.repeats)]
    runs: list[RunStatistics] = [run_statistics(result, scenario.concurrency) for result in results]
    return combine_runs(runs), results


def say_now(text: str) -> None:
    print(text, flush=True)


def measure(scenario: Scenario, n_runs: int, say: Callable[[str], None] = say_now) -> dict[str, dict[str, float]]:
    """Of each metric: the share of runs whose interval holds the truth, the mean half width, the naive share."""
    true = truth(scenario)
    held: dict[str, list[bool]] = {name: [] for name in METRICS}
    naive_held: dict[str, list[bool]] = {"ttft_s": [], "tpot_s": []}
    widths: dict[str, list[float]] = {name: [] for name in METRICS}
    for seed in range(n_runs):
        estimates, results = estimates_of(scenario, seed)
        for name in METRICS:
            estimate = estimates[name]
            if estimate.low is None or estimate.high is None:
                continue
            held[name].append(estimate.low <= true[name] <= estimate.high)
            widths[name].append((estimate.high - estimate.low) / 2 / true[name])
        first = [value for r in results[0].records if (value := ttft_s(r)) is not None]
        per_token = [value for r in results[0].records if (value := tpot_s(r)) is not None]
        for name, values in (("ttft_s", first), ("tpot_s", per_token)):
            low, high = naive(values)
            naive_held[name].append(low <= true[name] <= high)
    out = {}
    for name in METRICS:
        out[name] = {"coverage": statistics.fmean(held[name]), "half_width": statistics.fmean(widths[name])}
        if name in naive_held:
            out[name]["naive_coverage"] = statistics.fmean(naive_held[name])
    cells = "  ".join(
        f"{name.removesuffix('_s'):>14} {values['coverage']:4.0%} ±{values['half_width']:5.1%}"
        + (f" ({values['naive_coverage']:.0%})" if "naive_coverage" in values else "")
        for name, values in out.items()
    )
    say(f"{scenario.name:38}{cells}")
    return out


def live(n_runs: int, at_once: int, seed: int, say: Callable[[str], None] = say_now) -> dict[str, dict[str, float]]:
    """Runs against mock servers in real time; coverage and half width as in `measure`."""
    server = Server(prefill_s=0.005, drift_s=0.3)
    found: dict[str, list[Estimate]] = {name: [] for name in METRICS}
    for first in range(0, n_runs, at_once):
        count = min(at_once, n_runs - first)
        command = [sys.executable, str(Path(__file__).parent / "wandering_server.py"), str(count)]
        mock = subprocess.Popen(
            [*command, str(seed * 1000 + first), json.dumps(asdict(server))], stdout=subprocess.PIPE, text=True
        )
        assert mock.stdout is not None
        try:
            ports = mock.stdout.readline().split()
            with ThreadPoolExecutor(count) as pool:
                runs = list(pool.map(_live_run, ports, range(first, first + count)))
        finally:
            mock.kill()
            mock.wait()
            mock.stdout.close()
        for run in runs:
            for name in METRICS:
                found[name].append(run.estimates[name])
    out = {}
    for name, estimates in found.items():
        values = [e.value for e in estimates]
        assert all(value is not None for value in values)
        total = math.fsum(values)
        truths = [(total - value) / (n_runs - 1) for value in values]
        pairs = [(e, t) for e, t in zip(estimates, truths, strict=True) if e.low is not None and e.high is not None]
        out[name] = {
            "coverage": statistics.fmean(e.low <= t <= e.high for e, t in pairs),
            "half_width": statistics.fmean((e.high - e.low) / 2 / t for e, t in pairs),
        }
        say(f"{name:>18} {out[name]['coverage']:4.0%} ±{out[name]['half_width']:5.1%}")
    return out


def _live_run(port: str, seed: int) -> RunStatistics:
    draw, lengths = random.Random(seed), Lengths(mean=20)
    bodies = (json.dumps({"max_tokens": lengths.draw(draw), "stream": True}).encode() for _ in itertools.count())
    plans = (RequestPlan(i, body) for i, body in enumerate(bodies))
    settings = LoadSettings(concurrency=LIVE_STREAMS, duration_s=LIVE_S)
    return run_statistics(run_load(plans, Endpoint(f"http://127.0.0.1:{port}"), settings), LIVE_STREAMS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--live", type=int, metavar="RUNS", help="so many runs against mock servers in real time")
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the mock servers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.live:
        found_live = live(options.live, options.at_once, options.seed)
        if options.json:
            options.json.write_text(json.dumps({"runs": options.live, "coverage": found_live}), encoding="utf-8")
        return
    print(
        f"{options.runs} runs each: share of 90% intervals that hold the truth, mean half width (taken as independent)"
    )
    found = {scenario.name: measure(scenario, options.runs) for scenario in SCENARIOS}
    every = [values["coverage"] for metrics in found.values() for values in metrics.values()]
    print(f"all: {statistics.fmean(every):.0%}, from {min(every):.0%} to {max(every):.0%}; bar 85% to 95%")
    if options.json:
        text = json.dumps({"runs": options.runs, "coverage": found}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
