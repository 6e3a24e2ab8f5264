"""How fast the pages answer in a browser: the time from a choice to the drawn page, over 5,000 cells.

    python benchmarks/pages.py --json pages.json

A server of its own serves a made table of 125 deployments of 40 cells. Chromium, headless, makes each choice as a hand
would (a `change` of the control) and the clock stops in the browser two frames after the new part is drawn. Choices are
all different, so that no view is one that was asked before. Models are learned before the clock runs: the first opening
of a page waits for them, and is told apart. Also printed: bytes of the first page with all that it loads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from playwright.sync_api import Page, sync_playwright

MODELS = ("llama-2-7b", "llama-2-13b", "mistral-7b", "llama-2-70b", "qwen2-7b")
ACCELERATORS = {"A100-80GB": 1.0, "H100-80GB": 0.5, "L40S-48GB": 1.9, "MI300X": 0.6, "Gaudi2": 1.2}
ENGINES = {"vllm": 1.0, "tensorrt-llm": 0.85, "sglang": 0.97, "tgi": 1.2, "llama.cpp": 2.2}
LENGTHS = ((128, 128), (512, 128), (1024, 256), (2048, 512))
USERS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
CHANGE = """([id, value]) => new Promise((done) => {
  const control = document.getElementById(id);
  const begun = performance.now();
  document.addEventListener("htmx:afterSettle", () => requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now() - begun))), { once: true });
  if (control.type === "checkbox") control.checked = !control.checked; else control.value = value;
  control.dispatchEvent(new Event("change", { bubbles: true }));
})"""

LOADED = """["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
  .filter((one) => one.initiatorType !== "xmlhttprequest").reduce((sum, one) => sum + one.transferSize, 0)"""


def made() -> pd.DataFrame:
    """5,000 cells of closed loops, with 2% noise."""
    rng = np.random.default_rng(0)
    rows = []
    for (n, model), (accelerator, slow), (engine, by) in itertools.product(
        enumerate(MODELS), ACCELERATORS.items(), ENGINES.items()
    ):
        for (input_tokens, output_tokens), users in itertools.product(LENGTHS, USERS):
            scale = slow * by * (1 + 0.6 * n) * math.exp(0.02 * rng.standard_normal())
            tpot = 0.01 * scale * (1 + 0.02 * users + input_tokens / 16_000)
            ttft = 0.03 * scale * input_tokens / 128 * (1 + 0.05 * users)
            rate = users * output_tokens / (ttft + tpot * (output_tokens - 1))
            rows.append(
                {"engine": engine, "model": model, "accelerator": accelerator, "accelerator_count": 1,
                 "input_tokens": input_tokens, "output_tokens": output_tokens, "concurrency": users,
                 "ttft_s": ttft, "tpot_s": tpot, "throughput_tok_s": rate}
            )  # fmt: skip
    return pd.DataFrame(rows)


@contextmanager
def serving(table: Path, model: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server on the table: its address, and the process."""
    command = [sys.executable, "-m", "fewmark", "serve", str(table), "--port", "0", "--model", model, "--no-prior"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            yield found[0], psutil.Process(process.pid)
        finally:
            process.terminate()


def settled(page: Page, address: str) -> float:
    """Open a page and wait until no model is learning; the seconds it took."""
    begun = time.perf_counter()
    page.goto(address)
    while "is learning from" in page.inner_text("body"):  # its policy lets no script of ours wait
        page.wait_for_timeout(100)
    return time.perf_counter() - begun


def choices(name: str, page: Page, n: int) -> Iterator[tuple[str, Any]]:
    """Controls and values to choose, one after the other, all different."""
    if name == "explore":  # one deployment more, then the one before it less
        keys = page.evaluate("[...document.querySelectorAll('#others input')].map((one) => one.id)")
        yield (keys[0], None)
        for at in range(1, n):
            yield (keys[(at + 1) // 2] if at % 2 else keys[at // 2 - 1], None)
    elif name == "compare":
        values = [("b-model", model) for model in MODELS] + [("a-accelerator", one) for one in ACCELERATORS]
        yield from itertools.islice(itertools.cycle([*values, *(("b-engine", engine) for engine in ENGINES)]), n)
    else:
        for at in range(n):
            yield ("slo-ttft_s", f"{0.1 * 1.07**at:.3f}") if at % 2 else ("price-1", f"{1 + at / 10:.1f}")


def measured(page: Page, name: str, n: int) -> list[float]:
    """Milliseconds of n choices on the page that is open."""
    out = []
    for control, value in list(choices(name, page, n)):
        if page.evaluate("(id) => document.getElementById(id) === null", control):
            continue
        out.append(float(page.evaluate(CHANGE, [control, value])))
        page.wait_for_timeout(50)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--choices", type=int, default=30, help="on each page")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, float] = {}

    def note(what: str, value: float) -> None:
        found[what] = value
        print(f"{what:40} {value:.4g}", flush=True)

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        table = Path(folder) / "made.csv"
        made().to_csv(table, index=False)
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        with serving(table, options.model) as (url, server):
            note("explore, until learned (s)", settled(page, f"{url}explore"))
            note("explore, first page (kB)", page.evaluate(LOADED) / 1000)
            for name in ("explore", "compare", "decide"):
                note(f"{name}, opened (s)", settled(page, f"{url}{name}"))
                used = sum(server.cpu_times()[:2])
                times = measured(page, name, options.choices)
                used = sum(server.cpu_times()[:2]) - used
                note(f"{name}, a choice, CPU-ms of the server", 1000 * used / len(times))
                note(f"{name}, a choice, median (ms)", float(np.median(times)))
                note(f"{name}, a choice, p95 (ms)", float(np.quantile(times, 0.95)))
        browser.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
