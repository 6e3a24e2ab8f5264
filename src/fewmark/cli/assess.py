"""`fewmark assess`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import STDOUT, json_option, measurements_options, print_json, seed_option, write_json
from fewmark.cli.waiting import waiting

if TYPE_CHECKING:
    from fewmark.planning.assess import Assessment
    from fewmark.planning.plan_account import PlanAccount


@click.command("assess", cls=NamedChoices)
@measurements_options()
@click.option(
    "--space", metavar="TABLE", help="Assess one plan for these cells; measured values in it are the reference."
)
@click.option(
    "--plan", "planned", metavar="TABLE", help="With --space: the cells to measure.  [default: those already measured]"
)
@click.option("--prices", metavar="FILE", help="With --space: prices, for money and energy.")
@click.option(
    "--strategies",
    type=Named("strategies"),
    multiple=True,
    metavar="NAMES",
    help="Names, by commas; several joined by +.  [default: all]",
)
@click.option("--reference", default="full", show_default=True, help="Strategy that the others are compared with.")
@click.option(
    "--target",
    type=Named("targets"),
    default="throughput_tok_s",
    show_default=True,
    help="Metric to predict.",
)
@click.option(
    "--model",
    type=Named("models"),
    default="auto",
    show_default=True,
    help="Model that predicts unmeasured cells, or none.",
)
@click.option("--relatives/--no-relatives", default=True, help="Whether the other deployments' cells are known.")
@click.option(
    "--accuracy",
    "accuracies",
    type=float,
    multiple=True,
    metavar="FRACTION",
    help="Relative accuracy to stop at.  [default: 0.966, 0.98]",
)
@click.option("--load-s", type=float, default=10.0, show_default=True, help="Seconds to load a deployment.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Warm-up runs per cell.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Measured runs per cell.")
@click.option("--no-screen", is_flag=True, help="Use all rows, also those that the screen excludes.")
@seed_option()
@json_option("what was found")
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    metavar="OUT",
    help="Write a report with the frontier: .html, .md, .csv.",
)
def command(
    data: str | None,
    store: str | None,
    space: str | None,
    planned: str | None,
    prices: str | None,
    strategies: tuple[str, ...],
    reference: str,
    target: str,
    model: str,
    relatives: bool,
    accuracies: tuple[float, ...],
    load_s: float,
    warmup: int,
    repeats: int,
    no_screen: bool,
    random_state: int,
    json_out: str | None,
    report: str | None,
) -> int:
    """Compare measuring strategies by their cost and accuracy against a reference (meta-metrics).

    Each recorded deployment in turn is treated as new. Every strategy is replayed on it, and the same model predicts
    the cells that it does not measure. With --space one plan is assessed instead: forecast before it runs, reported
    after.
    """
    from fewmark.evaluation.meta_metrics import Charges
    from fewmark.verbs.assess import ACCURACIES, assess_plan, assess_strategies, describe, write_report

    charges = Charges(load_s=load_s, warmup=warmup, repeats=repeats)
    if space is None and (planned is not None or prices is not None):
        raise click.UsageError("--plan and --prices need --space")
    if space is not None:
        if strategies or report is not None:
            raise click.UsageError("--strategies and --report replay recorded data; --space assesses one plan")
        one = assess_plan(
            space, plan=planned, data=data, store=store, prices=prices, target=target, model=model, charges=charges,
            screened=not no_screen, random_state=random_state,
        )  # fmt: skip
        _write(json_out, one.to_dict(), _plan(one))
        _tell(one.notes)
        return 0
    with waiting(lines=True) as progress:
        found = assess_strategies(
            data, store=store, strategies=strategies or ("all",), reference=reference, target=target, model=model,
            relatives=relatives, accuracies=accuracies or ACCURACIES, charges=charges, screened=not no_screen,
            random_state=random_state, progress=progress,
        )  # fmt: skip
    if report is not None:
        write_report(found, report)
    _write(json_out, describe(found, charges, reference), _table(found))
    _tell(found.notes)
    return 0


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _write(json_out: str | None, document: Mapping[str, object], text: str) -> None:
    if json_out == STDOUT:
        print_json(document)
        return
    if json_out is not None:
        write_json(json_out, document)
    click.echo(text)


def _table(found: Assessment) -> str:
    frontier = {point["strategy"] for point in found.pareto()}
    n, width = len(found.subjects), max(len(name) for name in ("strategy", *found.replays))
    lines = [
        f"{n} deployment{'s' if n > 1 else ''}, {'with' if found.relatives else 'without'} relatives; medians",
        f"{'strategy':{width}} {'time':>7} {'cells':>6} {'accuracy':>9} {'(mean)':>7} {'p90 APE':>8} {'stop right':>11}"
        f" {'96.6% at':>9} {'98% at':>7}",
    ]
    for name in found.replays:
        row = found.summary(name)
        speed_up = "-" if row["speed_up"] is None else f"{row['speed_up']:.1f}×"
        right = f"{row['right']:.0%}" if "right" in row else ""
        mark = " *" if name in frontier else ""
        lines.append(
            f"{name:{width}} {speed_up:>7} {row['n_cells']:6.0f} {_percent(row['relative_accuracy']):>9} "
            f"{_percent(row['relative_accuracy_mean']):>7} {_percent(row['p90_ape']):>8} {right:>11}"
            f" {row['oracle_speed_up_96.6']:8.1f}× {row['oracle_speed_up_98']:6.1f}×{mark}"
        )
    lines.append("time: how many times less than the reference; * on the frontier of time and accuracy")
    lines.append("… at: the gain had an oracle stopped it there; no strategy can know that")
    return "\n".join(lines)


def _plan(one: PlanAccount) -> str:
    account = one.account
    plan, reference = account.plan, account.reference
    rows = [
        ("cells", plan.n_cells, reference.n_cells),
        ("loads", plan.n_loads, reference.n_loads),
        ("time (s)", plan.time_s, reference.time_s),
        ("accelerator-hours", plan.accelerator_hours, reference.accelerator_hours),
        ("money", plan.money, reference.money),
        ("energy (J)", plan.energy_j, reference.energy_j),
    ]
    lines = [f"{'':20} {'plan':>12} {'whole space':>12}"]
    lines += [f"{name:20} {_number(mine):>12} {_number(whole):>12}" for name, mine, whole in rows]
    lines.append(
        f"{one.n_measured} of the plan's {plan.n_cells} cells are measured; speed-up {account.speed_up or 0:.1f}×"
    )
    for when, forecast in (("now", one.before), ("after the plan", one.after)):
        lines.append(
            f"forecast {when}: median error {forecast.median_ape:.1%} (below {forecast.median_ape_bound:.1%} with "
            f"{forecast.assurance:.0%}), mean {forecast.mean_ape:.1%}"
        )
    for metric, kinds in account.accuracy.items():
        for kind, found in kinds.items():
            if found.n:
                lines.append(
                    f"{metric}, {kind}: {found.n} cells, relative accuracy {_percent(found.relative_accuracy)} "
                    f"(mean {_percent(found.relative_accuracy_mean)}), worst error {_percent(found.worst_ape)}"
                )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.4g}"


def _percent(share: object) -> str:
    return f"{share:.1%}" if isinstance(share, float) else "-"
