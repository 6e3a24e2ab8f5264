"""How fast the HTTP API answers: new and repeated predictions, many cases in one request, and a page, beside the verb.

    python benchmarks/service.py --json service.json

A server of its own serves a packaged dataset. `new` asks a case that was never asked; `repeated` asks one again, over
several connections at once. The answers are compared with those of the verb, digit by digit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from fewmark.verbs.predict import predict
from fewmark.web.client import Client

CASE = {"engine": "tgis", "model": "llama-7b", "precision": "fp16", "accelerator": "A100-80GB", "accelerator_count": 1,
        "input_tokens": 112, "output_tokens": 20}  # fmt: skip
DATA = "llm-pilot"
N_CONNECTIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--seconds", type=float, default=5.0, help="of repeated questions")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = "from fewmark.cli import main; main()"
    command = [sys.executable, "-c", run, "serve", DATA, "--port", "0", "--model", options.model]
    started = time.perf_counter()
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        url = server.stderr.readline().split("fewmark is at ")[1].split("  ")[0]
        with Client(url) as client:
            client.health()
            found: dict[str, Any] = {"start_s": time.perf_counter() - started, **measure(client, url, options)}
    finally:
        server.terminate()
        server.wait(timeout=60)
    for name, value in found.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(client: Client, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures; times in seconds."""
    cases = [{**CASE, "concurrency": load} for load in range(1, 21)]
    answers = client.predict(cases).predictions  # waits for the fit
    expected = predict(cases, data=DATA, model=options.model)
    same = [one.value for one in answers] == [None if value != value else value for value in expected["value"].tolist()]
    new = [_timed(lambda i=i: client.predict([{**CASE, "concurrency": 21 + i}])) for i in range(20)]
    many = [{**CASE, "input_tokens": 100 + i % 50, "concurrency": 1 + i // 50} for i in range(1000)]
    thousand = [_timed(lambda: client.predict(many)) for _ in range(3)]
    page = [_timed(lambda: _page(url, "/explore")) for _ in range(10)]
    rate, p99 = _repeated(url, options.seconds)
    return {
        "equal_to_the_verb": same,
        "new_p50_s": statistics.median(new),
        "thousand_cases_s": min(thousand),
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
