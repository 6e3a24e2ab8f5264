"""`fewmark retract`."""

from __future__ import annotations

from dataclasses import asdict

import click

from fewmark.cli.options import print_json


@click.command("retract")
@click.argument("case")
@click.option("--why", default="", metavar="TEXT", help="The reason; it is kept with the mark. Not needed to --undo.")
@click.option("--store", metavar="URL", help="The store.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--undo", is_flag=True, help="Undo: use the measurements again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(case: str, why: str, store: str | None, undo: bool, as_json: bool) -> None:
    """Retract the measurements of CASE: the id of a case or a measurement, or the start of one.

    They are marked, never deleted: no model learns from them, and the next run measures the case again.
    """
    from fewmark.verbs.retract import retract

    done = retract(case, why=why, store=store, undo=undo)
    if as_json:
        print_json(asdict(done))
        return
    what = "believed again" if undo else "retracted"
    click.echo(f"{len(done.measurement_ids)} measurements of {case} are {what}; {done.n_new} were not before", err=True)
