"""What `predict`, `plan`, `recommend` and `report` cost as whole processes, beside another checkout of fewmark.

    python benchmarks/verbs.py --before PATH [--data llm-inference-bench] [--runs 3] [--verb predict ...] [--json OUT]

Each verb is asked twice about the same data: the first question meets an empty folder of fitted models, the second one
finds what the first left there (and asks for other cases). Costs are CPU-seconds, user and system time of the process
and what it starts; the two checkouts run in turn, so that the machine's noise meets both. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
QUESTIONS = ("first", "second")
ACCEPTED = (0, 1)  # 1: abstained somewhere, or nothing meets the objectives

CASES = """
import sys
import pandas as pd
from fewmark import datasets

try:
    from fewmark.tables.repeats import target_cells as prepare
except ImportError:  # another checkout's
    from fewmark.evaluate import prepare

X, _ = prepare(datasets.load(sys.argv[1], screened=True), "throughput_tok_s")
names = [name for name in ("engine", "model", "precision", "accelerator", "accelerator_count") if X[name].notna().any()]
who = X[names].drop_duplicates().reset_index(drop=True)
load = "batch_size" if X["batch_size"].notna().any() else "concurrency"
for number, (length, size) in enumerate(((384, 24), (768, 12))):
    cells = pd.concat([who.assign(input_tokens=n, output_tokens=n, **{load: b}) for n in (length, 2 * length)
                       for b in (size, 2 * size)])
    cells.to_csv(f"{sys.argv[2]}/cases-{number}.csv", index=False)
    grid = pd.concat([who.iloc[[number, -1 - number]].assign(input_tokens=n, output_tokens=n, **{load: b})
                      for n in (128, 512, 1024, 2048) for b in (1, 2, 4, 8, 16, 32, 64)])
    grid.to_csv(f"{sys.argv[2]}/space-{number}.csv", index=False)
"""


@dataclass(frozen=True)
class Cost:
    """CPU-seconds of each run of one question to one checkout."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """CPU-seconds."""
        return statistics.median(self.runs)


def arguments(verb: str, data: str, folder: Path, number: int) -> list[str]:
    """The command line of a verb's first (0) or second (1) question."""
    return {
        "predict": ["predict", "--data", data, "--cases", str(folder / f"cases-{number}.csv"),
                    "--out", str(folder / "predicted.csv")],
        "plan": ["plan", "--data", data, "--space", str(folder / f"space-{number}.csv")],
        "recommend": ["recommend", "--data", data, "--input", "1024", "--output", str(1024 >> number)],
        "report": ["report", "--data", data, "--model", "auto", "--confidence-level", ("0.9", "0.8")[number],
                   str(folder / "report.html")],
    }[verb]  # fmt: skip


def cpu_seconds(checkout: Path, arguments: list[str], cache: Path) -> float:
    """User and system seconds of one `fewmark` process of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "FEWMARK_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling the sources is no part of a verb's work
    command = [sys.executable, "-W", "ignore", "-m", "fewmark", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ACCEPTED:
        raise SystemExit(f"{' '.join(arguments)} in {checkout}: {said.decode()}")
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of fewmark")
    parser.add_argument("--data", default="llm-inference-bench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--verb", action="append", choices=("predict", "plan", "recommend", "report"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({} if options.before is None else {"before": options.before.resolve()})
    out: dict[str, dict[str, object]] = {}
    print(f"{'CPU-seconds':24s} {'before':>8s} {'now':>8s} {'ratio':>7s}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
        subprocess.run([sys.executable, "-c", CASES, options.data, name], check=True, env=environment)
        for verb in options.verb or ("predict", "plan", "recommend", "report"):
            runs: dict[tuple[str, str], list[float]] = {}
            for number in range(options.runs):
                for which, checkout in checkouts.items():
                    cache = folder / f"models-{verb}-{number}-{which}"
                    for asked, question in enumerate(QUESTIONS):
                        seconds = cpu_seconds(checkout, arguments(verb, options.data, folder, asked), cache)
                        runs.setdefault((which, question), []).append(seconds)
            for question in QUESTIONS:
                cost = {which: Cost(tuple(runs[which, question])) for which in checkouts}
                row: dict[str, object] = {f"{which}_cpu_s": one.median for which, one in cost.items()}
                row |= {f"{which}_runs_cpu_s": one.runs for which, one in cost.items()}
                before, ratio = "", ""
                if "before" in cost:
                    row["ratio"] = cost["before"].median / cost["now"].median
                    before, ratio = f"{cost['before'].median:8.2f}", f"{row['ratio']:7.1f}"
                out[f"{verb}, {question}"] = row
                print(f"{f'{verb}, {question}':24s} {before:>8s} {cost['now'].median:8.2f} {ratio:>7s}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
