"""`fewmark import`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fewmark.verbs.import_files import Imported


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--format", "name", default="auto", show_default=True, help="The files' format, if not by detection.")
@click.option("--store", metavar="URL", help="Where to  [default: FEWMARK_STORE or sqlite:///fewmark.db].")
@click.option(
    "--projection-rule", "rule", metavar="RULE", default="growth", show_default=True,
    help="Who projects what a worker cut short: growth, mean or flexllmgen.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[str, ...], name: str, store: str | None, rule: str, as_json: bool) -> None:
    """Read measurements from result files into the store; importing a file again adds nothing.

    All files are read before anything is stored, so a malformed one leaves the store as it was. What the screen
    finds is saved beside the rows; `fewmark screen` shows it.
    """
    from fewmark.verbs.import_files import import_files

    say = lambda text: click.echo(f"{text} …", err=True)  # noqa: E731
    results = import_files(files, format=name, store=store, rule=rule, progress=say)
    if as_json:
        click.echo(json.dumps([_plain(result) for result in results], indent=2))
        return
    for result in results:
        click.echo(f"{result.path}: {result.n_rows} rows of format {result.format}, {result.n_added} added")
        if result.n_predictions:
            click.echo(
                f"  {result.n_predictions} forecasts kept as predictions, not as measurements; see fewmark ledger"
            )
        if result.left_out:
            rows = ", ".join(map(str, result.left_out[:3])) + (" …" if len(result.left_out) > 3 else "")
            click.echo(
                f"  {len(result.left_out)} rows left out (row {rows}): tokens in, tokens out, and batch_size or "
                "concurrency must be known"
            )
        for note in result.notes:
            click.echo(f"  {note}")
        if result.unknown_columns:
            click.echo(f"  columns not understood, kept as they are: {_named(result.unknown_columns)}")
        counts = Counter(finding.action for finding in result.findings)
        if counts:
            told = ", ".join(
                f"{counts[action]} {action}" for action in ("exclude", "correct", "warn") if counts[action]
            )
            click.echo(f"  screened: {told}; see fewmark screen --data {result.path}")


def _named(unknown: Mapping[str, Sequence[str]]) -> str:
    """Up to ten names of columns, each with what it may have meant."""
    shown = [f"{name} (did you mean {' or '.join(near)}?)" if near else name for name, near in unknown.items()]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def _plain(result: Imported) -> dict[str, object]:
    return {
        "file": str(result.path),
        "format": result.format,
        "n_rows": result.n_rows,
        "n_added": result.n_added,
        "n_predictions": result.n_predictions,
        "left_out": list(result.left_out),
        "notes": list(result.notes),
        "unknown_columns": {name: list(near) for name, near in result.unknown_columns.items()},
        "n_findings": dict(Counter(finding.action for finding in result.findings)),
    }
