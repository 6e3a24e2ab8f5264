"""How fast measurements go into the store and come out, beside plain sqlite3 holding the same JSON, in one run.

    python benchmarks/store.py [--measurements 100000] [--deployments 200] [--url URL] [--json OUT]

The yardstick is the least that anyone would do: one table of id, deployment and JSON with one index, filled with
`executemany` under the same durability (WAL, synchronous=FULL), one commit a batch. Batches go to both in turn, so
that the machine's noise meets both; the ratio is the figure to quote. Making the measurements is not counted,
serialising and hashing them is, on both sides.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewmark.core import Case, Deployment, FrozenMap, Measurement, Sample, Workload
from fewmark.store import open_store

BATCH = 2_000
LOOKUPS = 20


def make(number: int, deployments: int) -> Measurement:
    index, cell = number % deployments, number // deployments
    deployment = Deployment(
        engine=("vllm", "transformers", "tgi")[index % 3],
        engine_version="1.0",
        model=f"organisation/model-{index // 3}",
        precision="bf16",
        accelerator="H100",
        accelerator_count=1 + index % 8,
        engine_options=FrozenMap({"block_size": 16}),
    )
    workload = Workload(128 * (1 + cell % 16), 128 * (1 + cell // 16 % 16), batch_size=2 ** (cell // 256 % 8))
    samples = tuple(Sample(e2e_latency_s=1.0 + number * 1e-6 + i * 1e-3, ttft_s=0.1) for i in range(3))
    environment = FrozenMap({"host": f"host-{index % 4}"})
    return Measurement(Case(deployment, workload), samples=samples, environment=environment, row=number)


class Yardstick:
    """Plain sqlite3."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("CREATE TABLE m (id TEXT PRIMARY KEY, deployment TEXT, body TEXT)")
        self.connection.execute("CREATE INDEX by_deployment ON m (deployment)")

    def add(self, batch: list[Measurement]) -> int:
        self.connection.execute("BEGIN IMMEDIATE")
        rows = [(m.measurement_id, m.case.deployment.deployment_id, json.dumps(m.to_dict())) for m in batch]
        self.connection.executemany("INSERT OR IGNORE INTO m VALUES (?, ?, ?)", rows)
        self.connection.execute("COMMIT")
        return 0

    def read(self, deployment_id: str) -> list[Measurement]:
        found = self.connection.execute("SELECT body FROM m WHERE deployment = ?", (deployment_id,))
        return [Measurement.from_dict(json.loads(body)) for (body,) in found]


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(count: int, deployments: int, url: str | None, folder: Path) -> dict[str, Any]:
    yardstick = Yardstick(folder / "yardstick.db")
    with open_store(url or folder / "store.db") as store:
        imported = {"store": 0.0, "sqlite3": 0.0}
        import_cpu_s = {"store": 0.0, "sqlite3": 0.0}  # of this process: what a machine busy with other things leaves
        added = 0
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            one, two = ([make(number, deployments) for number in numbers] for _ in range(2))  # nothing cached is shared
            for name, add, batch in (("store", store.add, one), ("sqlite3", yardstick.add, two)):
                wall, cpu = time.perf_counter(), time.process_time()
                added += add(batch)
                imported[name] += time.perf_counter() - wall
                import_cpu_s[name] += time.process_time() - cpu
        if added != count:
            raise SystemExit(f"{added} of {count} measurements were new: give an empty store")
        filtered: dict[str, list[float]] = {"store": [], "store, table": [], "sqlite3": []}
        chosen = store.deployments()[:: max(1, deployments // LOOKUPS)]
        for deployment in chosen:
            key = deployment.deployment_id
            filtered["store"].append(seconds(lambda: list(store.measurements(deployment))))  # noqa: B023
            filtered["store, table"].append(seconds(lambda: store.table(deployment)))  # noqa: B023
            filtered["sqlite3"].append(seconds(lambda: yardstick.read(key)))  # noqa: B023
        again = [make(number, deployments) for number in range(min(BATCH, count))]
        return {
            "measurements": count,
            "deployments": deployments,
            "backend": store.url.split(":")[0],
            "import_s": imported,
            "import_cpu_s": import_cpu_s,
            "import_ratio_to_sqlite3": imported["store"] / imported["sqlite3"],
            "filter_by_deployment_s": {name: statistics.median(values) for name, values in filtered.items()},
            "filter_by_deployment_max_s": {name: max(values) for name, values in filtered.items()},
            "filter_ratio_to_sqlite3": statistics.median(filtered["store"]) / statistics.median(filtered["sqlite3"]),
            "whole_table_s": seconds(store.table),
            "stream_all_s": seconds(lambda: sum(1 for _ in store.measurements())),
            "add_again_s_per_1000": 1000 / len(again) * seconds(lambda: store.add(again)),
            "open_s": seconds(lambda: open_store(url or folder / "store.db").close()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=100_000)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--url", help="an empty store (default: an SQLite file in a temporary folder)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.measurements, arguments.deployments, arguments.url, Path(folder))
    size = found["measurements"] / found["deployments"]
    print(f"{found['measurements']} measurements, {found['deployments']} deployments of {size:.0f}, {found['backend']}")
    rows = [(f"import ({name})", value) for name, value in found["import_s"].items()]
    rows += [(f"import, CPU ({name})", value) for name, value in found["import_cpu_s"].items()]
    rows += [(f"one deployment ({name})", value) for name, value in found["filter_by_deployment_s"].items()]
    rows += [("whole table as columns", found["whole_table_s"]), ("stream every measurement", found["stream_all_s"])]
    rows += [("add 1000 that are there", found["add_again_s_per_1000"]), ("open", found["open_s"])]
    for name, value in rows:
        print(f"{name:34} {value:9.3f} s")
    print(f"{'import / sqlite3':34} {found['import_ratio_to_sqlite3']:9.2f}")
    print(f"{'one deployment / sqlite3':34} {found['filter_ratio_to_sqlite3']:9.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
