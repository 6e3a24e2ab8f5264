"""Help lists the names that options take; the shell completes them; what takes long shows its stage."""

from __future__ import annotations

import io
import time

import pytest
from click.shell_completion import BashComplete

from fewmark.cli import main
from fewmark.cli.app import app
from fewmark.cli.waiting import waiting
from fewmark.models.registry import model_names


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("predict", ["models", "targets", "datasets"]), ("plan", ["models", "targets", "strategies"]),
        ("evaluate", ["models", "protocols"]), ("assess", ["strategies"]), ("recommend", ["models"]),
        ("run", ["suites", "models", "targets"]), ("report", ["models"]), ("fit", ["models"]), ("demo", ["suites"]),
    ],
)  # fmt: skip
def test_help_lists_the_names(command: str, kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app.main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for kind in kinds:
        assert f" {kind} " in told
    if "models" in kinds:
        assert ", ".join(model_names()) in told


def test_the_shell_completes_commands_and_names() -> None:
    complete = BashComplete(app, {}, "fewmark", "_FEWMARK_COMPLETE")
    assert [item.value for item in complete.get_completions([], "recom")] == ["recommend"]
    models = [item.value for item in complete.get_completions(["predict", "--model"], "")]
    assert models == model_names()
    assert [item.value for item in complete.get_completions(["run"], "fmwork-t")] == ["fmwork-tiny"]
    assert "ttft_s" in [item.value for item in complete.get_completions(["predict", "--target"], "ttft")]


def test_what_takes_long_shows_its_stage_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with waiting() as progress:
        progress("fitting")
    with waiting(lines=True) as progress:
        progress("fitting")
    assert capsys.readouterr().err == "fitting …\n"
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr("fewmark.cli.waiting.AFTER_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with waiting() as progress:
        progress("fitting auto to 4,000 rows")
        deadline = time.monotonic() + 30
        while "fitting auto to 4,000 rows" not in shown.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "fitting auto to 4,000 rows" in shown.getvalue()


def test_a_verb_that_there_is_not_names_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommand"]) == 2
    assert "Did you mean recommend?" in capsys.readouterr().err
