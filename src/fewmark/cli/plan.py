"""`fewmark plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.figures import figure, text_table
from fewmark.cli.options import measurements_options, print_json, seed_option
from fewmark.cli.waiting import waiting

if TYPE_CHECKING:
    import pandas as pd


@click.command("plan", cls=NamedChoices)
@click.option("--space", required=True, metavar="TABLE", help="The cells to choose from: a canonical table.")
@measurements_options()
@click.option(
    "--ask", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="Number of cells to propose."
)
@click.option("--out", metavar="TABLE", help="Write the next cells there (CSV or Parquet).")
@click.option(
    "--target", type=Named("targets"), default="throughput_tok_s", show_default=True, help="Metric to predict."
)
@click.option(
    "--model",
    type=Named("models"),
    default="auto",
    show_default=True,
    help="Model that predicts unmeasured cells, or none.",
)
@click.option(
    "--strategy",
    type=Named("strategies"),
    default="adaptive",
    show_default=True,
    help="Strategy that chooses the cells; join several with +.",
)
@click.option("--target-error", type=float, metavar="FRACTION", help="The median error to reach: 0.05 is 5%.")
@click.option(
    "--forbid", multiple=True, metavar="CONDITION", help="Never propose such cells: 'batch_size>64'. Repeatable."
)
@click.option("--load-s", type=float, default=10.0, show_default=True, help="Seconds to load a deployment.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Warm-up runs per cell.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Measured runs per cell.")
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option("--no-cache", is_flag=True, help="Fit again, even if the same data were fitted before.")
@seed_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a record a cell, with the notes on all.")
def command(
    space: str,
    data: str | None,
    store: str | None,
    ask: int,
    out: str | None,
    target: str,
    model: str,
    strategy: str,
    target_error: float | None,
    forbid: tuple[str, ...],
    load_s: float,
    warmup: int,
    repeats: int,
    no_screen: bool,
    prior: bool,
    no_cache: bool,
    random_state: int,
    as_json: bool,
) -> int:
    """Propose the cells that are worth measuring next: those that teach most per second.

    Measure them, add the results to the table (or the store), and ask again. With --target-error nothing more is
    proposed once the forecast error is small enough.
    """
    from fewmark.evaluation.meta_metrics import Charges
    from fewmark.planning.belief import error_text
    from fewmark.planning.propose import COLUMNS
    from fewmark.verbs.plan import plan

    charges = Charges(load_s=load_s, warmup=warmup, repeats=repeats)
    with waiting() as progress:
        found = plan(
            space, data=data, store=store, ask=ask, out=out, target=target, model=model, strategy=strategy,
            target_error=target_error, forbid=forbid, charges=charges, screened=not no_screen,
            random_state=random_state,
            prior=prior, cache=not no_cache, progress=progress,
        )  # fmt: skip
    chosen, planner = found.cells, found.planner
    if as_json:
        unknown = [name for name in chosen if name not in COLUMNS and (name == "status" or chosen[name].isna().all())]
        records = json.loads(chosen.drop(columns=unknown).to_json(orient="records"))
        print_json([{**record, "notes": list(map(str, found.notes))} for record in records])
    elif out is None and len(chosen):
        click.echo(_table(chosen))
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if planner.n_relatives:
        click.echo(
            f"{planner.n_relatives} public measurements of similar deployments were added (--no-prior leaves them out)",
            err=True,
        )
    n = len(planner.space)
    click.echo(f"{int(planner.observed.sum())} of {n} cells are measured, {int(planner.failed.sum())} failed", err=True)
    if planner.infeasible:
        why = next(iter(planner.infeasible.values()))
        click.echo(f"{len(planner.infeasible)} more cannot run and are not asked: {why}", err=True)
    forecast = planner.forecast()
    guess = "; nothing was measured here: a guess from published facts and relatives" if planner.is_guess else ""
    click.echo(
        f"forecast median error over the space: {error_text(forecast.median_ape)} "
        f"(below {error_text(forecast.median_ape_bound)} with probability {forecast.assurance:.0%}){guess}",
        err=True,
    )
    if target_error is not None and planner.reached():
        click.echo(f"the target of {target_error:.1%} is reached; nothing more is needed", err=True)
    elif not len(chosen):
        click.echo("there is no cell left to measure", err=True)
    elif len(chosen):
        after = float(chosen["forecast_error_after"].iloc[-1])
        cost_s = float(chosen["predicted_cost_s"].sum())
        click.echo(f"after the {len(chosen)} proposed cells ({cost_s:.1f} s): {error_text(after)}", err=True)
    return 0


def _table(chosen: pd.DataFrame) -> str:
    from fewmark.decide.names import short_names
    from fewmark.planning.belief import error_text

    shared, names = short_names(chosen)
    rows = [["cell", "cost s", "gain", "median error, forecast before", "after"]]
    for name, row in zip(names, chosen.to_dict("records"), strict=True):
        errors = (error_text(row["forecast_error_before"]), error_text(row["forecast_error_after"]))
        rows.append([name, figure(row["predicted_cost_s"]), figure(row["expected_gain"]), *errors])
    return f"{shared}\n\n{text_table(rows)}"
