"""Whole runs over worker processes: what is stored, what a bad server costs, where a key may not be."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from fewmark.core import Case, InputError, Workload
from fewmark.interop import from_measurements
from fewmark.runner import Runner
from fewmark.store import open_store
from fewmark.verbs.run import run as run_suite

KEY = "sk-verysecret-0123456789abcdef"


def cases(deployment, *loads):
    return [Case(deployment, Workload(16, 6, concurrency=load)) for load in loads]


@pytest.mark.slow
def test_a_sweep_is_stored_with_its_statistics_and_costs(store, settings, managed):
    report = Runner(store, settings, quiet=True).run(cases(managed(), 1, 3))
    assert report.ok, report.failures
    table = from_measurements(list(store.measurements()))
    assert set(table["statistic"]) == {"mean"} and (table["n_requests"] >= 40).all()
    assert table[["ttft_p50_s", "tpot_p90_s", "request_throughput_req_s", "throughput_tok_s"]].notna().all().all()
    assert table["note"].str.contains("ttft_p99_s").all()
    for held in store.measurements():
        assert held.environment["engine"]["server"] == "command" and held.extra["costs"]["warm_up_s"] > 0
        assert held.cost.startup_s > 0 and held.samples[0].requests.e2e_latency_s


@pytest.mark.slow
def test_a_server_that_dies_costs_its_case_and_the_sweep_goes_on(store, settings, managed, tmp_path):
    deployment = managed("--die-after", "30", "--once", str(tmp_path / "once"))
    report = Runner(store, settings, quiet=True).run(cases(deployment, 1, 2, 3))
    statuses = sorted(str(m.status) for m in report.measurements)
    assert statuses == ["crashed", "ok", "ok"], report.failures
    assert "the engine died" in report.failures[0].error
    again = Runner(store, settings, quiet=True).run(cases(deployment, 1, 2, 3), retry_failed=True)
    assert again.ok and len(again.measurements) == 1


@pytest.mark.slow
def test_one_that_never_starts_costs_all_its_cases_and_says_why(store, settings, managed):
    deployment = managed("--fail", "unrecognised", "--no-such-option")
    report = Runner(store, settings, quiet=True).run([*cases(deployment, 1, 2), *cases(managed(), 2)])
    assert sorted(str(m.status) for m in report.measurements) == ["ok", "unsupported", "unsupported"]
    assert all("--no-such-option" in m.error for m in report.failures)


@pytest.mark.slow
def test_options_of_the_server_are_axes_and_each_server_is_started_once(settings, tmp_path, logs, managed):
    options = dict(managed().engine_options)
    command = options["command"]
    suite = {
        "deployments": [{"engine": "openai", "model": "toy", "engine_options": {"command": command}}],
        "cells": [
            {"grid": {"option.arg.slots": [1, 8], "concurrency": [1, 2, 4], "input_tokens": 8, "output_tokens": 3}}
        ],
        "settings": {
            "min_repeats": 1, "max_repeats": 1, "n_requests": 46,
            "validity": {"lateness_s": 60, "idle_share": 1, "min_turns": 0, "worker_cpu_share": 9},
            "slo": [{"ttft_s": 60}],
        },
    }  # fmt: skip
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    url = f"sqlite:///{tmp_path / 'store.db'}"
    report = run_suite(path, store=url, quiet=True)
    assert report.ok and len(report.measurements) == 6, report.failures
    assert len(list(logs.glob("*.log"))) == 2
    with open_store(url) as opened:
        table = from_measurements(list(opened.measurements()))
    assert set(table["option.arg.slots"]) == {1, 8} and table["goodput_req_s"].notna().all()


@pytest.mark.parametrize("options", [{"api_key": KEY}, {"arg.api-key": KEY}, {"url": f"http://me:{KEY}@host"}])
def test_a_key_in_a_suite_is_refused_before_anything_is_kept(tmp_path, options):
    suite = {
        "deployments": [{"engine": "openai", "model": "toy", "engine_options": {"url": "http://x", **options}}],
        "cells": [{"cases": [{"input_tokens": 8, "output_tokens": 2, "concurrency": 1}]}],
    }
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    with pytest.raises(InputError, match="key or a password") as caught:
        run_suite(path, store=f"sqlite:///{tmp_path / 'store.db'}", quiet=True)
    assert KEY not in str(caught.value) and not (tmp_path / "store.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["", "--die-after 20", "--status 500 --says KEY --good 1", "--status 401 --says KEY"])
def test_the_key_is_in_nothing_that_is_written(tmp_path, managed, words):
    """Everything that a run says and leaves behind is searched: store, logs, reports, process lists."""
    (tmp_path / "key").write_text(KEY)
    command = managed("--key-variable", "SERVER_KEY", *words.replace("KEY", KEY).split()).engine_options["command"]
    suite = {
        "deployments": [
            {"engine": "openai", "model": "toy", "engine_options": {"command": "WRAPPER", "key_env": "SERVER_KEY"}}
        ],
        "cells": [{"cases": [{"input_tokens": 8, "output_tokens": 2, "concurrency": load} for load in (1, 2)]}],
        "settings": {"min_repeats": 1, "max_repeats": 1, "n_requests": 46, "validity": {"lateness_s": 60}},
    }
    # what the server is told to say holds the key, so the words are in a file that is not searched
    wrapper = tmp_path / "outside" / "serve.sh"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\nexec " + command.format(python=sys.executable, port='"$1"') + "\n")
    wrapper.chmod(0o755)
    suite["deployments"][0]["engine_options"]["command"] = f"{wrapper} {{port}}"
    home = tmp_path / "home"
    home.mkdir()
    (home / "suite.yaml").write_text(yaml.safe_dump(suite))
    environment = {
        **os.environ, "SERVER_KEY": KEY, "FEWMARK_SERVER_LOGS": str(home / "logs"), "FEWMARK_CACHE": "off",
    }  # fmt: skip
    said = ""
    for arguments in (
        ["run", "suite.yaml", "--json"],
        ["show", "--json"],
        ["report", "out.html"],
        ["export", "out.csv"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "fewmark", *arguments],
            cwd=home, env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        said += done.stdout + done.stderr
        if arguments[0] == "run":
            report = json.loads(done.stdout)
            assert report["n_measured"] == 2, done.stderr
            if not words:
                assert report["statuses"].get("crashed", 0) == 0, report
    assert KEY not in said
    written = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in written) and any(path.suffix == ".db" for path in written)
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
