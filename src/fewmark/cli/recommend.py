"""`fewmark recommend`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Final

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.figures import UNKNOWN, figure, heading, text_table, with_interval
from fewmark.cli.options import measurements_options, print_json, seed_option, values_by_column
from fewmark.cli.waiting import waiting

if TYPE_CHECKING:
    import pandas as pd

    from fewmark.verbs.recommend import Answer

LEAST_CHANCE: Final = 0.05  # of running, as in `fewmark.models.feasibility`


@click.command("recommend", cls=NamedChoices)
@click.option("--slo", multiple=True, metavar="METRIC=LIMIT", help="An objective: ttft_s=0.5. Repeatable.")
@click.option(
    "--prices", metavar="FILE", help="Price file (YAML); without it, accelerators are counted instead of money."
)
@measurements_options()
@click.option("--space", metavar="TABLE", help="The candidates.  [default: known deployments at known loads]")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only candidates with this value. Repeatable.")
@click.option("--input", "input_tokens", type=float, metavar="TOKENS", help="Input tokens of the workload.")
@click.option("--output", "output_tokens", type=float, metavar="TOKENS", help="Output tokens of the workload.")
@click.option("--demand", "demand_tok_s", type=float, metavar="TOK_S", help="Output tokens per second to serve.")
@click.option("--region", metavar="NAME", help="Only prices of this region.")
@click.option("--spot", is_flag=True, help="Include spot prices.")
@click.option(
    "--assurance",
    type=float,
    default=0.9,
    show_default=True,
    help="Required probability of meeting all objectives, a fraction.",
)
@click.option(
    "--model", type=Named("models"), default="auto", show_default=True, help="Model that predicts unmeasured cells."
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Number of candidates to show.")
@click.option("--wide", is_flag=True, help="Show every column.")
@click.option("--out", metavar="TABLE", help="Write every candidate with every column there (CSV or Parquet).")
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Whether to add public measurements of similar deployments to small tables.",
)
@click.option("--no-cache", is_flag=True, help="Fit again, even if the same data were fitted before.")
@seed_option()
@click.option("--schema", is_flag=True, help="Print the JSON Schema of price files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    slo: tuple[str, ...],
    prices: str | None,
    data: str | None,
    store: str | None,
    space: str | None,
    where: tuple[str, ...],
    input_tokens: float | None,
    output_tokens: float | None,
    demand_tok_s: float | None,
    region: str | None,
    spot: bool,
    assurance: float,
    model: str,
    top: int,
    wide: bool,
    out: str | None,
    no_screen: bool,
    prior: bool,
    no_cache: bool,
    random_state: int,
    schema: bool,
    as_json: bool,
) -> int:
    """Recommend a deployment and its load: the cheapest that meets the objectives, and how sure that is.

    Exits with 1 if no candidate meets them with the required probability.
    """
    if schema:
        from fewmark.decide.prices import price_schema

        print_json(price_schema())
        return 0
    from fewmark.verbs.recommend import recommend

    with waiting() as progress:
        answer = recommend(
            slo, prices=prices, data=data, store=store, space=space,
            where=values_by_column(where, "--where"), input_tokens=input_tokens, output_tokens=output_tokens,
            model=model, region=region, spot=spot, demand_tok_s=demand_tok_s,
            assurance=assurance, screened=not no_screen, random_state=random_state,
            prior=prior, cache=not no_cache, progress=progress,
        )  # fmt: skip
    if out is not None:
        from fewmark.interop import write_table

        everything = answer.table.assign(
            name=[answer.recommendation.names[at] for at in answer.table.index],
            recommended=answer.table.index == answer.recommendation.chosen,
        )
        write_table(everything, out, columns=["name", *(name for name in map(str, everything) if name != "name")])
    if as_json:
        print_json(answer.to_dict())
    else:
        _show(answer, top, wide=wide)
    for advice in answer.recommendation.advice:
        click.echo(f"note: {advice.message}\n  hint: {advice.hint}", err=True)
    return 0 if answer.recommendation.chosen is not None else 1


def _show(answer: Answer, top: int, *, wide: bool) -> None:

    from fewmark.decide.names import short_names
    from fewmark.decide.recommend import percent

    table, found = answer.table, answer.recommendation
    shared, short = short_names(answer.cells)
    if wide:
        shown = table.drop(columns=[name for name in table if table[name].isna().all()]).head(top)
        click.echo(shown.to_string(index=False, na_rep=UNKNOWN, float_format=_plain))
    else:
        columns = _columns(answer, [short[at] for at in table.index])
        click.echo(f"{shared}\n\n{text_table([*zip(*columns, strict=True)][: top + 1], left=(0, len(columns) - 1))}")
    if len(table) > top:
        click.echo(f"… and {len(table) - top} more (--top, --wide, --out FILE)")
    if found.chosen is not None:
        row = table.loc[[found.chosen]].to_dict("records")[0]
        money = row.get("cost_per_mtok_all_in")
        price = "" if answer.currency is None else f", {money:.3g} {answer.currency} a million output tokens"
        meets = f"; meets {', '.join(map(str, answer.objectives))} with {percent(row['probability'])}"
        n_judged = int(table["p_best"].notna().sum())
        among = f"of the {n_judged} that can be judged" if table["unknown"].notna().any() else "of all"
        click.echo(
            f"\nrecommended: {found.names[found.chosen]}{price}{meets if answer.objectives else ''}; cheapest {among} "
            f"with {percent(row['p_best'])}, expected regret {row['regret']:.1%}"
        )
    if found.next_measurement is None:
        click.echo("no single measurement is likely to change the answer")
        return
    what = ", ".join(found.next_metrics)
    why = "it could change the answer" if math.isfinite(found.expected_saving) else "it cannot be judged without"
    click.echo(f"measure next: {what} of {found.names[found.next_measurement]}; {why}")


def _columns(answer: Answer, names: list[str]) -> list[list[str]]:
    """The columns that are shown, each with its heading; units in the headings, 90% intervals with the values."""
    from fewmark.decide.recommend import percent

    table = answer.table
    out = [["candidate", *names], _interval(table, "throughput_tok_s", "throughput")]
    metrics = dict.fromkeys(objective.metric for objective in answer.objectives)
    out.extend(_interval(table, metric, metric) for metric in metrics if metric != "throughput_tok_s")
    if answer.currency is None:
        out.append(["cost ×", *map(figure, table["relative_cost"])])
    else:
        out.append([f"{answer.currency}/Mtok out", *map(figure, table["cost_per_mtok_all_in"])])
    if "fleet_cost_per_hour" in table:
        out.append(["replicas", *(figure(value, 0) for value in table["replicas"])])
    if answer.objectives:
        out.append(["meets all", *map(percent, table["probability"])])
    out.append(["cheapest", *map(percent, table["p_best"])])
    out.append(["from", *(_from(row) for row in table.to_dict("records"))])
    return out


def _interval(table: pd.DataFrame, metric: str, stem: str) -> list[str]:
    title, scale = heading(metric, table[metric])
    ends = zip(table[metric], table[f"{stem}_low"], table[f"{stem}_high"], strict=True)
    return [f"{title} [90%]", *(with_interval(*(float(end) * scale for end in three)) for three in ends)]


def _plain(value: float) -> str:
    return figure(value, 0 if value.is_integer() else None)


def _from(row: Mapping[Hashable, object]) -> str:
    if isinstance(unknown := row.get("unknown"), str):
        return f"{unknown} unknown"
    feasible = row.get("feasible")
    if isinstance(feasible, float) and feasible < LEAST_CHANCE:
        return "cannot run"
    return str(row["provenance"])
