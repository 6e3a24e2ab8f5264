"""The page "A server in half an hour", executed: its files written, its commands run, against a mock server."""

import re
from pathlib import Path

import pytest

from fewmark.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "first-server.md"
URL = "http://127.0.0.1:8000"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_page_runs(running, tmp_path, monkeypatch, capsys):
    server = running("--ttft-ms", "10", "--gap-ms", "2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWMARK_STORE", f"sqlite:///{tmp_path / 'fewmark.db'}")
    ((suite,), (cases,)) = blocks("yaml"), blocks("csv")
    assert URL in suite
    # on a machine of any load; what the page promises of a verdict is not tested here
    patient = "validity: {lateness_s: 60, idle_share: 1, worker_cpu_share: 9, min_turns: 0}, slo"
    Path("server.yaml").write_text(suite.replace(URL, server.url).replace("slo", patient, 1))
    Path("cases.csv").write_text(cases)
    commands = [line for block in blocks("console") for line in block.splitlines() if line.startswith("fewmark")]
    assert len(commands) >= 9
    said = {}
    for line in commands:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)][1:]
        if "served-tiny" in words:
            continue  # starts a real server
        code = main(words)
        said[line], errors = capsys.readouterr()
        assert code == 0, (line, said[line], errors)
    assert all(f"concurrency {n}" in said["fewmark show"] for n in (1, 4, 8))
    assert "ttft_p90_s" in said['fewmark show "concurrency 4"'], said
    found = next(text for line, text in said.items() if "--find" in line)
    assert "met up to 16 users at least" in found  # the mock has room for all
    assert Path("report.html").stat().st_size > 1000 and "concurrency" in Path("results.csv").read_text()
