"""How fast results come in, beside the bars, each in a process of its own: CPU seconds, wall seconds, peak memory.

    python benchmarks/imports.py                      everything (some minutes, 4 GB of disk)
    python benchmarks/imports.py table requests       some of it
    python benchmarks/imports.py table --beside SRC   also what another build needs for a tenth of it

folder      1,000 result files of 1 MB: runs of vllm bench serve with their single requests
requests    one profile_export.jsonl of AIPerf of 1 GB
table       100,000 rows of canonical CSV into SQLite
rows        10 million rows of canonical Parquet, screened and summarised

The machine's other load is in the wall seconds; the CPU seconds, of all processes, say what the work takes, and the
peak is that of the largest one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import json, resource, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{work}
wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
if "joblib" in sys.modules:  # what helped ends, and is counted
    from joblib.externals.loky import get_reusable_executor
    get_reusable_executor().shutdown(wait=True)
helpers = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu_s += helpers.ru_utime + helpers.ru_stime
peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, helpers.ru_maxrss) / 1024
print(json.dumps(dict(cpu_s=cpu_s, wall_s=wall_s, peak_mib=peak, told=told)))
"""
IMPORT = """
from fewmark.verbs.import_files import import_files
found = import_files([sys.argv[1]], store="sqlite:///" + sys.argv[2])
told = f"{sum(file.n_added for file in found)} rows added"
"""
SCREEN = """
from fewmark.verbs.screen import screen
found = screen(sys.argv[1])
told = f"{found.n_rows:,} rows, {found.summary.get('n_deployments')} deployments, {len(found.findings)} findings"
"""
BARS = {
    "folder": "under 60 s, flat memory",
    "requests": "under 60 s and 500 MB",
    "table": "10 times as fast as the build before (57 s of wall time on a quiet machine)",
    "rows": "under 2 minutes and 4 GB",
}


def main() -> None:
    """Make each input, run each import, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of the imports")
    parser.add_argument("--beside", metavar="SRC", help="the folder src of another build, for the table")
    parser.add_argument("--share", type=float, default=1.0, help="of each input's size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fewmark-imports-") as place:
        folder = Path(place)
        for name in arguments.names or BARS:
            _report(name, _measure(MAKERS[name](folder, arguments.share), folder), BARS[name])
            if name == "table" and arguments.beside:
                small = _table(folder, arguments.share / 10)
                mine, theirs = _measure(small, folder), _measure(small, folder, arguments.beside)
                _report("a tenth of it", mine, "")
                _report("a tenth, other build", theirs, f"{theirs['cpu_s'] / mine['cpu_s']:.1f} times the CPU seconds")


def _measure(source: Path, folder: Path, sources: str | None = None) -> dict[str, float]:
    environment = os.environ | ({"PYTHONPATH": sources} if sources else {})
    for old in folder.glob("store.db*"):
        old.unlink()
    program = PROGRAM.format(work=SCREEN if source.suffix == ".parquet" else IMPORT)
    command = [sys.executable, "-c", program, str(source), str(folder / "store.db")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _report(name: str, found: dict[str, float], bar: str) -> None:
    print(
        f"{name:22} {found['cpu_s']:7.1f} CPU s {found['wall_s']:7.1f} s {found['peak_mib']:6.0f} MiB  "
        f"{found['told']}{f'; bar: {bar}' if bar else ''}",
        flush=True,
    )


def _table(folder: Path, share: float) -> Path:
    draw, path, n = random.Random(0), folder / "table.csv", round(100_000 * share)
    loads, lengths, outputs = (1, 2, 4, 8, 16, 32, 64, 128), (128, 256, 512, 1024, 2048), (64, 128, 256, 512)
    with path.open("w") as stream:
        stream.write(
            "engine,engine_version,model,precision,accelerator,accelerator_count,tensor_parallel_size,input_tokens,"
            "output_tokens,batch_size,e2e_latency_s,ttft_s,throughput_tok_s,total_throughput_tok_s,n_repeats,"
            "option.block\n"
        )
        cells = ((m, i, o, b) for m in range(n) for i in lengths for o in outputs for b in loads)
        for (m, i, o, b), _ in zip(cells, range(n), strict=False):
            took = (0.1 + o * (0.01 + 0.0004 * b) + i * b * 1e-5) * draw.uniform(0.98, 1.02) * (1 + m % 7 / 10)
            count = 1 + m % 4
            stream.write(
                f"vllm,0.32,m{m % 50},fp16,chip{m % 20},{count},{count},{i},{o},{b},{took:.6f},"
                f"{0.05 + i * b * 1e-5:.6f},"
                f"{b * o / took:.4f},{b * (i + o) / took:.4f},3,{m // 50}\n"
            )
    return path


def _folder(folder: Path, share: float) -> Path:
    """Runs with all their requests, told apart by their times; about 1 MB each."""
    out = folder / "runs"
    out.mkdir()
    n = 1_300
    for number in range(round(1_000 * share)):
        draw = random.Random(number)
        ttfts = [draw.uniform(0.2, 0.4) for _ in range(n)]
        itls = [[draw.uniform(0.009, 0.011) for _ in range(31)] for _ in range(n)]
        run = {
            "date": f"20261101-{120_000 + number}", "backend": "vllm", "model_id": f"org/m{number % 10}",
            "request_rate": "inf", "max_concurrency": 1 + number // 10, "duration": 60 + number / 100,
            "num_prompts": n, "completed": n, "failed": 0,
            "total_input_tokens": 512 * n, "total_output_tokens": 32 * n, "request_throughput": n / 60,
            "output_throughput": 32 * n / 60, "total_token_throughput": 544 * n / 60,
            "input_lens": [512] * n, "output_lens": [32] * n, "ttfts": ttfts, "itls": itls, "errors": [""] * n,
        }  # fmt: skip
        (out / f"run-{number}.json").write_text(json.dumps(run))
    return out


def _requests(folder: Path, share: float) -> Path:
    draw, path = random.Random(0), folder / "profile_export.jsonl"
    size, number = 0, 0
    with path.open("w") as stream:
        while size < 1_000_000_000 * share:
            start, first = 1_700_000_000_000_000_000 + number * 10**7, draw.uniform(200, 400)
            whole = first + 31 * draw.uniform(9, 11)
            record = {
                "metadata": {
                    "session_num": number, "x_request_id": f"{number:032x}", "benchmark_phase": "profiling",
                    "request_start_ns": start, "request_end_ns": start + int(whole * 1e6), "was_cancelled": False,
                },
                "metrics": {
                    "time_to_first_token": {"value": first, "unit": "ms"},
                    "request_latency": {"value": whole, "unit": "ms"},
                    "inter_token_latency": {"value": (whole - first) / 31, "unit": "ms"},
                    "inter_chunk_latency": {"value": [draw.uniform(9, 11) for _ in range(31)], "unit": "ms"},
                    "output_sequence_length": {"value": 32, "unit": "tokens"},
                    "input_sequence_length": {"value": 512, "unit": "tokens"},
                },
                "error": None,
            }  # fmt: skip
            size += stream.write(json.dumps(record) + "\n")
            number += 1
    return path


def _rows(folder: Path, share: float) -> Path:
    """Deployments of 160 cells each; one latency in ten thousand is five times too long."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, n, size = folder / "rows.parquet", round(10_000_000 * share), 500_000
    draw = np.random.default_rng(0)
    names = {name: np.array([f"{name}{k}" for k in range(n_names)]) for name, n_names in (("m", 50), ("chip", 20))}
    writer = None
    for start in range(0, n, size):
        place = np.arange(start, min(start + size, n))
        m, c = place // 160, place % 160
        batch, output, given = 2.0 ** (c % 8), 64.0 * 2.0 ** (c // 8 % 4), 128.0 * 2.0 ** (c // 32)
        took = (0.1 + output * (0.01 + 0.0004 * batch) + given * batch * 1e-5) * (1 + m % 7 / 10)
        took *= draw.uniform(0.98, 1.02, len(place)) * np.where(draw.random(len(place)) < 1e-4, 5, 1)
        table = pa.table(
            {
                "engine": np.repeat("vllm", len(place)), "engine_version": np.repeat("0.32", len(place)),
                "model": names["m"][m % 50], "precision": np.repeat("fp16", len(place)),
                "accelerator": names["chip"][m % 20], "accelerator_count": 1.0 + m % 4,
                "tensor_parallel_size": 1.0 + m % 4, "input_tokens": given, "output_tokens": output,
                "batch_size": batch, "e2e_latency_s": took, "ttft_s": 0.05 + given * batch * 1e-5,
                "throughput_tok_s": batch * output / took, "total_throughput_tok_s": batch * (given + output) / took,
                "n_repeats": np.full(len(place), 3.0), "option.block": m // 50,
            }
        )  # fmt: skip
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path


MAKERS = {"folder": _folder, "requests": _requests, "table": _table, "rows": _rows}


if __name__ == "__main__":
    main()
