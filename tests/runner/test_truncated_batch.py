"""One datum's way where fewmark is not: suite, batch file, worker, result file, import, store, table, prediction."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, FrozenMap, Measurement, Status, Workload
from fewmark.interop import read_table
from fewmark.store import open_store
from fewmark.suites import Suite
from fewmark.verbs.import_files import import_files
from fewmark.verbs.run import run, truncation
from fewmark.verbs.source import read_source

SUITE = """
deployments: [{engine: dummy, model: toy, engine_options: {growth: 0.001}}]
cells: [{grid: {input_tokens: [64, 256, 1024], output_tokens: [16, 512], batch_size: [1, 2, 4]}}]
settings: {min_repeats: 3, max_repeats: 3, warmup: 0, truncate: {output_tokens: 32, validate_cells: 3}}
"""
OPTIONS = ("--max-repeats", "3", "--warmup", "0")


@pytest.fixture
def worker(tmp_path, monkeypatch, plugin):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEWMARK_STORE", raising=False)
    Path("suite.yaml").write_text(SUITE)
    assert main(["engines", "--write-worker", "worker.zip"]) == 0
    assert main(["suites", "suite.yaml", "--write-cases", "cases.jsonl"]) == 0

    def batch(*options, cases="cases.jsonl", out="results.jsonl"):
        # -I -S: nothing but the standard library, the zip and the engine
        command = [sys.executable, "-I", "-S", "worker.zip", "--path", str(plugin), "--cases", cases, "--out", out]
        done = subprocess.run([*command, *OPTIONS, *options], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return batch


def results(path="results.jsonl"):
    return [Measurement.from_dict(json.loads(line)) for line in Path(path).read_text().splitlines()]


def stored(url="s.db"):
    with open_store(url) as store:
        return list(store.measurements())


def whole(measurement):
    """What the dummy takes for the whole generation, seconds."""
    work = measurement.case.workload
    return sum(0.001 * work.load * (1 + 0.001 * (work.input_tokens + i)) for i in range(int(work.output_tokens)))


@pytest.mark.slow
def test_a_generation_cut_short_by_a_worker_alone_arrives_projected_and_teaches_the_predictor(worker):
    worker("--truncate", "32")
    held = results()
    assert [m.projection for m in held] == [None] * len(held)
    assert sum(m.provenance == "projected" for m in held) == 9 and len(held) == 21
    assert main(["import", "results.jsonl", "--store", "s.db"]) == 0
    projected = [m for m in stored() if m.provenance == "projected"]
    assert len(projected) == 9
    for measurement in projected:
        low, high = measurement.interval("e2e_latency_s")
        assert measurement.projection.rule == "growth"
        assert measurement.median("e2e_latency_s") == pytest.approx(whole(measurement), rel=0.03)
        assert low < whole(measurement) < high
    with open_store("s.db") as store:
        table = pd.DataFrame(store.table())
    assert (table["provenance"] == "projected").sum() == 9 and set(table["generated_tokens"].dropna()) == {32.0}
    Path("wanted.csv").write_text("input_tokens,output_tokens,batch_size\n256,512,3\n")
    command = ["predict", "--store", "s.db", "--cases", "wanted.csv", "--target", "e2e_latency_s", "--out", "p.csv"]
    assert main(command) == 0
    answer = pd.read_csv("p.csv")["value"].iloc[0]
    assert answer == pytest.approx(sum(0.003 * (1 + 0.001 * (256 + i)) for i in range(512)), rel=0.1)


@pytest.mark.slow
def test_it_says_what_a_run_here_would_have_said(worker):
    worker("--truncate", "32")
    main(["import", "results.jsonl", "--store", "s.db"])
    run("suite.yaml", store="here.db", drift_check=False, quiet=True)
    there = {m.case.case_id: m for m in stored() if m.provenance == "projected"}
    here = {m.case.case_id: m for m in stored("here.db") if m.provenance == "projected"}
    assert there.keys() == here.keys()
    for key, measurement in there.items():
        assert measurement.median("e2e_latency_s") == pytest.approx(here[key].median("e2e_latency_s"), rel=0.01)
        assert measurement.interval("e2e_latency_s") == pytest.approx(here[key].interval("e2e_latency_s"), rel=0.02)
    assert not run("suite.yaml", store="s.db", quiet=True).measurements  # done for a suite that truncates


@pytest.mark.slow
def test_importing_again_adds_nothing_whatever_was_learned_since(worker):
    worker("--truncate", "32", "--validate-cells", "0")
    worker(out="full.jsonl")
    assert import_files(["results.jsonl"], store="s.db")[0].n_added == 18
    assert import_files(["full.jsonl"], store="s.db")[0].n_added == 18
    assert [file.n_added for file in import_files(["results.jsonl", "full.jsonl"], store="s.db")] == [0, 0]


@pytest.mark.slow
def test_what_the_files_hold_in_full_calibrates(worker):
    worker("--truncate", "32", "--validate-cells", "0")
    worker(out="full.jsonl")
    import_files(["results.jsonl"], store="alone.db")
    import_files(["results.jsonl", "full.jsonl"], store="both.db")
    widths = []
    for url in ("alone.db", "both.db"):
        ends = [m.interval("e2e_latency_s") for m in stored(url) if m.provenance == "projected"]
        widths.append(sum(high / low - 1 for low, high in ends) / len(ends))
    assert widths[1] < 0.8 * widths[0]


@pytest.mark.parametrize("rule", ["mean", "flexllmgen"])
def test_every_rule_can_be_asked_for(worker, rule):
    worker("--truncate", "32")
    assert main(["import", "results.jsonl", "--store", "s.db", "--projection-rule", rule]) == 0
    projected = [m for m in stored() if m.provenance == "projected"]
    assert {m.projection.rule for m in projected} == {rule} and all(m.projection.low_s is None for m in projected)
    assert all(m.median("e2e_latency_s") < whole(m) for m in projected)  # they do not know that a step grows
    assert main(["import", "results.jsonl", "--store", "t.db", "--projection-rule", "linear"]) == 2
    assert not Path("t.db").exists()


def test_a_table_read_from_the_file_itself_is_projected_too(worker):
    worker("--truncate", "32")
    bare, told = read_table("results.jsonl"), read_source("results.jsonl")
    cut = bare["provenance"] == "projected"
    assert bare.loc[cut, "e2e_latency_s"].isna().all()  # the clock's own number is of another length
    assert told["e2e_latency_s_low"].notna().sum() == 6 and told["e2e_latency_s"].notna().all()


def test_what_cannot_be_projected_is_invalid_and_costs_nothing_else(worker):
    worker("--truncate", "32")
    lines = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    blind = next(line for line in lines if line.get("provenance") == "projected")
    for sample in blind["samples"]:
        del sample["ttft_s"], sample["token_times_s"]
    Path("results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["import", "results.jsonl", "--store", "s.db"]) == 0
    found = {m.case.case_id: m for m in stored() if m.provenance == "projected"}
    assert [m.status for m in found.values()].count(Status.INVALID) == 1
    assert "cannot be projected" in next(m.error for m in found.values() if m.status is Status.INVALID)


@pytest.mark.slow
def test_a_batch_goes_on_where_it_was_and_measures_in_full_what_was_only_cut(worker):
    worker("--truncate", "32")
    whole_file = Path("results.jsonl").read_bytes()
    lines = whole_file.splitlines(keepends=True)
    Path("results.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:40])
    worker("--truncate", "32")
    assert [(m.case, m.provenance) for m in results()] == [
        (m.case, m.provenance) for m in (Measurement.from_dict(json.loads(line)) for line in lines)
    ]
    worker()
    added = results()[len(lines) :]
    assert len(added) == 6 and {m.provenance for m in added} == {"measured"}
    worker("--truncate", "32")
    worker()
    assert len(results()) == len(lines) + 6


def test_cases_are_written_of_one_suite(worker, capsys):
    assert main(["suites", "--write-cases", "x.jsonl"]) == 2
    assert main(["suites", "suite.yaml", "--write-cases", "no/such/x.jsonl"]) == 2
    assert "the file cannot be written" in capsys.readouterr().err


def test_a_suite_that_says_nothing_of_truncation_is_truncated_as_asked():
    case = Case(Deployment("dummy", "toy"), Workload(8, 64, batch_size=1))
    suite = Suite("mine", "One cell", "", (case,), FrozenMap({}))
    assert truncation(suite, "16").output_tokens == 16
    assert truncation(suite, "auto").output_tokens is None
    assert truncation(suite) is None
