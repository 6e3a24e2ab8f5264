"""fewmark beside other load clients on real servers: the same server, prompts and load, one client after the other.

    python benchmarks/real_servers.py [--servers vllm,llama-server,transformers] [--concurrency 1,4] [--rounds 2]
        [--vllm PYTHON] [--guidellm COMMAND] [--program LLAMA_SERVER] [--json OUT]

Each server is started as a managed one with a tiny Llama of random weights. In each round every client has its turn;
tokens are counted by the server's usage. Clients, and servers, that are not installed are left out with a word:
`vllm bench serve` by vLLM's interpreter, `guidellm` by its command. Where a server has histograms of its own, each
client stands beside what the server counted of that client's requests, which holds on a machine of any load; the
clients among one another are compared by the rounds, which agree where their ranges meet or by 5%.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewmark.core import Deployment, FormatError, FrozenMap, Workload
from fewmark.engines.base import CaseFailure
from fewmark.engines.checkpoints.folder import write_folder
from fewmark.engines.checkpoints.shapes import SHAPES
from fewmark.engines.environments.folders import environment_python
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.openai.engine import OpenAIEngine
from fewmark.load.mixes import Segment
from fewmark.load.prompts import TextPrompts
from fewmark.load.server_metrics import SERVERS, parse_exposition

MODEL = "llama-tiny"
OPTIONS: dict[str, dict[str, Any]] = {
    "vllm": {
        "arg.enforce-eager": True, "arg.max-model-len": 1024, "arg.max-num-seqs": 16,
        "env.VLLM_CPU_KVCACHE_SPACE": "1",
    },
    "llama-server": {"arg.-np": 8, "arg.-c": 8192, "arg.-t": 1, "arg.no-ui": True},
    "transformers": {"arg.continuous-batching": True},
}  # fmt: skip
# Verdicts of a machine that is shared are not the question here; they are printed.
VALIDITY = (("lateness_s", 1.0), ("idle_share", 1.0), ("worker_cpu_share", 1.0))
TOTALS = ("sum", "count")  # of a histogram
METRICS = ("throughput_tok_s", "ttft_ms", "tpot_ms")
TIMEOUT_S = 300
Row = dict[str, float]


def with_fewmark(engine: OpenAIEngine, workload: Workload, n: int, seed: int) -> Row | str:
    """One window."""
    policy = Policy(min_repeats=1, max_repeats=1, n_requests=n, validity=VALIDITY)
    outcome = measure(engine, workload, policy, seed=seed)
    if not outcome.samples:
        return f"{outcome.status}: {outcome.error}"
    known = outcome.samples[-1].known()
    window = (outcome.extra.get("windows") or outcome.extra.get("invalid_windows"))[-1]
    beside = (window.get("server") or {}).get("beside_the_client", {})  # of the window, warm-up left out
    found = {
        "throughput_tok_s": known["throughput_tok_s"],
        "ttft_ms": 1e3 * known["ttft_s"],
        "tpot_ms": 1e3 * known["tpot_s"],
        "requests": known["n_requests"],
    }
    for metric, of in ("ttft", "ttft_s"), ("tpot", "tpot_s" if "tpot_s" in beside else "itl_s"):
        if (told := beside.get(of)) and told["server"] and told["client"]:  # of all requests, as the server's
            found[f"server_{metric}_ms"] = 1e3 * told["server"]
            found[f"{metric}_over_server"] = told["client"] / told["server"] - 1
    return found


def counted(url: str) -> dict[str, float]:
    """What the server has counted so far; nothing where it does not tell."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            return parse_exposition(answer.read().decode())
    except (OSError, FormatError):
        return {}


def beside_server(row: Row, before: dict[str, float], after: dict[str, float]) -> Row:
    """A client's numbers and the server's own means over the same requests."""

    def counted(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    told = {}
    known = SERVERS["vllm"]
    for metric, names in ("ttft", known.ttft), ("tpot", known.tpot):
        for name in names:
            total, count = (counted(f"{name}_{part}") for part in TOTALS)
            if count:
                told[metric] = total / count
    # llama-server keeps sums alone: of the time from each answer's first token on, and of all tokens
    sums = SERVERS["llama-server"]
    seconds, tokens = counted(sums.decode_seconds[0]), counted(sums.output_tokens[0])
    if seconds and tokens > row["requests"]:
        told["tpot"] = seconds / (tokens - row["requests"])
    for metric, value in told.items():
        row[f"server_{metric}_ms"] = 1e3 * value
        row[f"{metric}_over_server"] = row[f"{metric}_ms"] / row[f"server_{metric}_ms"] - 1
    return row


def with_vllm(python: str, url: str, model: str, prompts: Path, streams: int, n: int, exact: bool) -> Row | str:
    """`vllm bench serve`, its data set the prompts."""
    with tempfile.TemporaryDirectory() as folder:
        words = [python, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai", "--base-url", url]
        words += ["--model", model, "--tokenizer", str(prompts.parent), "--dataset-name", "custom"]
        words += ["--dataset-path", str(prompts), "--custom-output-len", "-1", "--skip-chat-template"]
        words += ["--num-prompts", str(n), "--max-concurrency", str(streams), "--temperature", "0", "--disable-tqdm"]
        words += ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        words += ["--ignore-eos"] if exact else []
        if (said := _run(words)) is not None:
            return said
        result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    if not result["completed"]:
        return f"none of {n} requests completed"
    return {
        "throughput_tok_s": result["output_throughput"],
        "ttft_ms": result["mean_ttft_ms"],
        "tpot_ms": result["mean_tpot_ms"],
        "requests": result["completed"],
    }


def with_guidellm(command: str, url: str, model: str, prompts: Path, streams: int, n: int, _: bool) -> Row | str:
    """guidellm on the completions route, its data the prompts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "benchmarks.json"
        backend = f"kind=openai_http,target={url},model={model},request_format=/v1/completions"
        words = [command, "run", "--backend", backend, "--tokenizer", f"kind=hf_auto,model={prompts.parent}"]
        words += ["--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={n}"]
        words += ["--data", f"kind=json_file,path={prompts}", "--output", f"kind=json,path={out}"]
        if (said := _run(words)) is not None:
            return said
        result = json.loads(out.read_text(encoding="utf-8"))["benchmarks"][0]
    of = {name: told["successful"] for name, told in result["metrics"].items() if told and "successful" in told}
    n_done = of["time_to_first_token_ms"]["count"]
    if not n_done:
        return f"none of {n} requests was successful"
    return {
        "throughput_tok_s": of["output_tokens_per_second"]["mean"],
        "ttft_ms": of["time_to_first_token_ms"]["mean"],
        "tpot_ms": of["inter_token_latency_ms"]["mean"],  # its TPOT is the whole latency over all tokens
        "its_tpot_ms": of["time_per_output_token_ms"]["mean"],
        "requests": n_done,
    }


def _run(words: list[str]) -> str | None:
    """What went wrong; None where nothing did."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return (lines or ["failed"])[-1].strip()[:200]


def write_prompts(folder: Path, url: str, server: str, tokens: int, n_out: int, n: int) -> Path:
    """A file of prompts of exactly so many tokens by the server's own count, as all clients read it."""
    write_folder(folder, SHAPES[MODEL], "fp32", weights=False)
    maker = TextPrompts(folder)
    texts = [maker.make((Segment(f"prompt {number}", tokens),)).text for number in range(n)]
    if server == "llama-server":  # its model file has another tokenizer
        texts = [_cut(text, lambda cut: _tokenized(url, cut), tokens) for text in texts]
    path = folder / "prompts.jsonl"
    rows = [
        {"prompt": text, "output_tokens": n_out, "prompt_tokens_count": tokens, "output_tokens_count": n_out}
        for text in texts
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _tokenized(url: str, text: str) -> int:
    data = json.dumps({"content": text, "add_special": True}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/tokenize", data=data)) as answer:
        return len(json.load(answer)["tokens"])


def _cut(text: str, count: Callable[[str], int], tokens: int) -> str:
    """The beginning of a text that has so many tokens, or the fewest above."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(text[:middle]) < tokens else (low, middle)
    return text[:low]


def compare(server: str, options: argparse.Namespace, peers: dict[str, Callable[..., Row | str]]) -> list[Row | Any]:
    """All clients on one server; a row for each client and load."""
    given = {"server": server, **OPTIONS[server]}
    if server == "llama-server" and options.program:
        given["program"] = options.program
    engine, rows = OpenAIEngine(), []
    try:
        engine.load(Deployment("openai", MODEL, precision="fp32", engine_options=FrozenMap(given)))
        facts = engine.environment()
        words = list(facts["server_command"])
        url = f"http://127.0.0.1:{words[words.index('--port') + 1]}"
        print(f"\n{server} {facts.get('engine_version', '')}: ready after {facts['server_start_s']:.0f} s", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            most = max(options.concurrency)
            prompts = write_prompts(
                Path(folder), url, server, options.input, options.output, options.requests + 2 * most
            )
            for streams in options.concurrency:
                rows += _one_load(engine, server, url, str(facts["served_model"]), prompts, streams, options, peers)
    except CaseFailure as failure:
        print(f"{server}: left out ({failure.reason[:300]})", flush=True)
    finally:
        engine.close()
    return rows


def _one_load(
    engine: OpenAIEngine, server: str, url: str, model: str, prompts: Path, streams: int, options: argparse.Namespace,
    peers: dict[str, Callable[..., Row | str]],
) -> list[Any]:  # fmt: skip
    workload = Workload(options.input, options.output, concurrency=streams)
    n, exact = options.requests, bool(engine.environment().get("ignore_eos"))
    runs: dict[str, list[Row]] = {}
    for round_number in range(options.rounds):
        for name in ("fewmark", *peers):
            if name == "fewmark":
                found = with_fewmark(engine, workload, n + 2 * streams, round_number)
            else:
                before = counted(url)
                found = peers[name](url, model, prompts, streams, n, exact)
                found = found if isinstance(found, str) else beside_server(found, before, counted(url))
            if isinstance(found, str):
                print(f"{server}, {streams} streams: {name}: {found}", flush=True)
                continue
            print(f"{server}, {streams} streams: {name}: {_brief(found)}", flush=True)
            runs.setdefault(name, []).append(found)
    return [{"server": server, "streams": streams, "client": name, **_summary(runs, name)} for name in runs]


def _brief(row: Row) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())


def _summary(runs: dict[str, list[Row]], name: str) -> dict[str, Any]:
    """Medians over the rounds, their ranges, and how far they are from fewmark's."""
    found: dict[str, Any] = {"rounds": len(runs[name])}
    for metric in sorted({metric for row in runs[name] for metric in row}):
        values = [row[metric] for row in runs[name] if metric in row]
        found[metric] = statistics.median(values)
        if metric in METRICS:
            found[f"{metric}_range"] = [min(values), max(values)]
    if name != "fewmark" and "fewmark" in runs:
        for metric in METRICS:
            own = [row[metric] for row in runs["fewmark"]]
            low, high = found[f"{metric}_range"]
            off = found[metric] / statistics.median(own) - 1
            found[f"{metric}_off"] = off
            found[f"{metric}_agrees"] = abs(off) <= 0.05 or (low <= max(own) and min(own) <= high)
    return found


def show(rows: list[Any]) -> None:
    """A Markdown table."""
    print("\n| server | streams | client | requests | output tok/s | TTFT, ms | TPOT, ms |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        cells = []
        for metric in METRICS:
            low, high = row[f"{metric}_range"]
            text = f"{row[metric]:.4g} ({low:.4g}–{high:.4g})"
            if f"{metric}_off" in row and not row[f"{metric}_agrees"]:
                text += f" **{row[f'{metric}_off']:+.0%} of fewmark's**"
            if (over := row.get(f"{metric.removesuffix('_ms')}_over_server")) is not None:
                text += f"; {over:+.1%} of the server's"
            cells.append(text)
        print(f"| {row['server']} | {row['streams']} | {row['client']} | {row['requests']:g} | {' | '.join(cells)} |")
        if not math.isnan(row.get("its_tpot_ms", math.nan)):
            print(f"  (its own TPOT, latency over all tokens: {row['its_tpot_ms']:.4g} ms)", file=sys.stderr)


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(OPTIONS))
    parser.add_argument("--concurrency", default="1,4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--input", type=int, default=64)
    parser.add_argument("--output", type=int, default=32)
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM; by default its environment's")
    parser.add_argument("--guidellm", default="guidellm", metavar="COMMAND")
    parser.add_argument("--program", help="llama-server, where it is not found by itself")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are stopped on the way out
    options.concurrency = [int(word) for word in options.concurrency.split(",")]
    peers: dict[str, Callable[..., Row | str]] = {}
    if (python := options.vllm or environment_python("vllm")) is not None:
        peers["vllm bench serve"] = lambda *more: with_vllm(str(python), *more)
    else:
        print("vllm bench serve: left out, no environment of vLLM here")
    if (command := shutil.which(options.guidellm)) is not None:
        peers["guidellm"] = lambda *more: with_guidellm(command, *more)
    else:
        print("guidellm: left out, not installed here")
    load, rows = os.getloadavg()[0], []
    for server in options.servers.split(","):
        rows += compare(server, options, peers)
    show(rows)
    print(f"\nload average {load:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} CPUs")
    if options.json:
        options.json.write_text(json.dumps({"load_average": load, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
