"""How fast the HTTP API answers: new and repeated predictions, many cases in one request, and a page, beside the verb.

    python benchmarks/service.py --json service.json

A server of its own serves a packaged dataset. `new` asks a case that was never asked; `repeated` asks one again, over
several connections at once. The answers are compared with those of the verb, digit by digit. Another server serves a
store into which a cell comes every two seconds, to so many viewers of the page Live (`--viewers`, at the page's pace).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from fewmark.core import Case, Cost, Deployment, Measurement, Sample, Workload
from fewmark.store import open_store
from fewmark.verbs.predict import predict
from fewmark.web.client import Client

CASE = {"engine": "tgis", "model": "llama-7b", "precision": "fp16", "accelerator": "A100-80GB", "accelerator_count": 1,
        "input_tokens": 112, "output_tokens": 20}  # fmt: skip
DATA = "llm-pilot"
N_CONNECTIONS = 4
PACE_S = 3.0  # of the page Live
WATCHED_S = 20
REVISION = re.compile(r'id="seen" value="([^"]*)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--seconds", type=float, default=5.0, help="of repeated questions")
    parser.add_argument("--viewers", type=int, nargs="*", default=[1, 100], help="of the page Live")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    started = time.perf_counter()
    with serving(DATA, "--model", options.model) as (url, server), Client(url) as client:
        client.health()
        found |= {"start_s": time.perf_counter() - started, **measure(client, url, server, options)}
    for n_viewers in options.viewers:
        with tempfile.TemporaryDirectory() as folder:
            found |= watched(Path(folder) / "store.db", n_viewers)
    for name, value in found.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


@contextlib.contextmanager
def serving(what: str, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server of its own: its address, and the process."""
    run = "from fewmark.cli import main; main()"
    command = [sys.executable, "-c", run, "serve", what, "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        yield server.stderr.readline().split("fewmark is at ")[1].split("  ")[0], psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(timeout=60)


def watched(path: Path, n_viewers: int) -> dict[str, float]:
    """The share of a core that viewers of a store cost while it grows, and the MiB that their watching adds."""

    def cell(number: int) -> Measurement:
        case = Case(Deployment("vllm", "small-7b"), Workload(128, 64, batch_size=1 + number))
        return Measurement(case, samples=(Sample(e2e_latency_s=1 + 0.01 * number, output_tokens=64),), cost=Cost(2.0))

    with open_store(path) as store:
        store.add(map(cell, range(200)))
        with serving(f"sqlite:///{path}", "--model", "loglog", "--no-prior") as (url, server):
            _page(url, "/live")
            time.sleep(5)  # the first fit
            held, over = server.memory_info().rss, threading.Event()
            viewers = [threading.Thread(target=_watch, args=(url, over)) for _ in range(n_viewers)]
            for viewer in viewers:
                viewer.start()
                time.sleep(PACE_S / n_viewers)
            began = time.perf_counter()
            used = _cpu_s(server)
            for number in range(WATCHED_S // 2):
                store.add([cell(200 + number)])
                time.sleep(2)
            share = (_cpu_s(server) - used) / (time.perf_counter() - began)
            grown = server.memory_info().rss - held
            over.set()
            for viewer in viewers:
                viewer.join()
    return {f"core_of_{n_viewers}_viewers": share, f"mib_of_{n_viewers}_viewers": grown / 2**20}


def _watch(url: str, over: threading.Event) -> None:
    """A page that asks again as the real one does."""
    connection, seen = HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=60), ""
    while not over.wait(PACE_S):
        connection.request("GET", f"/live?seen={quote(seen)}", headers={"hx-request": "true"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status == 200:
            seen = REVISION.search(text).group(1)  # type: ignore[union-attr]
    connection.close()


def _cpu_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return times.user + times.system


def measure(client: Client, url: str, server: psutil.Process, options: argparse.Namespace) -> dict[str, Any]:
    """All figures; times in seconds."""
    cases = [{**CASE, "concurrency": load} for load in range(1, 21)]
    answers = client.predict(cases).predictions  # waits for the fit
    expected = predict(cases, data=DATA, model=options.model)
    same = [one.value for one in answers] == [None if value != value else value for value in expected["value"].tolist()]
    new = [_timed(lambda i=i: client.predict([{**CASE, "concurrency": 21 + i}])) for i in range(20)]
    many = [{**CASE, "input_tokens": 100 + i % 50, "concurrency": 1 + i // 50} for i in range(1000)]
    client.predict(many)
    used = _cpu_s(server)
    thousand = [_timed(lambda: client.predict(many)) for _ in range(10)]
    thousand_cpu_s = (_cpu_s(server) - used) / len(thousand)
    page = [_timed(lambda: _page(url, "/explore")) for _ in range(10)]
    rate, p99 = _repeated(url, options.seconds)
    return {
        "equal_to_the_verb": same,
        "new_p50_s": statistics.median(new),
        "thousand_cases_s": statistics.median(thousand),
        "thousand_cases_cpu_s": thousand_cpu_s,
        "page_p50_s": statistics.median(page),
        "repeated_per_s": rate,
        "repeated_p99_s": p99,
    }


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _page(url: str, path: str) -> None:
    host = url.removeprefix("http://").rstrip("/")
    connection = HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    assert connection.getresponse().read()
    connection.close()


def _repeated(url: str, seconds: float) -> tuple[float, float]:
    """Answers a second over some connections, and the 99th percentile of their times, both with the client's own."""
    body = json.dumps({"cases": [{**CASE, "concurrency": 7}]})
    times: list[float] = []
    until = time.perf_counter() + seconds

    def ask() -> None:
        connection = HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=60)
        while (now := time.perf_counter()) < until:
            connection.request("POST", "/v1/predict", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            times.append(time.perf_counter() - now)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(N_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / seconds, sorted(times)[int(0.99 * len(times))]


if __name__ == "__main__":
    main()
