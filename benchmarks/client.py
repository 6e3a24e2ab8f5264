"""What a load client costs and how well it keeps time: fewmark's and others against a mock that says when it sent.

    python benchmarks/client.py [--json OUT] [--quick] [--vllm COMMAND]

Three tables: answer tokens per CPU second of the client; the error of TTFT and of each gap between reads against the
send times in the events, on a machine left alone and with two busy loops on the client's core; the lateness of an open
loop. The mock has a core of its own, the client and the busy loops another. Clients other than fewmark run where they
are installed: aiohttp in this environment, `vllm bench serve` by the command given (its CPU time is its whole
process's, less that of a run with one request). Errors of gaps are those between reads: nobody knows the ones inside.
On a busy machine a client comes late and finds more in each read (`tokens_per_read`), which costs less and tells less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewmark.engines.checkpoints.folder import write_folder
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import RequestPlan
from fewmark.load.settings import LoadSettings

HERE = Path(__file__).parent
STREAMS = (64, 256, 512, 1000)
EVENTS_PER_S = 6400  # of all streams together, paced
VLLM_ROUNDS = 4  # of requests, so that they stand out from its start
MIN_CPU_S = 1.0  # of another client's requests, told apart from its start
BUSY = "while True: pass"
Row = dict[str, Any]
Reads = list[tuple[float, list[str]]]  # of one answer: when each read came, and the texts in it


def body(tokens: int, mock: dict[str, Any]) -> bytes:
    """A request to the mock."""
    value = {"model": "mock", "prompt": "hello", "max_tokens": tokens, "stream": True}
    return json.dumps({**value, "stream_options": {"include_usage": True}, "mock": mock}).encode()


def bodies(n: int, tokens: int, gap_s: float) -> list[bytes]:
    """Requests whose answers are spread evenly over a gap, or as fast as possible where it is 0."""
    if not gap_s:
        return [body(tokens, {"flat": True})] * n
    return [body(tokens, {"ttft_s": 0.2 + gap_s * i / n, "gap_s": gap_s}) for i in range(n)]


def with_fewmark(url: str, requests: list[bytes], streams: int, keep: bool, transport: str = "sockets") -> Row:
    """Drive the requests with fewmark, one worker process."""
    plans = [RequestPlan(i, data) for i, data in enumerate(requests)]
    cpu_s = time.process_time()
    settings = LoadSettings(concurrency=streams, workers=1, keep_chunks=keep, transport=transport)  # type: ignore[arg-type]
    result = run_load(plans, Endpoint(url), settings)
    cpu_s = time.process_time() - cpu_s + result.client_cpu_s
    answers: list[tuple[float, Reads]] = []
    for record in result.records:
        reads: Reads = []
        for at, text in result.chunks.get(record.index, ()):
            if reads and reads[-1][0] == at:
                reads[-1][1].append(text)
            else:
                reads.append((at, [text]))
        answers.append((record.send_s or 0.0, reads))
    tokens = sum(record.completion_tokens or 0 for record in result.records)
    kernel = all(record.kernel_stamps for record in result.records)
    n_reads = sum(record.n_chunks - record.n_coalesced for record in result.records)
    row = {"tokens": tokens, "cpu_s": cpu_s, "tokens_per_read": tokens / n_reads, "kernel_stamps": kernel}
    return {**row, "answers": answers if keep else []}


def with_aiohttp(url: str, requests: list[bytes], streams: int, keep: bool) -> Row:
    """Drive the requests with a plain loop on aiohttp and json, as most clients are written."""
    import aiohttp

    answers: list[tuple[float, Reads]] = []
    total = n_reads = 0

    async def one(session: aiohttp.ClientSession, data: bytes) -> None:
        nonlocal total, n_reads
        reads: Reads = []
        send_s = time.time()
        async with session.post(url + "/v1/completions", data=data) as response:
            buffer = b""
            async for part in response.content.iter_any():
                now_s = time.time()
                *events, buffer = (buffer + part).split(b"\n\n")
                texts = []
                for event in events:
                    if event.startswith(b"data: ") and event != b"data: [DONE]":
                        value = json.loads(event[6:])
                        if value["choices"]:
                            texts.append(value["choices"][0]["text"])
                        elif value.get("usage"):
                            total += value["usage"]["completion_tokens"]
                n_reads += bool(texts)
                if texts and keep:
                    reads.append((now_s, texts))
        answers.append((send_s, reads))

    async def drive() -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 20) as session:
            left = iter(requests)

            async def stream() -> None:
                for data in left:
                    await one(session, data)

            await asyncio.gather(*(stream() for _ in range(streams)))

    cpu_s = time.process_time()
    asyncio.run(drive())
    cpu_s = time.process_time() - cpu_s
    row = {"tokens": total, "cpu_s": cpu_s, "tokens_per_read": total / n_reads, "kernel_stamps": False}
    return {**row, "answers": answers if keep else []}


CLIENTS: dict[str, Callable[..., Row]] = {
    "fewmark": with_fewmark,
    "aiohttp": with_aiohttp,
    "fewmark on aiohttp": lambda *args: with_fewmark(*args, transport="aiohttp"),
}


@contextmanager
def server(pin: bool) -> Iterator[str]:
    """The mock, on the last core."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "paced_server.py")],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, {cores()[-1]})) if pin else None,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def measure(
    client: str, url: str, requests: int, tokens: int, streams: int, gap_s: float, keep: bool, busy: int, pin: bool
) -> Row:
    """Run a client in a process of its own, on the first core, beside so many busy loops."""
    core = (lambda: os.sched_setaffinity(0, {cores()[0]})) if pin else None
    loops = [subprocess.Popen([sys.executable, "-c", BUSY], preexec_fn=core) for _ in range(busy)]
    try:
        arguments = [client, url, str(requests), str(tokens), str(streams), str(gap_s), str(int(keep))]
        done = subprocess.run(
            [sys.executable, str(HERE / "client.py"), "--one", *arguments],
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=core,
        )
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    row: Row = json.loads(done.stdout)
    return row


def one(arguments: list[str]) -> Row:
    """The client's own process."""
    client, url, requests, tokens, streams, gap_s, keep = arguments
    made = bodies(int(requests), int(tokens), float(gap_s))
    if client == "lateness":
        return lateness(url, int(requests), int(streams))
    row = CLIENTS[client](url, made, int(streams), keep == "1")
    return {**{k: v for k, v in row.items() if k != "answers"}, **errors(row["answers"])}


def errors(answers: list[tuple[float, Reads]]) -> Row:
    """Errors of TTFT and of the gaps between reads, in ms, and the share of events that came with a later one.

    Of an answer whose first read held several events the TTFT is known to be no more than it says; such are counted.
    """
    ttft, gaps = [], []
    n_shared = 0
    n_events = n_reads = 0
    for send_s, reads in answers:
        before: tuple[float, int] | None = None
        for at, texts in reads:
            last = int(texts[-1].split()[0])
            if before is None:
                first, arrived = map(int, texts[0].split())
                n_shared += len(texts) > 1
                if len(texts) == 1:
                    ttft.append(abs((at - send_s) - (first - arrived) / 1e9) * 1e3)
            else:
                gaps.append(abs((at - before[0]) - (last - before[1]) / 1e9) * 1e3)
            before = (at, last)
            n_events += len(texts)
            n_reads += 1
    found: Row = {"coalesced_share": 1 - n_reads / n_events if n_events else None}
    found["first_shared"] = n_shared / len(answers) if answers else None
    for name, values in ("ttft", ttft), ("gap", gaps):
        cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [None] * 99
        found |= {f"{name}_error_p50_ms": cuts[49], f"{name}_error_p99_ms": cuts[98]}
    return found


def lateness(url: str, rate: int, workers: int) -> Row:
    """How late fewmark sends in an open loop of so many requests a second, over three seconds."""
    data = body(2, {"ttft_s": 0.02, "gap_s": 0.01})
    plans = [RequestPlan(i, data, planned_send_s=0.2 + i / rate) for i in range(3 * rate)]
    result = run_load(plans, Endpoint(url), LoadSettings(workers=workers))
    cuts = statistics.quantiles(result.lateness_s, n=100)
    ok = sum(record.status == "ok" for record in result.records)
    return {"ok": ok, "planned": len(plans), "lateness_p50_ms": cuts[49] * 1e3, "lateness_p99_ms": cuts[98] * 1e3}


def with_vllm(command: str, url: str, requests: int, tokens: int, streams: int, gap_s: float) -> Row | str:
    """`vllm bench serve` on the same mock: CPU time of its processes, less that of a run with one request."""
    program = shutil.which(command)
    if program is None:
        return f"no {command}"
    mock = {"flat": True} if not gap_s else {"ttft_s": 0.2, "gap_s": gap_s}

    def run(n: int) -> float | str:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--backend", "openai", "--base-url", url, "--model", "mock", "--dataset-name", "random"]
            arguments += ["--random-input-len", "8", "--random-output-len", str(tokens), "--num-prompts", str(n)]
            tokenizer = write_folder(Path(folder), SHAPES["llama-tiny"], "fp32", weights=False)
            arguments += ["--max-concurrency", str(streams), "--tokenizer", str(tokenizer), "--disable-tqdm"]
            arguments += ["--extra-body", json.dumps({"mock": mock})]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [program, "bench", "serve", *arguments],
                capture_output=True,
                text=True,
                cwd=folder,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    few, many = run(1), run(requests)
    if isinstance(few, str) or isinstance(many, str):
        return few if isinstance(few, str) else str(many)
    if many - few < MIN_CPU_S:
        return f"its requests took {many - few:.2f} CPU s, which is lost in its start's {few:.0f}"
    return {"tokens": (requests - 1) * tokens, "cpu_s": many - few}


def table(rows: list[Row], columns: list[str]) -> None:
    """Print rows as a table."""
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    print(flush=True)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="OUT", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--only", choices=["throughput", "accuracy", "lateness"], help="one of the tables")
    parser.add_argument(
        "--vllm", default="vllm", metavar="COMMAND", help="vllm's command, in an environment of its own"
    )
    parser.add_argument("--one", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return 0
    pin = len(cores()) > 1
    short = 2 if options.quick else 1
    names = ["fewmark", "aiohttp", "fewmark on aiohttp"]
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        print("aiohttp: skipped, not installed here")
        names = names[:1]
    result: dict[str, Any] = {"cores": len(cores()), "load_average": os.getloadavg()[0], "throughput": []}
    with server(pin) as url:
        if options.only in (None, "throughput"):
            result["throughput"] = throughput(url, names, options.vllm, short, pin)
        if options.only in (None, "accuracy"):
            result["accuracy"] = accuracy(url, names[:2], short, pin)
        if options.only in (None, "lateness"):
            rows = []
            for workers in 1, 2:
                row = measure("lateness", url, 1000, 2, workers, 0.0, False, 0, pin)
                rows.append({"workers": workers, "requests_per_s": 1000, **row})
            table(rows, ["workers", "requests_per_s", "ok", "planned", "lateness_p50_ms", "lateness_p99_ms"])
            result["lateness"] = rows
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def throughput(url: str, names: list[str], vllm: str, short: int, pin: bool) -> list[Row]:
    """Tokens per CPU second of the client: paced, and as fast as the mock can."""
    rows: list[Row] = []
    for load, streams, tokens, gap_s in ("paced", 64, 600 // short, 0.01), ("flat", 16, 50_000 // short, 0.0):
        first = len(rows)
        for name in names:
            row = measure(name, url, streams, tokens, streams, gap_s, False, 0, pin)
            rows.append({"load": load, "client": name, "streams": streams, **row})
        found = with_vllm(vllm, url, VLLM_ROUNDS * streams, min(tokens, 2000), streams, gap_s)
        if isinstance(found, str):
            print(f"vllm bench serve: skipped ({found})")
        else:
            rows.append({"load": load, "client": "vllm bench serve", "streams": streams, **found})
        for row in rows[first:]:
            row["tokens_per_cpu_s"] = row["tokens"] / row["cpu_s"]
            row["fewmark_times"] = rows[first]["tokens"] / rows[first]["cpu_s"] / row["tokens_per_cpu_s"]
        columns = ["load", "client", "streams", "tokens", "cpu_s", "tokens_per_read", "tokens_per_cpu_s"]
        table(rows[first:], [*columns, "fewmark_times"])
    return rows


def accuracy(url: str, names: list[str], short: int, pin: bool) -> list[Row]:
    """Errors of TTFT and gaps, alone and with two busy loops."""
    rows: list[Row] = []
    for busy in 0, 2:
        for streams in STREAMS:
            gap_s = streams / EVENTS_PER_S
            tokens = max(round(4 / short / gap_s), 8)
            for name in names:
                row = measure(name, url, streams, tokens, streams, gap_s, True, busy, pin)
                rows.append({"busy_loops": busy, "client": name, "streams": streams, "gap_ms": gap_s * 1e3, **row})
    columns = ["busy_loops", "client", "streams", "gap_ms", "ttft_error_p50_ms", "ttft_error_p99_ms"]
    table(rows, [*columns, "gap_error_p50_ms", "gap_error_p99_ms", "coalesced_share", "first_shared"])
    return rows


if __name__ == "__main__":
    sys.exit(main())
