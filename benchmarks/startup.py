"""How long `fewmark --help` takes, beside a bare Python that imports only click, in one run.

    python benchmarks/startup.py [--json OUT]

The two commands run in turn, so that the machine's noise meets both; the ratio is the figure to quote.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "fewmark --help": [sys.executable, "-m", "fewmark", "--help"],
    "python, click alone": [sys.executable, "-c", "import click"],
    "python alone": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.runs):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians["python, click alone"]
    print(f"{'command':24} {'median s':>9} {'ratio':>6}")
    for name, value in medians.items():
        print(f"{name:24} {value:9.3f} {value / base:6.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"median_s": medians, "ratio_to_click": medians["fewmark --help"] / base}))


if __name__ == "__main__":
    main()
