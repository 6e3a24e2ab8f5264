"""The GitHub Action: its step is run as a runner runs it, and its file names only inputs that there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text()) if (ROOT / "action.yml").exists() else None
pytestmark = pytest.mark.skipif(ACTION is None, reason="the action is not part of a source distribution")
HEADER = "engine,model,input_tokens,output_tokens,batch_size,throughput_tok_s\n"


def table(path: Path, slower: float = 1.0) -> Path:
    rows = [
        f"vllm,m,128,{64 * (i + 1)},8,{1000 / slower * (1 + 0.01 * (i + k) % 0.03):.4f}"
        for i in range(4)
        for k in range(3)
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a step, with the command line in place of an installation."""
    programs = tmp_path / "fewmark/bin"
    programs.mkdir(parents=True)
    python = f'"{sys.executable}"'
    command = f'{python} -c "import sys; from fewmark.cli import main; sys.exit(main())"'
    for name, words in (("fewmark", command), ("python", python)):
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (programs / name).chmod(0o755)
    defaults = {name: str(given.get("default", "")) for name, given in ACTION["inputs"].items()}
    return os.environ | {
        "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "out"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "METRIC": "", "ARGUMENTS": "",
        "THRESHOLD": defaults["threshold"], "LEVEL": defaults["confidence-level"], "FAIL_ON": defaults["fail-on"],
    }  # fmt: skip


def step(runner: dict[str, str], **inputs: str) -> int:
    script = ROOT / "tools/compare_action.sh"
    done = subprocess.run(["sh", str(script)], env=runner | inputs, capture_output=True, text=True, timeout=300)
    return done.returncode


@pytest.mark.slow
def test_the_step_fails_on_a_regression_and_says_so(runner: dict[str, str], tmp_path: Path) -> None:
    base, same, slow = (table(tmp_path / f"{n}.csv", s) for n, s in (("base", 1), ("same", 1.001), ("slow", 1.4)))
    assert step(runner, BASELINE=str(base), RESULTS=str(same)) == 0
    assert step(runner, BASELINE=str(base), RESULTS=str(slow)) == 1
    told = Path(runner["GITHUB_OUTPUT"]).read_text()
    assert re.findall(r"^verdict=(.*)$", told, re.MULTILINE) == ["PASS", "FAIL"]
    assert "FAIL" in Path(runner["GITHUB_STEP_SUMMARY"]).read_text()
    assert step(runner, BASELINE=str(base), RESULTS=str(slow), FAIL_ON="never") == 0


def test_inputs_are_never_commands(runner: dict[str, str], tmp_path: Path) -> None:
    base = table(tmp_path / "base.csv")
    for odd in ("$(touch pwned)", "; touch pwned", "`touch pwned`"):
        assert step(runner, BASELINE=str(base), RESULTS=odd, ARGUMENTS=odd) == 2
    assert not list(tmp_path.glob("pwned")) and not Path("pwned").exists()


def test_the_file_uses_its_inputs_and_keeps_them_out_of_scripts() -> None:
    steps = ACTION["runs"]["steps"]
    used = set(re.findall(r"inputs\.([a-z-]+)", yaml.safe_dump(ACTION)))
    assert used == set(ACTION["inputs"])
    assert not any("${{" in one["run"] for one in steps)
    assert set(ACTION["outputs"]) == {"verdict", "words", "page"}
