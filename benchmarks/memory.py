"""The memory model against real peaks: each case alone in a fresh worker, the forecast beside what it held.

    python benchmarks/memory.py [--engine NAME]... [--engine-python NAME=PATH]... [--json OUT]

Measured is the most resident memory of the worker and the processes that it starts. Where weights are on disk, pages of
mapped files are left out, of the measured and of the predicted: the kernel takes them back when it needs them. An error
above zero says that too much was predicted, which is the safe side. Models are random; runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewmark.core import Case, Deployment, FewmarkError, Measurement, Status, Workload
from fewmark.core.files import MIB
from fewmark.engines.measuring.policy import Policy
from fewmark.engines.memory.footprint import LIBRARY_BYTES
from fewmark.engines.memory.needs import needs
from fewmark.runner import Launch, RunSettings
from fewmark.runner.deployment import measure_deployment


def llama(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": ffn, "vocab_size": vocabulary,
        "max_position_embeddings": 4096, "tie_word_embeddings": False,
    }  # fmt: skip


MODELS = {
    "small": llama(384, 6, 6, 6, 1024, 8192),  # 17 M parameters
    "middle": llama(896, 10, 14, 2, 2432, 24000),  # 125 M
    "large": llama(1280, 14, 20, 20, 3456, 32000),  # 360 M
    "opt": {
        "model_type": "opt", "hidden_size": 768, "word_embed_proj_dim": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "ffn_dim": 3072, "max_position_embeddings": 2048, "vocab_size": 50272,
    },
}  # fmt: skip
SPREAD = [("small", 16, 1), ("small", 768, 12), ("middle", 256, 2), ("middle", 768, 6), ("large", 16, 1)]
SPREAD += [("large", 384, 3)]
OPT = [("opt", 256, 2), ("opt", 512, 6)]
SLOTS = {"slots": 12, "slot_tokens": 1024}
LENGTHS = {"max_num_seqs": 12, "max_model_len": 1024}
# engine: (cases, deployment's placement and precision, engine options)
PLAN: dict[str, list[tuple[list[tuple[str, int, int]], dict[str, Any], dict[str, Any]]]] = {
    "transformers": [
        (SPREAD + OPT, {}, {}),
        ([("middle", 512, 4)], {"precision": "bfloat16"}, {}),
        ([("middle", 640, 3)], {}, {"attention": "eager"}),
    ],
    "transformers, disk": [([*SPREAD[:1], *SPREAD[2:], OPT[0]], {"placement": "disk"}, {})],
    "deepspeed": [(SPREAD[1:5], {}, {})],
    "llama.cpp": [
        (SPREAD, {}, SLOTS),
        ([("middle", 256, 2)], {}, {"slots": 4, "slot_tokens": 512}),
        ([("middle", 256, 2)], {"precision": "float16"}, SLOTS),
    ],
    "vllm": [(SPREAD + OPT[:1], {}, LENGTHS), ([("middle", 512, 4)], {"precision": "bfloat16"}, LENGTHS)],
}
SETTINGS = RunSettings(policy=Policy(min_repeats=1, max_repeats=1, warmup=0), timeout_s=600)


def cases(plan: str) -> Iterator[Case]:
    for spread, about, options in PLAN[plan]:
        for model, n_in, batch in spread:
            given = {"config": MODELS[model], "threads": 1, **options}
            deployment = Deployment(
                plan.partition(",")[0], model, **{"precision": "float32", **about}, engine_options=given
            )
            yield Case(deployment, Workload(n_in, 8, batch_size=batch))


def held(measurement: Measurement, on_disk: bool) -> int | None:
    peak = measurement.extra.get("peak_private_memory_bytes" if on_disk else "peak_memory_bytes")
    return peak if isinstance(peak, int) else None


def compare(plan: str, python: str | None) -> list[dict[str, Any]]:
    rows = []
    on_disk = plan.endswith("disk")
    for case in cases(plan):
        predicted = needs(case.deployment, case.workload, accelerated=False)
        assert predicted is not None
        total = predicted.total("cpu") - (LIBRARY_BYTES.get(case.deployment.engine, 0) if on_disk else 0)
        settings = replace(SETTINGS, launch=Launch(python=python))
        (measured,) = (r.measurement for r in measure_deployment([case], settings, {}))
        peak = held(measured, on_disk)
        work, about = case.workload, case.deployment
        row = {
            "model": about.model, "precision": about.precision, "placement": about.placement,
            "engine_options": {k: v for k, v in about.to_dict()["engine_options"].items() if k != "config"},
            "input_tokens": work.input_tokens, "output_tokens": work.output_tokens, "batch_size": work.batch_size,
            "status": str(measured.status), "predicted_bytes": total, "measured_bytes": peak,
        }  # fmt: skip
        ok = measured.status is Status.OK and peak
        row["error"] = total / peak - 1 if ok else None
        said = f"{total / MIB:9.0f} {(peak or 0) / MIB:9.0f} {row['error']:+8.1%}" if ok else f"{measured.error}"
        print(f"{plan:19} {about.model:7} {work.input_tokens:5g} {work.batch_size:4d} {said}", flush=True)
        engine = measured.environment.get("engine") or {}
        row["engine_version"] = engine.get("engine_version")
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=list(PLAN), help="by default all that are installed")
    parser.add_argument("--engine-python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pythons = dict(given.split("=", 1) for given in arguments.engine_python)
    print(f"{'engine':19} {'model':7} {'input':>5} {'batch':>4} {'predicted':>9} {'measured':>9} {'error':>8}  (MiB)")
    found: dict[str, Any] = {}
    for plan in arguments.engine or PLAN:
        try:
            found[plan] = compare(plan, pythons.get(plan.partition(",")[0]))
        except FewmarkError as error:
            print(f"{plan:19} not measured: {error}".splitlines()[0])
    summary = {}
    for plan, rows in found.items():
        errors = [row["error"] for row in rows if row["error"] is not None]
        if errors:
            median, worst = statistics.median(map(abs, errors)), max(errors, key=abs)
            summary[plan] = {"n": len(errors), "median_absolute_error": median, "worst_error": worst}
            least = min(errors)
            print(f"{plan:19} {len(errors)} cases: median |error| {median:.1%}, worst {worst:+.1%}, least {least:+.1%}")
    if arguments.json:
        about = {"platform": platform.platform(), "python": platform.python_version()}
        told = {"environment": about, "models": MODELS, "summary": summary, "rows": found}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
