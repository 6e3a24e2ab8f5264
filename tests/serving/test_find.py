"""The largest load that meets objectives, found on a server whose limit is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from fewmark.cli import main
from fewmark.cli.find import show_found
from fewmark.core import Case, Cost, Deployment, FrozenMap, InputError, Measurement, Sample, Status, Workload
from fewmark.planning.frontier import FrontierTier, TierLimit
from fewmark.runner import Runner, RunReport
from fewmark.store import open_store
from fewmark.suites import Suite
from fewmark.verbs.find import Found, find
from fewmark.verbs.find_prior import predicted_curves, probe_seconds

DEPLOYMENT = Deployment("openai", "toy", engine_options=FrozenMap({"url": "http://127.0.0.1:9"}))
SUITE = Suite("s", "", "", (Case(DEPLOYMENT, Workload(16, 6, concurrency=1)),), FrozenMap({}))
PLACES = 40


def measured(case: Case) -> Measurement:
    """Answers of a server with so many places: beyond them first tokens wait."""
    load = case.workload.concurrency or case.workload.request_rate or case.workload.batch_size
    ttft = 0.1 + 0.02 * max(0.0, load - PLACES)
    told = {
        name: {"value": v, "low": v * 0.97, "high": v * 1.03} for name, v in (("ttft_p99_s", ttft), ("tpot_s", 0.01))
    }
    extra = {"windows": [{"estimates": told, "confidence_level": 0.9, "valid": True}]}
    sample = Sample(e2e_latency_s=ttft + 0.05, ttft_s=ttft, output_tokens=6)
    return Measurement(case, samples=(sample,), cost=Cost(wall_s=10.0), extra=FrozenMap(extra))


@pytest.fixture
def probes(monkeypatch):
    """Each case that a runner was asked for, with the requests of its window."""
    asked = []

    def run(self, cases, **more):
        (case,) = cases
        asked.append((case.workload.concurrency or case.workload.request_rate, self.settings.policy.n_requests))
        found = measured(case)
        self.store.add([found])
        return RunReport(1, 0, 0, 0, (found,))

    monkeypatch.setattr(Runner, "run", run)
    return asked


def test_the_limit_is_found_within_its_tolerance_by_few_probes(probes, tmp_path):
    url = f"sqlite:///{tmp_path / 's.db'}"
    (found,) = find(SUITE, "concurrency", [{"ttft_p99_s": 0.5}, {"ttft_p99_s": 1.0, "tpot_s": 0.05}], store=url)
    assert found.ok and len(found.probes) == len(probes) <= 16
    strict, loose = found.limits
    assert strict.limit == pytest.approx(PLACES + 20, rel=0.08) and loose.limit == pytest.approx(PLACES + 45, rel=0.08)
    assert all(n >= 50 + 8 * load and n >= 447 for load, n in probes)  # a bound of a 99th percentile needs 299
    with open_store(url) as store:
        assert len(list(store.measurements())) == len(found.probes)
    before = len(probes)
    again = find(SUITE, "concurrency", [{"ttft_p99_s": 0.5}, {"ttft_p99_s": 1.0, "tpot_s": 0.05}], store=url)
    assert again[0].limits == found.limits and len(probes) == before  # from the store


def test_a_model_of_other_measurements_says_where_to_begin(probes, tmp_path, monkeypatch):
    """Its curves are off by 10% and say so."""

    def ttft_p99_s(load):
        return 1.1 * (0.1 + 0.02 * max(0.0, load - PLACES)), 0.1

    asked = {}

    def curves(others, *place):
        asked["others"] = others
        return {"ttft_p99_s": ttft_p99_s}

    monkeypatch.setattr("fewmark.verbs.find.predicted_curves", curves)
    url = f"sqlite:///{tmp_path / 's.db'}"
    other = Case(
        Deployment("openai", "other", engine_options=DEPLOYMENT.engine_options), Workload(16, 6, concurrency=8)
    )
    with open_store(url) as store:
        store.add([measured(other), measured(replace(other, workload=Workload(16, 6, batch_size=8)))])
    (found,) = find(SUITE, "concurrency", [{"ttft_p99_s": 0.5}], store=url)
    assert [m.case for m in asked["others"]] == [other]  # a static batch tells nothing of a loop
    assert found.ok and found.limits[0].limit == pytest.approx(PLACES + 20, rel=0.08)
    assert abs(found.probes[0].load - (PLACES + 20)) < 12 and len(found.probes) <= 4


@pytest.mark.slow
def test_the_model_learns_from_other_deployments_and_lengths(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWMARK_CACHE", "off")
    others = [
        measured(Case(deployment, Workload(n_in, 6, concurrency=load)))
        for deployment in (DEPLOYMENT, replace(DEPLOYMENT, accelerator="Nvidia A100"))
        for n_in in (32, 64)
        for load in (1, 4, 16, 64)
    ]
    curves = predicted_curves(others, DEPLOYMENT, Workload(16, 6, batch_size=1), "concurrency", ["ttft_s"], 1.0, 64.0)
    value, sd = curves["ttft_s"](32.0)
    assert 0.03 < value < 1.0 and 0.1 <= sd < 2.0
    assert predicted_curves([], DEPLOYMENT, Workload(16, 6, batch_size=1), "concurrency", ["ttft_s"], 1.0, 64.0) is None


def test_a_probe_costs_what_its_requests_take():
    closed = probe_seconds("concurrency", lambda load: 100, lambda: {8.0: 2.0})
    assert closed(8.0) == pytest.approx(3 + 100 * 2 / 8) and closed(1.0) > closed(8.0) > closed(64.0)
    assert probe_seconds("request_rate", lambda load: 100, dict)(4.0) == 3 + 25
    assert probe_seconds("concurrency", lambda load: 100, dict)(4.0) == 1.0


def test_a_limit_beyond_the_range_is_said(probes, tmp_path):
    (found,) = find(SUITE, "request_rate", [{"ttft_p99_s": 0.5}], high=8, store=f"sqlite:///{tmp_path / 's.db'}")
    assert found.ok and found.limits[0].where == "above" and found.limits[0].limit == 8


def test_what_tells_nothing_ends_the_search_with_its_reason(monkeypatch, tmp_path):
    def run(self, cases, **more):
        (case,) = cases
        lost = Measurement(case, status=Status.INVALID, error="requests were sent late")
        return RunReport(1, 0, 0, 0, (lost,))

    monkeypatch.setattr(Runner, "run", run)
    (found,) = find(SUITE, "concurrency", [{"ttft_s": 0.5}], store=f"sqlite:///{tmp_path / 's.db'}")
    assert not found.ok and not found.limits and "sent late" in found.reason


@pytest.mark.parametrize("slo", [[], [{"throughput_tok_s": 5}], [{"ttft_s": 0}]])
def test_objectives_that_are_none(slo, tmp_path):
    with pytest.raises(InputError):
        find(SUITE, "concurrency", slo, store=f"sqlite:///{tmp_path / 's.db'}")


def test_the_command(probes, tmp_path, capsys):
    path = tmp_path / "suite.yaml"
    deployment = {"engine": "openai", "model": "toy", "engine_options": {"url": "http://127.0.0.1:9"}}
    cells = [{"grid": {"input_tokens": 16, "output_tokens": 6, "concurrency": 1}}]
    path.write_text(yaml.safe_dump({"deployments": [deployment], "cells": cells}))
    words = ["run", str(path), "--store", f"sqlite:///{tmp_path / 's.db'}", "--find", "concurrency"]
    assert main([*words, "--slo", "ttft_p99_s=0.5"]) == 0
    said = capsys.readouterr()
    assert "met up to" in said.out and "one step more fails" in said.out and "probe 1 at" in said.err
    assert main([*words, "--slo", "ttft_p99_s=0.5", "--json", "--quiet"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["limits"][0]["is_certain"] and told["load"] == "concurrency"
    assert main([*words, "--slo", "ttft_p99_s=fast"]) == 2
    assert main(["run", str(path), "--slo", "ttft_s=1"]) == 2


@pytest.mark.parametrize(
    ("where", "certain", "said"),
    [
        ("above", True, "met up to 16 users at least"),
        ("above", False, "not settled; what was measured speaks for 16 users"),
        ("below", True, "not met at 16 users"),
        ("below", False, "not settled; what was measured speaks against 16 users"),
    ],
)
def test_an_end_that_was_not_probed_is_no_finding(where, certain, said, capsys):
    limit = TierLimit(FrontierTier("tier 1", {"ttft_s": 0.5}), 16.0, 1.0, 16.0, 0.2, where, certain)
    deployment, workload = Deployment("openai", "toy", "H100"), Workload(64, 16, concurrency=1)
    show_found([Found(deployment, workload, "concurrency", (limit,), (), ())])
    assert f"ttft_s <= 0.5 s: {said}" in capsys.readouterr().out
