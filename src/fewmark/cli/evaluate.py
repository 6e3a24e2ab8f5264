"""`fewmark evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import STDOUT, json_option, print_json, seed_option, write_json

if TYPE_CHECKING:
    from fewmark.evaluation.run import Summary

FILE = click.Path(path_type=Path, dir_okay=False)
MIN_HIDDEN_CELLS = 100  # hidden cells of an accelerator, of which a share says something


@click.command("evaluate", cls=NamedChoices)
@click.option(
    "--data", type=Named("datasets"), metavar="TABLE", help="A file that import reads, or a packaged dataset's name."
)
@click.option("--store", metavar="URL", help="Or a store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option(
    "--protocol",
    type=Named("protocols"),
    default="interpolate-length",
    show_default=True,
    help="One protocol, several separated by commas, or all.",
)
@click.option(
    "--model",
    type=Named("models"),
    multiple=True,
    default=["auto"],
    show_default=True,
    help="Model to score. Repeatable.",
)
@click.option(
    "--target", type=Named("targets"), default="throughput_tok_s", show_default=True, help="Metric to predict."
)
@seed_option("folds and hidden cells")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Folds run in parallel.")
@click.option("--prior", is_flag=True, help="Add public measurements; refused for packaged data.")
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@json_option("the scores")
@click.option("--predictions", type=FILE, help="Write every hidden cell's prediction as CSV.")
def command(no_screen: bool, json_out: str | None, model: tuple[str, ...], **options: Any) -> None:
    """Score models on cells that are hidden from them.

    Each protocol is shown, and saved, as soon as it is done.
    """
    from fewmark.verbs.evaluate import evaluate

    done: list[Summary] = []

    def keep(summary: Summary) -> None:
        done.append(summary)
        if json_out != STDOUT:
            _show(summary)
            if json_out is not None:
                write_json(json_out, document())

    def document() -> Mapping[str, object]:
        return done[0] if len(done) == 1 else {"evaluations": done}

    summaries = evaluate(
        model=model,
        screened=not no_screen,
        progress=lambda text: click.echo(f"{text} …", err=True),
        result=keep,
        **options,
    )
    for note in summaries[0]["notes"]:
        click.echo(f"note: {note}", err=True)
    if json_out == STDOUT:
        print_json(document())


def _show(summary: Summary) -> None:
    click.echo(
        f"\n{summary['protocol']}: {summary['target']}, {summary['n_deployments']} deployments, "
        f"{summary['n_cells']} cells, seed {summary['seed']}"
    )
    head = ("median APE", "p90 APE", "in 90%", "width", "forecast ±", "fit s")
    click.echo(f"  {'model':<18}{'hidden':>7}{'silent':>7}" + "".join(f"{text:>12}" for text in head))
    for name, score in summary["models"].items():
        shares = (
            score["median_ape"], score["p90_ape"], score["picp_90"], score["median_relative_width_90"],
            score["forecast_mae"],
        )  # fmt: skip
        cells = "".join(f"{'–' if share is None else format(share, '.2%'):>12}" for share in shares)
        click.echo(f"  {name:<18}{score['n']:>7}{score['abstained']:>7}{cells}{score['fit_s']:>12.1f}")
        inside = [
            f"{of} {part['picp_90']:.0%} of {part['n']}"
            for of, part in score["by_accelerator"].items()
            if part["n"] >= MIN_HIDDEN_CELLS and part["picp_90"] is not None
        ]
        if len(score["by_accelerator"]) > 1 and inside:
            click.echo(f"    in 90%: {', '.join(inside)}")
