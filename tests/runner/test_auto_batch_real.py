"""A batch size left open, on a real engine with a real limit on its memory."""

import json
from dataclasses import replace

import pytest

from fewmark.core import Status
from fewmark.store import open_store
from fewmark.verbs.run import run

pytestmark = pytest.mark.engine
SUITE = """
deployments:
  - engine: transformers
    model: wide
    placement: {placement}
    precision: float32
    engine_options:
      threads: 1
      page_cache: warm
      config: {{model_type: llama, hidden_size: 512, num_hidden_layers: {layers}, num_attention_heads: 8,
        num_key_value_heads: 8, intermediate_size: 1024, vocab_size: 1024, max_position_embeddings: 4096}}
cells:
  - grid: {{input_tokens: {tokens}, output_tokens: 2, batch_size: auto}}
settings: {{min_repeats: 1, max_repeats: 1, warmup: 0, auto_batch: {{rule: {rule}, max_batch: 1024}}}}
"""


def search(folder, limit, **suite):
    (folder / "open.yaml").write_text(SUITE.format(**{"rule": "largest", **suite}))
    report = run(folder / "open.yaml", store=str(folder / "s.db"), memory_limit=limit, quiet=True)
    (found,) = report.auto_batch
    return found, json.loads(json.dumps(found.to_dict()))


@pytest.mark.slow
def test_memory_that_really_runs_out_ends_the_search_and_is_learnt(tmp_path):
    small = {"placement": "cpu", "layers": 1}
    found, told = search(tmp_path, "600MiB", tokens=2048, **small)
    *fitted, last = found.tried
    assert last.status is Status.OUT_OF_MEMORY and last.error, told
    assert fitted and all(m.status is Status.OK for m in fitted)
    assert found.chosen == fitted[-1] and last.case.workload.batch_size == 2 * told["batch_size"]
    with open_store(tmp_path / "s.db") as store:
        assert store.count() == len(found.tried)
        again, _ = search(tmp_path, "600MiB", tokens=2048, **small)
        assert again.chosen == found.chosen and store.count() == len(found.tried)
        # A longer input asks no less: what ran out is not tried again.
        longer, _ = search(tmp_path, "600MiB", tokens=2100, **small)
        asked = [m.case.workload.batch_size for m in store.measurements() if m.case.workload.input_tokens == 2100]
    assert longer.chosen is not None and max(asked) <= told["batch_size"]


@pytest.mark.real_engine
def test_weights_that_memory_does_not_hold_go_to_the_disk_and_the_batch_that_serves_best_is_taken(tmp_path):
    found, told = search(tmp_path, "600MiB", placement="auto", layers=96, tokens=16, rule="throughput")
    tried = {(m.case.deployment.placement, m.case.workload.batch_size): m for m in found.tried}
    assert [tried[tier, 1].status for tier in ("accelerator", "cpu")] == [Status.OUT_OF_MEMORY] * 2, told
    assert told["placement"] == "disk" and found.chosen.status is Status.OK
    good = [m for m in found.tried if m.status is Status.OK]
    assert len(good) >= 3
    assert found.chosen is max(good, key=lambda m: m.median("throughput_tok_s"))
    assert replace(found.asked.workload, batch_size=told["batch_size"]) == found.chosen.case.workload
