"""Facts by name: variants of a name, estimates for unknown ones, users' files, files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core.errors import FormatError
from fewmark.facts.facts import Facts, load_facts, weight_bytes
from fewmark.models.registry import make_model


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


@pytest.mark.parametrize(
    ("name", "billions", "layers"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62, 28),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 70.6, 80),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8.2, 36),
        ("deepseek-ai/DeepSeek-R1", 671, 61),
        ("DeepSeek-V2-Lite-Chat", 15.7, 27),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", 7.62, 28),
        ("Qwen/Qwen2-57B-A14B", 57.4, 28),
        ("nvidia/Llama-3.1-Nemotron-70B-Instruct", 70.6, 80),
        ("bigscience/bloom-560m", 0.56, 24),
        ("microsoft/Phi-3-small-8k-instruct", 7.39, 32),
        ("meta-llama/Llama-4-Scout-17B-16E", 109, 48),
        ("Nous-Hermes-2-Mixtral-8x7B", 46.7, 32),
    ],
)
def test_a_model_is_not_taken_for_one_whose_name_it_bears(name: str, billions: float, layers: int) -> None:
    found = load_facts().model(name)
    assert found.known and found.parameters == pytest.approx(billions * 1e9) and found.layers == layers


def test_an_entry_of_another_size_than_the_name_states_does_not_apply_unless_the_user_says_so(tmp_path: Path) -> None:
    guess = load_facts().model("deepseek-r1-tuned-3b")
    assert not guess.known and guess.parameters == 3e9
    mixture = load_facts().model("nobody/Marvel-80B-A4B")
    assert not mixture.known and (mixture.parameters, mixture.active_parameters) == (80e9, 4e9) and mixture.experts > 1
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\nmodels: [{names: [deepseek r1 tuned], parameters_b: 9, layers: 9, hidden: 9, heads: 9}]"
    )
    assert Facts([path]).model("deepseek-r1-tuned-3b").layers == 9


@pytest.mark.parametrize(
    ("name", "gigabytes", "bandwidth"),
    [
        ("NVIDIA GH200 480GB", 96, 4000),  # the board's host memory
        ("GH200 144GB HBM3e", 144, 4900),
        ("NVIDIA A10G", 24, 600),
        ("8xH100 640GB", 80, 3350),
        ("A100-80G", 80, 2039),
        ("NVIDIA RTX A5000", 24, 768),
    ],
)
def test_memory_is_that_of_one_device(name: str, gigabytes: float, bandwidth: float) -> None:
    device = load_facts().accelerator(name)
    assert device.known and (device.memory_bytes, device.bandwidth) == (gigabytes * 1e9, bandwidth * 1e9)


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
    assert [weight_bytes(p) for p in ("4-bit", "Q4_K_M", "8 bit", "w4a16", "mxfp4", "q6_k")] == [
        0.56, 0.56, 1, 0.56, 0.53, 0.82,
    ]  # fmt: skip
    assert weight_bytes("fp16", "Qwen/Qwen2.5-7B-Instruct-AWQ") == 0.56 == weight_bytes(None, "m-7b-GPTQ-Int4")
    assert weight_bytes(None, "google/gemma-3-4b-it") == 2 == weight_bytes("bf16", "Llama-3.1-8B-Instruct")
    h100 = load_facts().accelerator("H100")
    assert h100.flops_at(None, "neuralmagic/Meta-Llama-3-8B-Instruct-FP8") == h100.flops_at("fp8") == 1979e12
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


ENTRY = "version: 1\nmodels: [{names: [marvel], parameters_b: %s, layers: 60, hidden: 6656, heads: 52}]\n"


@pytest.mark.slow
def test_a_users_facts_count_wherever_the_variable_names_them_and_a_model_fitted_on_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = "Marvel,H100,128,128,{},{}\n"
    header = "model,accelerator,input_tokens,output_tokens,batch_size,throughput_tok_s\n"
    Path("data.csv").write_text(header + "".join(cell.format(2**k, 90 * 2**k) for k in range(4)))
    Path("cases.csv").write_text(header + cell.format(64, ""))
    fit = ["fit", "--data", "data.csv", "--no-prior", "--out", "m.fewmark"]
    predict = ["predict", "--model-file", "m.fewmark", "--cases", "cases.csv", "--out", "out.csv"]
    told = {}
    for name, size in (("small.yaml", 1), ("large.yaml", 300)):
        Path(name).write_text(ENTRY % size)
        monkeypatch.setenv("FEWMARK_FACTS", name)
        assert main(fit) == 0 and main(predict) == 0
        told[name] = float(pd.read_csv("out.csv")["value"].iloc[0])
    measured, case = pd.read_csv("data.csv"), pd.read_csv("cases.csv")
    again = make_model("auto", facts=["small.yaml"]).fit(measured, measured["throughput_tok_s"].to_numpy())
    assert again.predict(case)[0] == pytest.approx(told["small.yaml"], rel=1e-6)
    assert told["small.yaml"] > 1.2 * told["large.yaml"]  # more to compute leaves less room at larger batches
    capsys.readouterr()
    Path("large.yaml").write_text(ENTRY % 3)
    load_facts.cache_clear()
    assert main(predict) == 2 and "others than when it was fitted" in capsys.readouterr().err
    Path("large.yaml").unlink()
    load_facts.cache_clear()
    assert main(predict) == 2 and "large.yaml" in capsys.readouterr().err
    assert main(fit) == 2 and "large.yaml" in capsys.readouterr().err
