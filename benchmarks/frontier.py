"""Probes to find the largest load that meets objectives on a mock queue, beside doubling and bisection.

    python benchmarks/frontier.py [--draws 20] [--json OUT]

Each draw is a server in a closed loop whose limit lies between 10 and 1,000 streams: its time per token grows with the
batch, first tokens wait for the prompts of others and, once all places are taken, for a place. The objectives are met
up to the limit, where one of the two ends it. What is measured is off by 0.5-2% (time per token) or 2-6% (99th
percentile of TTFT), anew each time, and says so in its interval. `--prior` gives the search the predictions of a model
that is off by 15%, as one fitted on other deployments may be.

The other search doubles the load from 1 until an objective is not met, then halves the bracket until it is within 5% of
its middle (or one stream), as GuideLLM 0.8.1 (goodput profile) and AIPerf 0.13 (SLA tiers) do.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewmark.load.estimates import Estimate
from fewmark.planning.frontier import FrontierSearch, FrontierTier, Probe, find_frontier

LOW, HIGH = 1, 2048
TOLERANCE = 0.05
Z90 = 1.645
PRIOR_SD = 0.15


@dataclass(frozen=True)
class MockQueue:
    """A closed loop's true metrics; places, seconds, and how noisy a measurement is (log standard deviation)."""

    places: float
    token_s: float
    token_growth_s: float
    token_power: float
    prefill_s: float
    prefill_growth: float
    service_s: float
    softness: float
    noise: tuple[float, float]

    def tpot_s(self, load: float) -> float:
        return self.token_s + self.token_growth_s * min(load, self.places) ** self.token_power

    def ttft_p99_s(self, load: float) -> float:
        waiting = self.softness * np.logaddexp(0.0, (load - self.places) / self.softness)
        return float(self.prefill_s * (1 + self.prefill_growth * load) + waiting * self.service_s / self.places)

    def measure(self, load: float, rng: np.random.Generator) -> Probe:
        readings = {}
        true = {"tpot_s": self.tpot_s(load), "ttft_p99_s": self.ttft_p99_s(load)}
        for (name, mean), sd in zip(true.items(), self.noise, strict=True):
            value = mean * math.exp(rng.normal(0, sd))
            readings[name] = Estimate(value, value * math.exp(-Z90 * sd), value * math.exp(Z90 * sd), 0.9)
        return Probe(load, readings, cost_s=1.0)


def draw(rng: np.random.Generator) -> tuple[MockQueue, FrontierTier, int]:
    """A server, its objectives, and the largest load that meets them."""
    limit = round(math.exp(rng.uniform(math.log(10), math.log(1000))))
    kind = rng.choice(["tokens", "prompts", "places"])
    places = limit * (rng.uniform(0.8, 0.98) if kind == "places" else rng.uniform(1.5, 4.0))
    token_s = math.exp(rng.uniform(math.log(0.005), math.log(0.05)))
    queue = MockQueue(
        places=places,
        token_s=token_s,
        token_growth_s=token_s * math.exp(rng.uniform(-1, 1)) / limit,
        token_power=rng.uniform(0.9, 1.15),
        prefill_s=math.exp(rng.uniform(math.log(0.02), math.log(0.5))),
        prefill_growth=math.exp(rng.uniform(-1.5, 1)) / limit,
        service_s=token_s * rng.uniform(100, 500),
        softness=max(0.01 * places, 0.3),
        noise=(rng.uniform(0.005, 0.02), rng.uniform(0.02, 0.06)),
    )
    half = limit + 0.5  # objectives between two loads, so that the limit is one of them
    loose = rng.uniform(1.1, 2.0)
    tight = "tpot_s" if kind == "tokens" else "ttft_p99_s"
    values = {"tpot_s": queue.tpot_s(half), "ttft_p99_s": queue.ttft_p99_s(half)}
    limits = {name: value * (1 if name == tight else loose) for name, value in values.items()}
    return queue, FrontierTier("slo", limits), limit


def predictions(queue: MockQueue, rng: np.random.Generator) -> dict[str, Callable[[float], tuple[float, float]]]:
    """What a model that is off by a common factor at all loads says of each metric."""
    off = {name: math.exp(rng.normal(0, PRIOR_SD)) for name in ("tpot_s", "ttft_p99_s")}
    return {
        "tpot_s": lambda load: (queue.tpot_s(load) * off["tpot_s"], PRIOR_SD),
        "ttft_p99_s": lambda load: (queue.ttft_p99_s(load) * off["ttft_p99_s"], PRIOR_SD),
    }


def bisect(measure: Callable[[float], Probe], tier: FrontierTier) -> tuple[float, int]:
    """The limit and how many probes it took."""

    def meets(load: float) -> bool:
        readings = measure(load).readings
        return all((readings[name].value or math.inf) <= limit for name, limit in tier.limits.items())

    good, bad, load, probes = 0, HIGH + 1, 1, 0
    while load <= HIGH:
        probes += 1
        if not meets(load):
            bad = load
            break
        good, load = load, load * 2
    while bad - good > max(1, 2 * TOLERANCE * (good + bad) / 2):
        middle = (good + bad) // 2
        probes += 1
        good, bad = (middle, bad) if meets(middle) else (good, middle)
    return (good + bad) / 2 if bad - good > 1 else good, probes


def is_right(found: float, limit: int) -> bool:
    return abs(found - limit) <= max(TOLERANCE * limit, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--prior", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for number in range(options.draws):
        rng = np.random.default_rng([options.seed, number])
        queue, tier, limit = draw(rng)
        prior = predictions(queue, rng) if options.prior else None
        search = FrontierSearch([tier], LOW, HIGH, tolerance=TOLERANCE, prior=prior, random_state=number)
        found = find_frontier(search, lambda load, queue=queue, rng=rng: queue.measure(load, rng))[0]
        halved, n_halved = bisect(lambda load, queue=queue, rng=rng: queue.measure(load, rng), tier)
        row = {
            "limit": limit,
            "found": found.limit,
            "low": found.low,
            "high": found.high,
            "probes": len(search.probes),
            "right": is_right(found.limit, limit),
            "held": found.low <= limit <= found.high,
            "bisected": halved,
            "bisection_probes": n_halved,
            "bisection_right": is_right(halved, limit),
        }
        rows.append(row)
        print(
            f"limit {limit:5d}: found {found.limit:6.0f} ({found.low:.0f} to {found.high:.0f}) with {row['probes']:2d} "
            f"probes at {', '.join(f'{p.load:g}' for p in search.probes)}; bisection {halved:6.0f} with {n_halved:2d}"
            + ("" if row["right"] else "  ← off")
        )
    mean = {name: statistics.fmean(float(row[name]) for row in rows) for name in rows[0]}
    print(
        f"\nprobes: {mean['probes']:.1f}, right {mean['right']:.0%}, interval holds the limit {mean['held']:.0%}; "
        f"bisection {mean['bisection_probes']:.1f}, right {mean['bisection_right']:.0%}; bar: half, right 90%"
    )
    if options.json:
        options.json.write_text(json.dumps({"draws": rows, "mean": mean}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
