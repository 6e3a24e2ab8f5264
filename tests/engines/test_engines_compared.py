"""One suite on every engine: alike conditions, one store, one report. For `make test-engines`."""

import json
from collections import defaultdict

import pytest

from fewmark.cli import main
from fewmark.core import Status
from fewmark.engines import BUILT_IN
from fewmark.engines.environments.folders import recipe_of
from fewmark.engines.environments.install import install_engine
from fewmark.store import open_store
from fewmark.suites import load_suite
from fewmark.verbs.run import run

pytestmark = [pytest.mark.real_engine, pytest.mark.timeout(3600)]
MORE = """
include: [engines-tiny]
deployments:
  - {engine: vllm, model: llama-tiny, precision: float32, engine_options: {threads: 1, max_model_len: 512}}
  - {engine: llama.cpp, model: llama-tiny, precision: float32, engine_options: {threads: 1, slot_tokens: 512}}
  - {engine: transformers, model: llama-tiny, precision: float32, engine_options: {threads: 1}}
  - {engine: deepspeed, model: llama-tiny, precision: float32, engine_options: {threads: 1}}
  - {engine: openvino, model: llama-tiny, precision: float32, engine_options: {threads: 1, max_model_len: 512}}
  - {engine: onnxruntime, model: llama-tiny, precision: float32, engine_options: {threads: 1, max_model_len: 512}}
cells:
  - grid: {input_tokens: 1000, output_tokens: 16, batch_size: 1}
settings: {min_repeats: 2, max_repeats: 2}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The store's URL, and the measurements by engine."""
    for name in BUILT_IN:
        if recipe_of(name) is not None:
            install_engine(name)
    folder = tmp_path_factory.mktemp("compared")
    (folder / "suite.yaml").write_text(MORE)
    url = f"sqlite:///{folder / 'compared.db'}"
    run(folder / "suite.yaml", store=url, drift_check=False, quiet=True)
    found = defaultdict(dict)
    with open_store(url) as store:
        for measurement in store.measurements():
            work = measurement.case.workload
            cell = (work.input_tokens, work.output_tokens, work.batch_size)
            found[measurement.case.deployment.engine][cell] = measurement
    return url, dict(found)


def test_every_engine_is_asked_the_same_cells(compared):
    _, found = compared
    assert set(found) == {case.deployment.engine for case in load_suite("engines-tiny").cases}
    cells = {frozenset(measured) for measured in found.values()}
    assert len(cells) == 1 and len(next(iter(cells))) == 5


def test_each_cell_is_measured_or_refused_with_a_reason(compared):
    _, found = compared
    for engine, measured in found.items():
        for (n_in, _, _), measurement in measured.items():
            beyond = n_in == 1000 and engine not in ("transformers", "deepspeed")  # others are started for 512 tokens
            assert measurement.status is (Status.UNSUPPORTED if beyond else Status.OK), (engine, measurement.error)
            assert not beyond or "512" in measurement.error


def test_conditions_are_alike(compared):
    _, found = compared
    for engine, measured in found.items():
        for measurement in measured.values():
            facts = measurement.environment["engine"]
            assert facts["weights"] == "random" and facts["dtype"] in ("float32", "fp32"), engine
            assert measurement.case.deployment.engine_options["threads"] == 1
            assert facts.get("parameters", 4_999_424) == 4_999_424
            assert (
                measurement.environment["host"]["host"] == found["transformers"][32, 16, 1].environment["host"]["host"]
            )


def test_every_token_is_counted_and_its_time_agrees_with_the_whole(compared):
    _, found = compared
    for engine, measured in found.items():
        for (_, n_out, batch), measurement in measured.items():
            if measurement.status is not Status.OK:
                continue
            assert len(measurement.samples) == 2
            for sample in measurement.samples:
                assert sample.output_tokens == n_out == 16, engine
                times = sample.token_times_s
                assert sample.ttft_s == times[0] and list(times) == sorted(times)
                assert times[-1] <= sample.e2e_latency_s
            told = [measurement.values(name) for name in ("e2e_latency_s", "ttft_s", "tpot_s", "throughput_tok_s")]
            for e2e, ttft, tpot, throughput in zip(*told, strict=True):  # repeat by repeat: a first one may be slow
                assert throughput == pytest.approx(batch * n_out / e2e)
                assert ttft + tpot * (n_out - 1) == pytest.approx(e2e)
            assert measurement.extra["peak_memory_bytes"] > 0 and measurement.cost.startup_s > 0


def test_the_report_and_the_table_show_the_engines_side_by_side(compared, tmp_path, capsys):
    url, found = compared
    assert main(["report", str(tmp_path / "out.json"), "--store", url, "--model", "loglog"]) == 0
    cards = {card["kind"]: card for card in json.loads((tmp_path / "out.json").read_text())["cards"]}
    labels = [row[0] for row in cards["summary"]["tables"][0]["rows"]]
    assert len(labels) == len(found) and all(any(engine in label for label in labels) for engine in found)
    assert main(["export", str(tmp_path / "out.csv"), "--store", url]) == 0
    table = (tmp_path / "out.csv").read_text()
    assert all(table.count(f",{engine},") == len(cells) for engine, cells in found.items())
    capsys.readouterr()
