"""A new version of an engine: a few cells measured again tell whether it changed, and which old results expire."""

import json
import math
from pathlib import Path

import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Workload
from fewmark.screening import apply, screen
from fewmark.store import open_store
from fewmark.verbs.sentinels import check_sentinels, noise_of
from fewmark.verbs.source import read_source

SUITE = """
deployments: [{engine: dummy, model: toy}]
cells:
  - grid: {input_tokens: [8, 32, 128], output_tokens: [8, 32], batch_size: [1, 2, 4, 8, 16, 32], workload.noise: 0.01}
settings: {max_repeats: 3, warmup: 0, rounds: 2}
"""
N_CELLS = 36


@pytest.fixture
def measured(tmp_path, monkeypatch, plugin):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert main(["run", "suite.yaml", "--store", "s.db", "--no-drift-check", "--quiet"]) == 0
    return "suite.yaml"


def check(capsys, n=6):
    assert main(["run", "suite.yaml", "--store", "s.db", "--sentinels", str(n), "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    (checked,) = json.loads(out)
    return checked, err


def test_single_runs_are_noisier_than_medians_of_repeats():
    def measurement(*latencies):
        case = Case(Deployment("dummy", "toy"), Workload(8, 8, batch_size=1))
        return Measurement(case, samples=[Sample(e2e_latency_s=s) for s in latencies])

    repeated = measurement(1.0, 1.1, 1.21)
    step = math.log(1.1)
    assert noise_of([repeated, repeated]) == pytest.approx(step / math.sqrt(3))
    assert noise_of([repeated, measurement(1.0), measurement(2.0)]) == pytest.approx(step * math.sqrt(7 / 9))
    assert noise_of([measurement(1.0), measurement(2.0)]) == 0.01  # one run each tells nothing of noise


@pytest.mark.slow
def test_where_nothing_changed_everything_still_holds(measured, capsys):
    checked, err = check(capsys)
    assert (checked["changed"], checked["expired"], checked["n_sentinels"]) == (False, [], 6)
    assert "still holds" in err
    with open_store("s.db") as store:
        assert store.count() == N_CELLS + 6 and not store.expired()


@pytest.mark.slow
def test_a_slower_version_expires_what_it_changed_and_the_next_run_measures_that_again(measured, capsys, monkeypatch):
    with open_store("s.db") as store:
        load = {m.case.case_id: m.case.workload.load for m in store.measurements()}
    monkeypatch.setenv("DUMMY_VERSION", "2.0 1.4 8")
    checked, err = check(capsys)
    assert checked["changed"] and "1.0 → 2.0" in err
    gone = {load[key] for key in checked["expired"]}
    assert {8, 16, 32} <= gone and 1 not in gone  # between 1 and 8 the few cells cannot tell
    # what expired is neither learned from nor counted as measured, and is exported as what it is
    table = read_source(store="s.db", screened=False)
    left = apply(table, screen(table))
    assert (table["flag"] == "expired").sum() == len(checked["expired"]) == len(table) - len(left)
    assert main(["export", "out.csv", "--store", "s.db"]) == 0
    exported = read_source("out.csv", screened=False)
    assert (exported["flag"] == "expired").sum() == len(checked["expired"])
    new = set(left["case_id"][left["case_id"].isin(checked["expired"])])  # the sentinels among them
    assert new and (left["e2e_latency_s"][left["case_id"].isin(new)] > 0).all()
    capsys.readouterr()
    assert main(["run", "suite.yaml", "--store", "s.db", "--no-drift-check", "--quiet", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["n_measured"] == len(set(checked["expired"]) - new)
    assert check(capsys)[0]["changed"] is False
    assert main(["screen", "--store", "s.db"]) == 0
    with open_store("s.db") as store:
        assert len(store.expired()) == len(checked["expired"])


@pytest.mark.slow
def test_a_run_that_goes_on_with_another_version_says_so(measured, capsys, monkeypatch):
    monkeypatch.setenv("DUMMY_VERSION", "2.0 1 1")
    wider = SUITE.replace("[8, 32, 128]", "[8, 32, 128, 256]")
    for said in (True, False):
        Path("wider.yaml").write_text(wider)
        assert main(["run", "wider.yaml", "--store", "s.db", "--quiet", "--json"]) == 0
        codes = [advice["code"] for advice in json.loads(capsys.readouterr().out)["advice"]]
        assert ("engine-version" in codes) is said


def test_what_cannot_be_checked_is_said(tmp_path, monkeypatch, plugin, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert main(["run", "suite.yaml", "--store", "s.db", "--sentinels", "4"]) == 2
    open_store("s.db").close()
    assert main(["run", "suite.yaml", "--store", "s.db", "--sentinels", "4"]) == 2
    assert "fewmark run first" in capsys.readouterr().err
    assert main(["run", "suite.yaml", "--store", "s.db", "--sentinels", "4", "--budget", "1m"]) == 2
    with pytest.raises(InputError, match="at least 2"):
        check_sentinels("suite.yaml", 1, store="s.db")
