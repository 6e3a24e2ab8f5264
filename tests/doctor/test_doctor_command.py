"""`fewmark doctor` as a person or a script meets it, and what a run records of it."""

import json
import sys

import pytest

from fewmark.cli import main
from fewmark.engines.doctor import Finding
from fewmark.runner.advice import host_advice
from fewmark.verbs import doctor as verb

GOOD = Finding("clock", "ok", "tsc")
POOR = Finding("cpu-governor", "warn", "powersave on 4 CPUs", "cpupower frequency-set -g performance")
BAD = Finding("gpu-load", "bad", "0 (A100) 97% busy", "choose another")


@pytest.fixture
def found(monkeypatch):
    def set_to(*findings):
        monkeypatch.setattr(verb, "examine", lambda: list(findings))
        monkeypatch.setattr(verb, "noise", lambda: (GOOD, {"scatter": 0.01}))

    return set_to


@pytest.mark.parametrize(("findings", "code"), [((GOOD,), 0), ((GOOD, POOR), 0), ((POOR, BAD), 1)])
def test_the_exit_code_tells_whether_something_is_bad(found, capsys, findings, code):
    found(*findings)
    assert main(["doctor", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] == (code == 0) and answer["noise"] == {"scatter": 0.01}
    assert answer["findings"][:-1] == [finding.to_dict() for finding in findings]


def test_what_is_wrong_is_shown_with_advice(found, capsys):
    found(POOR, BAD)
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warn") and "→ cpupower" in lines[1] and lines[2].startswith("bad")


@pytest.mark.slow
def test_a_host_behind_a_command_is_examined_there(capsys):
    prefix = "env CUDA_LAUNCH_BLOCKING=1"  # what the worker's host has and this process has not
    assert main(["doctor", "--worker-prefix", prefix, "--engine-python", sys.executable, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    there = {finding["name"]: finding["verdict"] for finding in answer["findings"]}
    assert there["debug-settings"] == "bad" and "noise" in there


def test_a_command_that_starts_no_worker_is_one_clear_error(capsys):
    assert main(["doctor", "--worker-prefix", "false"]) == 2
    said = capsys.readouterr().err
    assert "no worker answers" in said and "hint" in said


def test_a_run_advises_upon_what_its_workers_found():
    host = {"doctor": [GOOD.to_dict(), POOR.to_dict(), BAD.to_dict()], "cpu_usable": 2}
    advice = list(host_advice({"placement": "disk"}, host, {"threads": 4}))
    assert [item.code for item in advice] == ["cpu-governor", "gpu-load", "too-many-threads", "page-cache-hot"]
    assert advice[0].hint == POOR.advice and all(item.hint for item in advice)
