"""How a deployment is laid out, and its cache, reach the model: TP4 x DP2 is not TP8."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fewmark.facts.facts import load_facts
from fewmark.models.analytic.closed_loop import Saturation
from fewmark.models.analytic.layout import Layout
from fewmark.models.auto.features import Encoder, Features, featurise


@pytest.mark.parametrize(
    ("row", "devices", "replicas"),
    [
        ({"accelerator_count": "8", "tensor_parallel_size": "8"}, 8, 1),
        ({"accelerator_count": "8", "tensor_parallel_size": "4"}, 8, 2),
        ({"accelerator_count": "8", "tensor_parallel_size": "4", "option.pipeline_parallel_size": "2"}, 8, 1),
        ({"accelerator_count": "8", "option.data_parallel_size": "2"}, 8, 2),
        ({"tensor_parallel_size": "4", "option.data_parallel_size": "2"}, 8, 2),
        ({"accelerator_count": "8", "option.data_parallel_size": "8", "option.expert_parallel_size": "8"}, 8, 1),
        ({"accelerator_count": "8"}, 8, 1),
        ({"tensor_parallel_size": "2"}, 2, 1),
        ({}, 1, 1),
    ],
)
def test_replicas(row: dict[str, str], devices: float, replicas: float) -> None:
    layout = Layout.of(row)
    assert (layout.devices, layout.replicas) == (devices, replicas)


def test_limits_and_caches() -> None:
    told = {"accelerator_count": "4", "tensor_parallel_size": "2", "option.max_num_seqs": "64"}
    assert Layout.of(told).sequences == 128
    assert Layout.of({"option.kv_cache_dtype": "fp8_e4m3"}).cache_bytes == 1
    assert Layout.of({"option.kv_cache_dtype": "auto"}).cache_bytes == 2


def features(target: str, **columns: object) -> Features:
    cell = {"engine": "vllm", "model": "meta-llama/Llama-3.1-8B", "accelerator": "H100", "precision": "bf16"}
    cell |= {"input_tokens": 2048, "output_tokens": 512, **columns}
    return featurise(pd.DataFrame([cell]), target, load_facts(()), Encoder())


def test_replicas_share_the_users() -> None:
    both = features("tpot_s", accelerator_count=8, tensor_parallel_size=4, concurrency=64)
    half = features("tpot_s", accelerator_count=4, tensor_parallel_size=4, concurrency=32)
    one = features("tpot_s", accelerator_count=8, tensor_parallel_size=8, concurrency=64)
    assert both.log_roofline == pytest.approx(half.log_roofline)
    assert both.log_roofline[0] > one.log_roofline[0] + 0.1


def test_cache_and_windows() -> None:
    long = {"accelerator_count": 1, "input_tokens": 32768, "concurrency": 16}
    whole = features("tpot_s", **long).log_roofline[0]
    assert features("tpot_s", **long, **{"option.kv_cache_dtype": "fp8"}).log_roofline[0] < whole - 0.1
    facts = load_facts(()).model("google/gemma-3-27b-it")
    assert facts.context(32768) < 0.2 * 32768
    assert facts.context(512) == pytest.approx(512)


def test_stated_limit_of_sequences_is_believed() -> None:
    rows = []
    for users in (1, 2, 4, 8, 16, 32, 64):
        waits = max(0.0, users / 16 - 1)
        rows.append({
            "engine": "vllm", "model": "meta-llama/Llama-3.1-8B", "accelerator": "H100", "accelerator_count": 1,
            "option.max_num_seqs": 16, "input_tokens": 512, "output_tokens": 128, "concurrency": users,
            "ttft_s": 0.05 + 1.3 * waits, "tpot_s": 0.01,
        })  # fmt: skip
    known = pd.DataFrame(rows)
    learned = Saturation.learn(known, load_facts(()))
    assert learned is not None
    asked = known.tail(1).assign(**{"option.max_num_seqs": 128})
    most = [float(np.sum(0.25 * learned.reach_at(cell, load_facts(()))[:, 1:])) for cell in (known.tail(1), asked)]
    assert most[0] == pytest.approx(4.0, abs=0.4)
    assert most[1] == pytest.approx(7.0, abs=0.6)
