"""Replay answers as recorded, and says what it would have cost."""

import csv
import json

import pandas as pd
import pytest

from fewmark.core import Deployment, Status, Workload
from fewmark.engines import CaseFailure
from fewmark.engines.measuring.policy import Policy, measure
from fewmark.engines.replay import ReplayEngine

ROWS = [
    {"engine": "vLLM", "model": "m7b", "accelerator": "A", "input_tokens": 128, "output_tokens": 64, "batch_size": 1,
     "e2e_latency_s": 2.0, "ttft_s": 0.1, "option.kv": "fp8"},
    {"engine": "vLLM", "model": "m7b", "accelerator": "A", "input_tokens": 128, "output_tokens": 64, "batch_size": 1,
     "e2e_latency_s": 4.0, "ttft_s": 0.2, "option.kv": "fp8"},
    {"engine": "vLLM", "model": "m7b", "accelerator": "A", "input_tokens": 128, "output_tokens": 64, "batch_size": 16,
     "throughput_tok_s": 512.0, "option.kv": "fp8"},
    {"engine": "vLLM", "model": "m7b", "accelerator": "A", "input_tokens": 128, "output_tokens": 64, "batch_size": 64,
     "status": "out_of_memory", "option.kv": "fp8"},
    {"engine": "vLLM", "model": "m7b", "accelerator": "A", "input_tokens": 112.3, "output_tokens": 19.8,
     "concurrency": 8, "e2e_latency_s": 0.5, "option.kv": "fp8"},
    {"engine": "TRT", "model": "m7b", "accelerator": "A", "accelerator_count": 2, "input_tokens": 128,
     "output_tokens": 64, "batch_size": 1, "e2e_latency_s": 1.0},
]  # fmt: skip


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def table(request, tmp_path):
    path = tmp_path / f"table.{request.param}"
    if request.param == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, sorted({name for row in ROWS for name in row}))
            writer.writeheader()
            writer.writerows(ROWS)
    elif request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        pd.DataFrame(ROWS).to_parquet(path)
    return str(path)


def loaded(table, **options):
    engine = ReplayEngine()
    engine.load(Deployment("replay", "m7b", accelerator="A", engine_options={"table": table, **options}))
    return engine


def test_recorded_repeats_come_back_unchanged_and_cost_what_they_took(table):
    outcome = measure(loaded(table, engine="vLLM"), Workload(128, 64, batch_size=1), Policy(), seed=1)
    assert outcome.status is Status.OK and outcome.provenance == "imported" and "replayed" in outcome.flags
    assert [(s.e2e_latency_s, s.ttft_s, s.tpot_s) for s in outcome.samples] == [(2.0, 0.1, None), (4.0, 0.2, None)]
    assert outcome.wall_s == 6.0


def test_the_cost_follows_from_the_recorded_throughput(table):
    outcome = measure(loaded(table, engine="vLLM", kv="fp8"), Workload(128, 64, batch_size=16), Policy(), seed=1)
    assert outcome.wall_s == pytest.approx(16 * 64 / 512.0)
    assert outcome.samples[0].e2e_latency_s is None  # what was not recorded is not made up


def test_online_cells_with_fractional_tokens_are_found(table):
    outcome = measure(loaded(table, engine="vLLM"), Workload(112.3, 19.8, concurrency=8), Policy(), seed=1)
    assert outcome.samples[0].e2e_latency_s == 0.5


def test_a_recorded_failure_is_answered_and_a_missing_cell_is_unsupported(table):
    engine = loaded(table, engine="vLLM")
    assert measure(engine, Workload(128, 64, batch_size=64), Policy(), seed=1).status is Status.OUT_OF_MEMORY
    missing = measure(engine, Workload(128, 64, batch_size=2), Policy(), seed=1)
    assert missing.status is Status.UNSUPPORTED and "does not hold this cell" in missing.error


def test_several_matching_deployments_ask_for_what_tells_them_apart(table):
    with pytest.raises(CaseFailure, match=r"accelerator_count, engine, option\.kv"):
        loaded(table)


@pytest.mark.parametrize("options", [{"engine": "SGLang"}, {"engine": "vLLM", "kv": "fp16"}])
def test_a_deployment_that_is_not_in_the_table_is_unsupported(table, options):
    with pytest.raises(CaseFailure, match="no row of this deployment"):
        loaded(table, **options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.csv", None),
        ("table.txt", b"a,b\n1,2\n"),
        ("broken.jsonl", b'{"engine": \n'),
        ("list.jsonl", b"[1, 2]\n"),
        ("broken.parquet", b"PAR1 not really"),
        ("words.csv", b"engine,model,batch_size\nx,y,many\n"),
        ("bytes.csv", b"engine,model\n\xff\xfe,\xff\n"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_reason_not_a_traceback(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CaseFailure) as failure:
        loaded(str(tmp_path / name))
    assert failure.value.status is Status.UNSUPPORTED and name in failure.value.reason
