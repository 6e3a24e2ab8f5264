"""Names that mean the same are one; sizes, memory variants, quantisations and fine-tunes stay apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fewmark.facts.facts import Facts
from fewmark.facts.identity import near_names, same_names
from fewmark.tables.spellings import one_spelling

FACTS = Facts()


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("model", ["meta-llama/Meta-Llama-3-8B", "LLaMA-3-8B", "llama 3 8b", "Llama-3-8b-hf", "meta-llama/Llama-3-8B"]),
        ("model", ["meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct"]),
        ("model", ["Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct", "Qwen 2.5 7B Instruct"]),
        ("model", ["mine/x", "x"]),
        ("accelerator", ["H100", "NVIDIA H100", "Nvidia H100 GPU", "NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"]),
        ("accelerator", ["A100 80GB", "NVIDIA A100-SXM4-80GB", "a100-80gb"]),
        ("accelerator", ["MI300X", "AMD Instinct MI300X", "AMD MI300X 192GB OAM"]),
        ("accelerator", ["H200", "NVIDIA H200 141GB HBM3e"]),
        ("accelerator", ["RTX 4090", "NVIDIA GeForce RTX 4090", "rtx4090"]),
        ("engine", ["vllm", "vLLM", "VLLM"]),
        ("engine", ["TensorRT-LLM", "tensorrt_llm", "trt-llm", "TRTLLM"]),
        ("engine", ["llama.cpp", "llamacpp", "llama_cpp"]),
        ("precision", ["bf16", "bfloat16", "BF16"]),
        ("precision", ["fp16", "float16", "half", "FP16"]),
    ],
)  # fmt: skip
def test_spellings_of_one_thing(column: str, names: list[str]) -> None:
    assert set(same_names(column, names, FACTS).values()) == {names[0]}


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("model", ["Llama-3-8B", "Llama-3-70B", "Llama-3.1-8B", "Llama-3.2-1B", "Llama-2-7b", "Llama-3-8B-Instruct"]),
        ("model", ["Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct-FP8", "Llama-3.1-8B-Instruct-4bit"]),
        ("model", ["Qwen2.5-7B", "Qwen2.5-Coder-7B", "DeepSeek-R1-Distill-Qwen-7B", "Qwen3-8B", "Qwen2.5-Math-7B"]),
        ("model", ["llama3:8b", "llama-3-8b"]),
        ("model", ["alice/finetune", "bob/finetune"]),
        ("model", ["Mixtral-8x7B", "Mixtral-8x22B", "Mistral-7B"]),
        ("accelerator", ["A100", "A100 40GB", "A100 80GB"]),
        ("accelerator", ["V100-16GB", "V100-32GB", "V100"]),
        ("accelerator", ["H100", "H100 PCIe", "H100 NVL", "H200", "GH200", "H20", "H800", "H100 94GB"]),
        ("accelerator", ["A10", "A10G", "A100", "A30", "L4", "L40", "L40S"]),
        ("accelerator", ["RTX 4090", "RTX 4080", "RTX 4090 Laptop", "RTX 4070 Ti", "RTX 4070"]),
        ("accelerator", ["MI300X", "MI300A", "MI325X", "MI250X", "MI250"]),
        ("accelerator", ["8xH100", "H100"]),
        ("accelerator", ["Gaudi2", "Gaudi3", "Gaudi"]),
        ("precision", ["fp16", "bf16", "fp8", "int8", "int4", "fp4", "q4_0", "q4_k_m", "awq", "w4a16", "w8a8"]),
        ("engine", ["vllm", "sglang", "TGI", "transformers", "llama.cpp"]),
    ],
)  # fmt: skip
def test_different_things_stay_apart(column: str, names: list[str]) -> None:
    assert same_names(column, names, FACTS) == {name: name for name in names}


def test_users_say_what_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\naliases:\n  - {column: model, names: [meta-llama/Meta-Llama-3-8B, prod-chat]}\n")
    names = ["meta-llama/Meta-Llama-3-8B", "Prod_Chat"]
    assert set(same_names("model", names, Facts([path])).values()) == {names[0]}
    assert len(set(same_names("model", names, FACTS).values())) == 2


def test_a_table_keeps_the_most_common_spelling_and_says_so() -> None:
    table = pd.DataFrame({"engine": ["vllm", "vLLM", "vLLM"], "model": ["a/m-8b", None, "m-8b"], "x": [1, 2, 3]})
    out = one_spelling(table)
    assert out["engine"].tolist() == ["vLLM"] * 3
    assert out["model"].isna().tolist() == [False, True, False]
    assert out["model"].nunique() == 1
    assert "engine 'vllm' is taken for 'vLLM'" in out.attrs["names"]


def test_near_names() -> None:
    assert near_names("Lama-3-8B", ["meta-llama/Meta-Llama-3-8B", "Qwen2-7B", "Llama-3-8B"])[0] == "Llama-3-8B"
