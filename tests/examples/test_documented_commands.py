"""Every command of the documentation is executed on real files, or says visibly what it needs or takes."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewmark import datasets
from fewmark.cli import main

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "interop" / "fixtures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:    |\$ )?((?:fewmark [a-z]|python worker).*)$", re.MULTILINE)
NOT_RUN = re.compile(r"#.*\b(needs|takes) ")
ELSEWHERE = {
    "first-server.md": "executed by tests/serving/test_tutorial.py",
    "ala.md": "executed by tests of the reproduction",
}
SUITE = """title: Llama on our machine
deployments: [{engine: replay, model: llama-3.1-8b, accelerator: H100, engine_options: {table: measured.csv}}]
cells: [{zip: {input_tokens: 128, output_tokens: 128}, grid: {batch_size: [1, 4, 16]}}]
"""
SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
[ "$(basename "$0")" = srun ] && exec "$@"
shift
exec sh -c "$*"
"""


class Terminal(io.StringIO):
    """Somebody who says yes."""

    def isatty(self) -> bool:
        return True


def commands(page: Path) -> list[str]:
    """The commands in the page's order; a line that goes on is one command."""
    return COMMAND.findall(re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8")))


def runnable(page: Path) -> list[str]:
    return [line.split("  #")[0].strip() for line in commands(page) if not NOT_RUN.search(line)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the pages speak of, a store, and stand-ins for the way to another host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", f"sqlite:///{tmp_path / 'fewmark.db'}")
    monkeypatch.setenv("FEWMARK_TABLES", str(tmp_path))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ssh", "srun"):
        (programs / name).write_text(SSH)
        (programs / name).chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    table = datasets.example()
    cells = table.drop(columns=["ttft_s", "tpot_s", "e2e_latency_s", "throughput_tok_s", "status"])
    wanted = cells.iloc[::4].assign(batch_size=lambda rows: 2 * rows["batch_size"])
    for name in ("measured.csv", "known.csv", "before.csv", "results.csv", "All_results.csv"):
        table.to_csv(name, index=False)
    table.assign(throughput_tok_s=0.98 * table["throughput_tok_s"]).to_csv("after.csv", index=False)
    for name in ("wanted.csv", "cells.csv", "new-gpu.csv"):
        wanted.to_csv(name, index=False)
    table.head(2).to_csv("first-results.csv", index=False)
    table.rename(columns={"throughput_tok_s": "Tokens per second"}).to_csv("odd.csv", index=False)
    for folder in ("results", "runs", "before", "after"):
        Path(folder).mkdir()
    table.head(6).to_csv("results/a.csv", index=False)
    for number, path in enumerate(sorted((FIXTURES / "vllm-bench-0.32.0").rglob("*.json"))[:3]):
        shutil.copy(path, f"runs/{number}.json")
    shutil.make_archive("more", "zip", "results")
    example = FIXTURES / "guidellm-0.8.1" / "mock-closed-c1.json"
    for folder in ("before", "after"):
        shutil.copy(example, f"{folder}/benchmarks.json")
    prices = re.findall(
        r"```yaml\n(version: 1\ncurrency.*?)```", (ROOT / "docs/guide/decide.md").read_text(), re.DOTALL
    )
    Path("prices.yaml").write_text(prices[0])
    for name in ("ours.yaml", "mine.yaml"):
        Path(name).write_text(SUITE)
    assert main(["import", "measured.csv"]) == 0
    return tmp_path


def starts(words: list[str]) -> None:
    """A server says where it is, and is ended."""
    command = [sys.executable, "-m", "fewmark", *words, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert "fewmark is at http://" in process.stderr.readline()
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name in ELSEWHERE:
        pytest.skip(ELSEWHERE[page.name])
    for line in runnable(page):
        if line.startswith("python "):
            subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True)
            continue
        words = [word if word != "SUITE" else "ours.yaml" for word in shlex.split(line)[1:]]
        words = [sys.executable if word == "/opt/engine/bin/python" else word for word in words]
        if words[0] == "serve":
            starts(words)
            continue
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        code = main(words)
        said = capsys.readouterr()
        assert code in (0, 1), f"{line}\n{said.out[-2000:]}\n{said.err[-2000:]}"
        assert "Traceback" not in said.err
