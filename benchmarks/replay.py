"""What a run of 1,000 recorded cases costs beside another checkout of fewmark: everything but the measuring.

    python benchmarks/replay.py [--before PATH] [--cases 1000] [--runs 3] [--json OUT]

`fewmark run` as a whole process, with its worker: CPU-seconds (user and system) and seconds; the checkouts run in turn.
A second run on the same store finds everything measured. Figures are medians. Bar: 3 CPU-s for 1,000 cases.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
N_DEPLOYMENTS = 4
SUITE = """
deployments:
{deployments}
cells:
  - grid: {{input_tokens: {inputs}, output_tokens: [64], batch_size: [1, 2, 4, 8, 16]}}
"""


def write_suite(folder: Path, n_cases: int) -> Path:
    """A table of so many recorded cases, and the suite that asks for them."""
    inputs = [8 * (1 + n) for n in range(n_cases // (5 * N_DEPLOYMENTS))]
    lines = ["engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s,ttft_s"]
    lines += [
        f"x,toy-{model},{n},64,{batch},{0.5 + 0.01 * batch + 1e-4 * n},{0.01 + 1e-5 * n}"
        for model in range(N_DEPLOYMENTS) for n in inputs for batch in (1, 2, 4, 8, 16)
    ]  # fmt: skip
    table = folder / "table.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    deployments = "\n".join(
        f"  - {{engine: replay, model: toy-{model}, engine_options: {{table: {table}}}}}"
        for model in range(N_DEPLOYMENTS)
    )
    suite = folder / "suite.yaml"
    suite.write_text(SUITE.format(deployments=deployments, inputs=inputs), encoding="utf-8")
    return suite


def run(checkout: Path, suite: Path, store: Path) -> tuple[float, float]:
    """CPU-seconds and seconds of one run."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-m", "fewmark", "run", str(suite), "--store", f"sqlite:///{store}", "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{checkout}: {said.decode()}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of fewmark")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({} if options.before is None else {"before": options.before.resolve()})
    runs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        suite = write_suite(Path(name), options.cases)
        for number in range(options.runs):
            for which, checkout in checkouts.items():
                store = Path(name) / f"{which}-{number}.db"
                for question in ("all", "nothing new"):
                    runs.setdefault(f"{which}, {question}", []).append(run(checkout, suite, store))
    medians = {which: [statistics.median(column) for column in zip(*told, strict=True)] for which, told in runs.items()}
    print(f"{options.cases} recorded cases{'':14s} {'CPU-s':>7s} {'s':>7s}")
    for which, (cpu_s, wall_s) in medians.items():
        print(f"{which:34s} {cpu_s:7.2f} {wall_s:7.2f}")
    if options.json:
        options.json.write_text(json.dumps({"medians": medians, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
