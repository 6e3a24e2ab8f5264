"""The frame of the command line: instant help, one clear error, exit codes."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from fewmark.cli import main
from fewmark.cli.app import COMMANDS

HEAVY = ("numpy", "pandas", "scipy", "sklearn", "xgboost", "torch", "transformers", "sqlalchemy", "plotly", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from fewmark.cli import main; main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stderr.strip() == "[]"
    for name in COMMANDS:
        assert name in out.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(COMMANDS[name][0])
    assert main([name, "--help"]) == 0
    assert "Usage: fewmark" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["run", "--nonsense"]])
def test_a_wrong_request_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_without_arguments_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands" in "".join(capsys.readouterr())
