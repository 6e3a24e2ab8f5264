"""`fewmark run` and `fewmark engines` as a person or a script meets them."""

import json
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fewmark.cli import main
from fewmark.core import FrozenMap, InputError, Status
from fewmark.store import open_store
from fewmark.verbs.run import run_settings

DUMMY = """
deployments: [{engine: dummy, model: toy}]
cells: [{grid: {input_tokens: 8, output_tokens: [2, 3], batch_size: [1, 2]}}]
settings: {max_repeats: 5, warmup: 0}
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="suite.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return write


def test_a_suite_is_measured_into_the_store_and_reported_as_json(suite, plugin, capsys):
    assert main(["run", suite(DUMMY), "--store", "s.db", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["n_cases"], report["n_measured"], report["n_left"], report["statuses"]) == (4, 4, 0, {"ok": 4})
    assert report["cost_s"] > 0 and err == ""
    assert main(["run", "suite.yaml", "--store", "s.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_before"] == 4


def test_failed_cases_are_told_and_exit_with_one_until_they_are_mended(suite, plugin, capsys):
    failing = DUMMY.replace("batch_size: [1, 2]", "batch_size: 1, workload.do: [unsupported, nothing]")
    assert main(["run", suite(failing), "--store", "s.db"]) == 1
    said = capsys.readouterr().err
    assert "2 unsupported" in said and "the dummy does not do that" in said
    assert main(["run", "suite.yaml", "--store", "s.db"]) == 1
    assert "--retry failed" in capsys.readouterr().err
    assert main(["run", "suite.yaml", "--store", "s.db", "--retry", "failed"]) == 1
    with open_store("s.db") as store:
        assert store.count(statuses=[Status.UNSUPPORTED]) == 4 and store.count(statuses=[Status.OK]) == 2


def test_replay_runs_a_recorded_table_as_if_it_were_live(suite, tmp_path, capsys):
    (tmp_path / "table.csv").write_text(
        "engine,model,input_tokens,output_tokens,batch_size,e2e_latency_s\nx,toy,8,4,1,100\nx,toy,8,4,2,150\n"
    )
    text = (
        "deployments: [{engine: replay, model: toy, engine_options: {table: table.csv}}]\n"
        "cells: [{grid: {input_tokens: 8, output_tokens: 4, batch_size: [1, 2, 3]}}]\n"
    )
    assert main(["run", suite(text), "--store", "s.db", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["statuses"] == {"ok": 2, "unsupported": 1} and report["cost_s"] == 250
    with open_store("s.db") as store:
        assert {m.provenance for m in store.measurements(statuses=["ok"])} == {"imported"}


@pytest.mark.slow
def test_the_packaged_datasets_can_be_replayed_by_name(suite, capsys):
    text = (
        "deployments: [{engine: replay, model: Qwen/Qwen2-7B, accelerator: Habana Gaudi2, accelerator_count: 1,\n"
        "  engine_options: {table: llm-inference-bench/main.parquet, engine: Deepspeed}}]\n"
        "cells: [{grid: {input_tokens: 128, output_tokens: 128, batch_size: [1, 16]}}]\n"
    )
    assert main(["run", suite(text), "--store", "s.db", "--json"]) == 0, capsys.readouterr().out
    assert json.loads(capsys.readouterr().out)["statuses"] == {"ok": 2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "no suite by that name"),
        (["suite.yaml", "--limit", "0"], "--limit"),
        (["suite.yaml", "--timeout", "-1"], "time limit"),
        (["suite.yaml", "--timeout", "nan"], "time limit"),
        (["suite.yaml", "--repeats-max", "0"], "--repeats-max"),
        (["suite.yaml", "--worker-prefix", "ssh 'open"], "--worker-prefix"),
        (["suite.yaml", "--engine-python", "/no/such/python"], "cannot start a worker"),
        (["unknown.yaml"], "none of the suite's engines"),
        (["missing.yaml"], "pip install nowhere"),
        (["suite.yaml", "--store", "mysql://x/y"], "store"),
    ],
)
def test_a_wrong_request_is_one_clear_error(suite, plugin, capsys, arguments, says):
    suite(DUMMY)
    suite(DUMMY.replace("dummy", "warp"), "unknown.yaml")
    suite(DUMMY.replace("dummy", "missing"), "missing.yaml")
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_a_store_that_cannot_be_written_stops_cleanly(suite, plugin, tmp_path, capsys):
    suite(DUMMY)
    with open_store("s.db"):
        pass
    with sqlite3.connect("s.db") as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON measurements BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    database.close()
    assert main(["run", "suite.yaml", "--store", "s.db"]) == 2
    assert "disk is full" in capsys.readouterr().err


def test_settings_of_the_suite_and_of_the_request():
    settings = run_settings(FrozenMap({"repeats": 4, "timeout_s": 9, "seed": 3, "warmup": 0}))
    assert (settings.policy.min_repeats, settings.policy.max_repeats) == (4, 4)
    assert (settings.policy.warmup, settings.timeout_s, settings.seed) == (0, 9, 3)
    settings = run_settings(FrozenMap({"repeats": 4, "seed": 3}), repeats_max=2, timeout_s=1.5, order_seed=8)
    assert (settings.policy.min_repeats, settings.policy.max_repeats) == (2, 2)
    assert (settings.timeout_s, settings.seed) == (1.5, 8)
    settings = run_settings({"min_repeats": 20, "target_half_width": 0.1})
    assert (settings.policy.min_repeats, settings.policy.max_repeats) == (20, 20)
    assert settings.policy.target_half_width == 0.1
    assert run_settings({}) == run_settings({}, repeats_max=10)
    with pytest.raises(InputError):
        run_settings({}, repeats_max=0)


def test_engines_lists_what_there_is_without_importing_torch(plugin):
    script = "import sys; from fewmark.cli import main; main(['engines', '--json']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = {engine["name"]: engine for engine in json.loads(done.stdout)}
    assert {"transformers", "replay", "dummy", "broken", "missing"} <= set(found)
    assert found["replay"]["available"] and found["missing"]["install"] == "pip install nowhere"


def test_engines_says_how_to_get_what_is_missing_and_writes_the_worker(plugin, tmp_path, capsys):
    assert main(["engines"]) == 0
    assert "pip install nowhere" in capsys.readouterr().out
    assert main(["engines", "--write-worker", str(tmp_path / "worker.zip")]) == 0
    assert (tmp_path / "worker.zip").stat().st_size > 0
    assert main(["engines", "--write-worker", str(tmp_path / "no" / "worker.zip")]) == 2


@pytest.mark.engine
def test_a_real_tiny_llama_end_to_end(suite, capsys):
    text = (
        "deployments: [{engine: transformers, model: llama-tiny, precision: float32, engine_options: {threads: 1}}]\n"
        "cells: [{grid: {input_tokens: [8, 16], output_tokens: [1, 6], batch_size: [1, 3]}},\n"
        "        {cases: [{input_tokens: 4096, output_tokens: 1, batch_size: 1}]}]\n"
    )
    assert main(["run", suite(text), "--store", "s.db", "--repeats-max", "3", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["statuses"] == {"ok": 8, "unsupported": 1}
    with open_store("s.db") as store:
        for m in store.measurements(statuses=["ok"]):
            assert m.n_repeats == 3 and m.cost.wall_s > 0
            assert {len(s.token_times_s) for s in m.samples} == {m.case.workload.output_tokens}
            assert (m.median("tpot_s") is None) == (m.case.workload.output_tokens == 1)
            assert m.environment["engine"]["torch"] and m.environment["engine"]["threads"] == 1


def test_help_says_what_the_command_does():
    from fewmark.cli.run import command

    said = CliRunner().invoke(command, ["--help"]).output
    assert "--retry" in said and "saved as soon as it exists" in said
