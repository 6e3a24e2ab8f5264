"""How `auto` fares on closed loops, and on batches, of several engines and lengths, which no packaged table has.

    python benchmarks/simulated_serving.py --tables 3
    python benchmarks/simulated_serving.py --tables 3 --batches --target throughput_tok_s [--unheard]
    python benchmarks/simulated_serving.py --baselines xgboost,random-forest,loglog,mechanistic \
        --target ttft_s,tpot_s --protocol sparse-25,extrapolate-batch

Each table is drawn by a seed: two dozen deployments of three engines, five models and seven accelerators (one of either
that nobody has heard of), three request lengths, 4 to 256 users. A step of the engine takes the larger of reading the
weights and of computing, the reading of the cache, and an overhead; engines differ in overhead, in the sequences that
they take in, and in how prompts are mixed with decoding (in chunks, or by themselves); memory bounds the cached tokens.
Requests are of 80% to 100% of the length; a table has the medians over three times as many requests as users, 1% noise.
Batches are of requests alike that come at once, 1 to 256 of them, of six lengths where prompt and output differ.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fewmark.evaluation import evaluate

# peak FLOP/s, bytes/s, bytes
ACCELERATORS = {
    "NVIDIA A100-SXM4-80GB": (312e12, 2.04e12, 80e9),
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12, 80e9),
    "NVIDIA H200": (989e12, 4.8e12, 141e9),
    "NVIDIA B200": (2250e12, 8e12, 180e9),
    "NVIDIA L40S": (362e12, 0.864e12, 48e9),
    "AMD Instinct MI300X": (1300e12, 5.3e12, 192e9),
    "FooChip Z9": (500e12, 2.5e12, 96e9),
    "NVIDIA GeForce RTX 3090": (71e12, 0.936e12, 24e9),
    "NVIDIA GeForce RTX 4090": (165e12, 1.008e12, 24e9),
    "NVIDIA GeForce RTX 5090": (210e12, 1.79e12, 32e9),
    "NVIDIA RTX A6000": (155e12, 0.768e12, 48e9),
    "AMD Radeon RX 7900 XTX": (123e12, 0.96e12, 24e9),
}
# parameters, the share of them that a token uses, layers, key-value heads
MODELS = {
    "meta-llama/Llama-3.1-8B": (8e9, 1.0, 32, 8),
    "meta-llama/Llama-3.3-70B": (70e9, 1.0, 80, 8),
    "Qwen/Qwen2.5-32B": (32.5e9, 1.0, 64, 8),
    "mistralai/Mixtral-8x7B": (46e9, 0.28, 32, 8),
    "acme/Mystery-13B": (13e9, 1.0, 40, 40),
    "Qwen/Qwen2.5-7B": (7.6e9, 1.0, 28, 4),
    "Qwen/Qwen2.5-1.5B": (1.5e9, 1.0, 28, 2),
    "Qwen/Qwen3-30B-A3B": (30.5e9, 0.11, 48, 4),
    "openai/gpt-oss-120b": (117e9, 0.044, 36, 8),
}
# overhead of a layer and step (s), sequences, prompt tokens of a step that decodes as well (0: prompts by themselves)
ENGINES = {
    "chunked": (60e-6, 256, 2048), "large-chunks": (45e-6, 1024, 8192), "compiled": (25e-6, 128, 0),
    "few-sequences": (60e-6, 64, 2048), "eight-slots": (90e-6, 8, 512),
}  # fmt: skip
LENGTHS = ((1024, 256), (1024, 1024), (4096, 512))
GRID_LENGTHS = ((128, 128), (128, 1024), (512, 512), (1024, 128), (1024, 1024), (2048, 256), (4096, 512), (4096, 2048))
USERS = (4, 8, 16, 32, 64, 128, 256)
BATCH_LENGTHS = ((128, 128), (128, 1024), (256, 2048), (1024, 128), (1024, 1024), (2048, 256))
BATCHES = (1, 4, 16, 64, 256)
WAVES = 3  # requests of each user
SHORTEST = 0.8  # of a length
PROMPT = 16384  # tokens that are read at once where prompts go by themselves
NOISE = 0.01
METRICS = ("ttft_s", "tpot_s", "throughput_tok_s")


@dataclass(frozen=True)
class Fleet:
    """What deployments are drawn from, and the grid that each of them is measured on."""

    accelerators: tuple[str, ...]
    models: tuple[str, ...]
    engines: tuple[str, ...]
    devices: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]
    users: tuple[int, ...]


DATACENTRE = (tuple(ACCELERATORS)[:7], tuple(MODELS)[:5], ("chunked", "large-chunks", "compiled"), (1, 2, 4, 8))
FLEETS = {
    "loops": Fleet(*DATACENTRE, LENGTHS, USERS),
    "grids": Fleet(*DATACENTRE, GRID_LENGTHS, USERS),
    "consumer": Fleet(
        tuple(ACCELERATORS)[7:], ("meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-1.5B"),
        ("few-sequences", "eight-slots"), (1, 2), ((256, 128), (512, 512), (1024, 256), (2048, 256)),
        (1, 2, 4, 8, 16, 32, 64),
    ),
    "experts": Fleet(
        ("NVIDIA H100 80GB HBM3", "NVIDIA B200", "AMD Instinct MI300X"),
        ("mistralai/Mixtral-8x7B", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-120b", "meta-llama/Llama-3.1-8B"),
        ("chunked", "compiled"), (1, 2, 4, 8), ((128, 1024), (1024, 256), (2048, 1024), (6000, 400)),
        (1, 4, 16, 32, 64, 128, 256),
    ),
    "parallel": Fleet(
        ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200"), tuple(MODELS)[:3],
        ("chunked", "large-chunks"), (1, 2, 4, 8), ((200, 200), (1000, 1000), (3000, 300), (8000, 500)),
        (1, 4, 16, 32, 64, 128, 256),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """What the steps of a deployment cost."""

    engine: str
    model: str
    accelerator: str
    devices: int
    computes: float  # share of the peak
    reads: float
    slower: float  # overhead over its engine's usual one
    each: float  # seconds that a sequence adds to a step

    def step_s(self, tokens: int, sequences: int, cached: float) -> float:
        """Seconds of a step that handles so many tokens of so many sequences, with so many tokens cached."""
        flops, bandwidth, _ = ACCELERATORS[self.accelerator]
        parameters, share, layers, _ = MODELS[self.model]
        read = 2 * parameters * min(1.0, share + (1 - share) * tokens / 32) / (bandwidth * self.devices * self.reads)
        compute = 2 * parameters * share * tokens / (flops * self.devices * self.computes)
        cache = cached * self.bytes_per_token / (bandwidth * self.devices * self.reads)
        overhead = ENGINES[self.engine][0] * layers * self.slower * (1 + 0.15 * np.log2(self.devices))
        return float(max(read, compute) + cache + overhead + self.each * sequences)

    @property
    def bytes_per_token(self) -> float:
        _, _, layers, heads = MODELS[self.model]
        return 4.0 * layers * heads * 128

    @property
    def tokens(self) -> float:
        """How many the cache holds."""
        free = 0.9 * self.devices * ACCELERATORS[self.accelerator][2] - 2 * MODELS[self.model][0]
        return free / self.bytes_per_token


def closed_loop(
    one: Deployment, ii: int, oo: int, users: int, rng: np.random.Generator, waves: int, shortest: float
) -> dict[str, float]:
    """Run it step by step; medians over requests, and the throughput of all. A batch is one wave."""
    _, most, chunk = ENGINES[one.engine]
    n = users * waves
    prompt, output = ((length * rng.uniform(shortest, 1.0, n)).astype(int) for length in (ii, oo))
    unread, left, cached = prompt.copy(), output.copy(), np.zeros(n)
    arrived, first, ended = np.zeros(n), np.zeros(n), np.zeros(n)
    waiting, reading, decoding = list(range(users)), [], np.zeros(0, dtype=int)
    now, used, asked = 0.0, 0, users
    while waiting or reading or len(decoding):
        while (
            waiting
            and len(reading) + len(decoding) < most
            and used + prompt[waiting[0]] + output[waiting[0]] <= one.tokens
        ):
            used += prompt[waiting[0]] + output[waiting[0]]
            reading.append(waiting.pop(0))
        active = decoding if chunk or not reading else decoding[:0]
        budget = max(chunk - len(decoding), 1) if chunk else PROMPT
        tokens, done = 0, []
        for request in reading:
            if tokens >= budget:
                break
            part = min(int(unread[request]), budget - tokens) if chunk else int(unread[request])
            unread[request] -= part
            tokens += part
            if not unread[request]:
                done.append(request)
        reading = [request for request in reading if unread[request]]
        # nothing changes until the first sequence ends: so many steps alike at once, the cache growing
        steps = 1 if tokens else max(1, min(int(left[active].min()), 64 if waiting else 16))
        grown = cached[active].sum() + len(active) * (steps - 1) / 2
        now += steps * one.step_s(len(active) + tokens, len(active) + len(done), grown)
        cached[active] += steps
        left[active] -= steps
        over = active[left[active] <= 0]
        first[done], cached[done] = now, prompt[done]
        left[done] -= 1
        ended[over] = now
        used -= int((prompt[over] + output[over]).sum())
        decoding = np.concatenate([np.setdiff1d(decoding, over), np.array(done, dtype=int)])
        for _ in over:
            if asked < n:
                arrived[asked] = now
                waiting.append(asked)
                asked += 1
    pace = (ended - first) / np.maximum(output - 1, 1)
    return {
        "ttft_s": float(np.median(first - arrived)),
        "tpot_s": float(np.median(pace)),
        "e2e_latency_s": float(np.median(ended - arrived)),
        "throughput_tok_s": float(output.sum() / now),
    }


def table(seed: int, n_deployments: int, batches: bool, fleet: str = "loops") -> pd.DataFrame:
    """The cells of so many deployments of a fleet, in closed loops or in batches."""
    of = FLEETS[fleet]
    lengths, loads, load = (BATCH_LENGTHS, BATCHES, "batch_size") if batches else (of.lengths, of.users, "concurrency")
    waves, shortest = (1, 1.0) if batches else (WAVES, SHORTEST)
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str, str, str, int], Deployment] = {}
    while len(drawn) < n_deployments:
        key = (str(rng.choice(of.engines)), str(rng.choice(of.models)), str(rng.choice(of.accelerators)))
        ways = rng.uniform([0.4, 0.6, 0.9, 5e-6], [0.6, 0.8, 1.1, 40e-6]).tolist()
        one = Deployment(*key, int(rng.choice(of.devices)), *ways)
        if one.tokens > 2 * max(map(sum, (*lengths, *of.lengths))):
            drawn.setdefault((*key, one.devices), one)
    rows: list[dict[str, Any]] = []
    for one in drawn.values():
        names = {"engine": one.engine, "model": one.model, "accelerator": one.accelerator, "precision": "bf16"}
        for ii, oo in lengths:
            for many in loads:
                cell = {"accelerator_count": one.devices, "input_tokens": ii, "output_tokens": oo, load: many}
                found = closed_loop(one, ii, oo, many, rng, waves, shortest)
                rows.append(names | cell | {k: v * np.exp(NOISE * rng.standard_normal()) for k, v in found.items()})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1, help="seeds 0, 1, ...")
    parser.add_argument("--deployments", type=int, default=24)
    parser.add_argument("--fleet", default="loops", choices=FLEETS, help="what the deployments are drawn from")
    parser.add_argument("--batches", action="store_true", help="of requests that come at once, instead of users")
    parser.add_argument("--unheard", action="store_true", help="accelerators and models by names that nobody knows")
    parser.add_argument("--target", default=",".join(METRICS), help="one or several, by commas")
    parser.add_argument("--protocol", default="sparse-25,extrapolate-batch,extrapolate-length")
    parser.add_argument("--baselines", default="", help="models beside auto, by commas")
    options = parser.parse_args()
    others = [name for name in options.baselines.split(",") if name]
    tables = [table(seed, options.deployments, options.batches, options.fleet) for seed in range(options.tables)]
    if options.unheard:
        tables = [unheard(cells) for cells in tables]
    print(f"{'target':17} {'protocol':19} {'table':>5} {'median':>7} {'p90':>7} {'inside':>7} {'answered':>8}")
    for target in options.target.split(","):
        for protocol in options.protocol.split(","):
            rows = []
            for seed, cells in enumerate(tables):
                models = evaluate(cells, protocol, ["auto", *others], random_state=0, target=target).summary["models"]
                auto = models["auto"]
                answered = auto["n"] / (auto["n"] + auto["abstained"])
                rows.append([auto["median_ape"], auto["p90_ape"], auto["picp_90"], answered])
                beside = "  ".join(f"{name} {models[name]['median_ape']:.1%}" for name in others)
                print(f"{target:17} {protocol:19} {seed:5} {line(rows[-1])}  {beside}", flush=True)
            if len(rows) > 1:
                print(f"{target:17} {protocol:19}  mean {line(np.mean(rows, axis=0).tolist())}", flush=True)


def unheard(cells: pd.DataFrame) -> pd.DataFrame:
    """The same cells under names of which nothing is published."""
    names = {"accelerator": "chip", "model": "net"}
    return cells.assign(**{
        column: [f"{word}-{letter:c}" for letter in ord("a") + pd.factorize(cells[column])[0]]
        for column, word in names.items()
    })  # fmt: skip


def line(row: list[float]) -> str:
    return f"{row[0]:7.1%} {row[1]:7.1%} {row[2]:7.1%} {row[3]:8.0%}"


if __name__ == "__main__":
    main()
