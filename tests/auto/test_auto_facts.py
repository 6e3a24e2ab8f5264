"""Facts by name: variants of a name, estimates for unknown ones, users' files, files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewmark.core.errors import FormatError
from fewmark.models.facts import Facts, load_facts, weight_bytes


@pytest.mark.parametrize("name", ["meta-llama/Meta-Llama-3-8B", "llama3-8b", "Llama 3 8B Instruct", "LLAMA_3_8B"])
def test_spellings_of_one_model_agree(name: str) -> None:
    facts = load_facts().model(name)
    assert (facts.layers, facts.kv_heads, facts.vocab, facts.known) == (32, 8, 128256, True)


def test_generations_and_sizes_are_told_apart() -> None:
    facts = load_facts()
    assert facts.model("Qwen/Qwen1.5-7B").kv_heads == 32
    assert facts.model("Qwen/Qwen2-7B").kv_heads == 4
    assert facts.model("mixtral-8x7b").active_parameters < 0.3 * facts.model("mixtral-8x7b").parameters
    assert facts.accelerator("Nvidia A100 GPU").memory_bytes == 40e9
    assert facts.accelerator("A100-80GB").bandwidth > facts.accelerator("a100").bandwidth
    assert facts.accelerator("L40S").flops["fp16"] > facts.accelerator("L40").flops["fp16"]
    assert facts.accelerator("L4").memory_bytes == 24e9
    assert facts.accelerator("NVIDIA A100-SXM4-80GB") == facts.accelerator("A100-80G") == facts.accelerator("a100 80gb")
    assert facts.accelerator("A10G").memory_bytes == 24e9
    assert facts.accelerator("MI300A").memory_bytes < facts.accelerator("AMD Instinct MI300X").memory_bytes


def test_unknown_names_get_estimates_that_say_so() -> None:
    facts = load_facts()
    model = facts.model("nobody/Marvel-33B-chat")
    assert not model.known and model.parameters == 33e9
    assert 40 <= model.layers <= 70 and 12 * model.layers * model.hidden**2 == pytest.approx(33e9, rel=0.01)
    assert facts.model(None).parameters == 7e9
    device = facts.accelerator("Wonder X1 48GB")
    assert not device.known and device.memory_bytes == 48e9
    assert facts.model("half-350m").parameters == pytest.approx(350e6)


def test_precision_sets_bytes_and_peak() -> None:
    assert [weight_bytes(p) for p in ("fp16", "bf16", None, "fp8", "fp32", "awq-int4")] == [2, 2, 2, 1, 4, 0.56]
    h100 = load_facts().accelerator("H100")
    assert h100.flops_at("fp8") == 2 * h100.flops_at("bf16") + 1e12


def test_a_users_file_adds_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\n"
        "models: [{names: [marvel 33b], parameters_b: 33, layers: 60, hidden: 6656, heads: 52}]\n"
        "accelerators: [{names: [h 100], memory_gb: 64, bandwidth_gb_s: 1000, tflops: {fp16: 500}}]\n"
    )
    facts = Facts([path])
    assert facts.model("Marvel-33B").known
    assert facts.accelerator("H100").memory_bytes == 64e9


@pytest.mark.parametrize(
    "text",
    ["- 1", "version: 2", "version: 1\nmodels: [{names: [a]}]", "version: 1\nmodels: 7", "version: [1",
     "version: 1\naccelerators: [{names: [a], memory_gb: -1, bandwidth_gb_s: 1, tflops: {fp16: 1}}]"],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"wrong\.yaml"):
        Facts([path])
