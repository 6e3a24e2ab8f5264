"""The command group: knows each command's module and one-line help without importing it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import click

import fewmark

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("fewmark.cli.demo", "The whole story on a real engine on this machine, ending in a report."),
    "suites": ("fewmark.cli.suites", "List and show the suites that there are."),
    "engines": ("fewmark.cli.engines", "List the engines: installed, usable here, how to get them."),
    "doctor": ("fewmark.cli.doctor", "What would make a benchmark lie on this machine, and what to do."),
    "run": ("fewmark.cli.run", "Measure a suite's cases on their engines; resumes where it stopped."),
    "import": ("fewmark.cli.import_", "Read measurements from files of any known format into the store."),
    "export": ("fewmark.cli.export", "Write the store as the canonical table (CSV or Parquet)."),
    "show": ("fewmark.cli.show", "Show results; of one case its samples, marks and origin."),
    "retract": ("fewmark.cli.retract", "Take measurements back: marked with the reason, never deleted."),
    "screen": ("fewmark.cli.screen", "Find faulty or suspect rows, and say why."),
    "fit": ("fewmark.cli.fit", "Fit a model and save it."),
    "predict": ("fewmark.cli.predict", "Predict cases that nobody measured, with intervals."),
    "evaluate": ("fewmark.cli.evaluate", "Score models under the evaluation protocols."),
    "plan": ("fewmark.cli.plan", "Which cells of a space are worth measuring next."),
    "assess": ("fewmark.cli.assess", "What strategies of measuring cost, and how accurate they are."),
    "recommend": ("fewmark.cli.recommend", "What to deploy under objectives and prices, and how sure that is."),
    "compare": ("fewmark.cli.compare", "Whether B is slower than A: PASS, FAIL or INCONCLUSIVE, for CI."),
    "ledger": ("fewmark.cli.ledger", "How the predictions on record turned out."),
    "reproduce": ("fewmark.cli.reproduce", "Reproduce a paper's evaluation on the packaged data."),
    "store": ("fewmark.cli.store", "Check a store, or save what a damaged one still holds."),
    "serve": ("fewmark.cli.serve", "The app in the browser, and the HTTP API, on a store or a file."),
    "report": ("fewmark.cli.report", "Write one HTML file that shows it all."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(fewmark.__version__, prog_name="fewmark")
def app() -> None:
    """Benchmark few, know the rest.

    Measure an LLM inference system at a few well-chosen configurations, predict every other one with an honest
    error bar, and know what knowing it cost.
    """
