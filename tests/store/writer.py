"""Writes numbered measurements into a store; run by the tests as a process of its own, to be raced and killed.

    python writer.py URL FIRST LAST STEP SEED

Adds the measurements FIRST to LAST - 1 in an order shuffled by SEED, STEP at a time, and prints the numbers of each
batch once `add` has returned.
"""

from __future__ import annotations

import random
import sys

from fewmark.core import Case, Cost, Deployment, Measurement, Sample, Workload
from fewmark.store import open_store


def measurement(number: int, **fields: object) -> Measurement:
    """A measurement that is like no other number's; five deployments, three environments."""
    deployment = Deployment(
        engine=("vllm", "transformers")[number % 2],
        model=f"model-{number % 5}",
        accelerator="A100" if number % 3 else None,
        accelerator_count=1 + number % 2,
        engine_options={"block_size": 16},  # type: ignore[arg-type]
    )
    workload = Workload(input_tokens=128 * (1 + number % 4), output_tokens=64, batch_size=1 + number % 7)
    known: dict[str, object] = {
        "samples": (Sample(e2e_latency_s=1.5 + number, ttft_s=0.25), Sample(e2e_latency_s=2.5 + number, ttft_s=0.5)),
        "cost": Cost(wall_s=3.0),
        "environment": {"host": f"host-{number % 3}"},
        "source": f"source-{number % 2}",
        "row": number + 1,
    }
    return Measurement(case=Case(deployment, workload), **(known | fields))  # type: ignore[arg-type]


def main(url: str, first: int, last: int, step: int, seed: int) -> None:
    numbers = list(range(first, last))
    random.Random(seed).shuffle(numbers)
    added = 0
    with open_store(url) as store:
        for start in range(0, len(numbers), step):
            batch = numbers[start : start + step]
            added += store.add(measurement(number) for number in batch)
            print(*batch, flush=True)
    print("added", added, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
