"""`fewmark recommend`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fewmark.verbs.recommend import Answer


@click.command("recommend")
@click.option("--slo", multiple=True, metavar="METRIC=LIMIT", help="An objective: ttft_s=0.5. Repeatable.")
@click.option("--prices", metavar="FILE", help="Prices (YAML); without, accelerators are counted instead of money.")
@click.option("--data", metavar="TABLE", help="What is known: any format, or a packaged dataset; else the store.")
@click.option("--store", metavar="URL", help="What is known, without --data.  [default: $FEWMARK_STORE or fewmark.db]")
@click.option("--space", metavar="TABLE", help="The candidates.  [default: known deployments at known loads]")
@click.option("--input", "input_tokens", type=float, metavar="TOKENS", help="Input tokens of the workload.")
@click.option("--output", "output_tokens", type=float, metavar="TOKENS", help="Output tokens of the workload.")
@click.option("--demand", "demand_tok_s", type=float, metavar="TOK_S", help="Output tokens a second to serve.")
@click.option("--region", metavar="NAME", help="Only prices of this region.")
@click.option("--spot", is_flag=True, help="Spot prices count, too.")
@click.option("--assurance", type=float, default=0.9, show_default=True, help="The probability asked of meeting all.")
@click.option("--model", default="auto", show_default=True, help="Who predicts what is not measured.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many to show.")
@click.option("--no-screen", is_flag=True, help="Believe every row, faulty ones too.")
@click.option("--no-cache", is_flag=True, help="Fit anew, even if the same data were fitted before.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of price files.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    slo: tuple[str, ...],
    prices: str | None,
    data: str | None,
    store: str | None,
    space: str | None,
    input_tokens: float | None,
    output_tokens: float | None,
    demand_tok_s: float | None,
    region: str | None,
    spot: bool,
    assurance: float,
    model: str,
    top: int,
    no_screen: bool,
    no_cache: bool,
    seed: int,
    schema: bool,
    as_json: bool,
) -> int:
    """What to deploy, at which load: the cheapest that meets the objectives, and how sure that is.

    Exits with 1 if nothing meets them with the probability asked for.
    """
    if schema:
        from fewmark.decide.prices import price_schema

        click.echo(json.dumps(price_schema(), indent=2))
        return 0
    from fewmark.verbs.recommend import recommend

    answer = recommend(
        slo, prices=prices, data=data, store=store, space=space, input_tokens=input_tokens, output_tokens=output_tokens,
        model=model, region=region, spot=spot, demand_tok_s=demand_tok_s, assurance=assurance, screened=not no_screen,
        seed=seed, cache=not no_cache,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(answer, top)
    for advice in answer.recommendation.advice:
        click.echo(f"note: {advice.message}\n  hint: {advice.hint}", err=True)
    return 0 if answer.recommendation.chosen is not None else 1


def _show(answer: Answer, top: int) -> None:
    table, found = answer.table, answer.recommendation
    hidden = [name for name in table if table[name].isna().all() or name in ("throughput_low", "throughput_high")]
    same = [name for name in answer.cells if name in table and table[name].nunique(dropna=False) == 1]
    shown = table.drop(columns=[*hidden, *same]).head(top)
    click.echo(shown.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if found.chosen is not None:
        row = table.loc[found.chosen]
        money = row.get("cost_per_mtok_all_in")
        price = "" if answer.currency is None else f", {money:.3g} {answer.currency} a million output tokens"
        click.echo(
            f"\nrecommended: {_name(answer, found.chosen)}{price}; meets all with {row['probability']:.0%}, "
            f"cheapest of all with {row['p_best']:.0%}, expected regret {row['regret']:.1%}"
        )
    if found.next_measurement is not None:
        click.echo(f"measure next: {_name(answer, found.next_measurement)}; it could change the answer")
    else:
        click.echo("no single measurement is likely to change the answer")


def _name(answer: Answer, at: int) -> str:
    from fewmark.tables.columns import load_label

    row = answer.cells.loc[at]
    count = row.get("accelerator_count")
    many = f"{count:g}× " if count == count and count is not None and count > 1 else ""
    return f"{row.get('model')} · {row.get('engine')} on {many}{row.get('accelerator')}, {load_label(row.to_dict())}"
