"""`fewmark run`."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Literal

import click

from fewmark.cli.choices import Named, NamedChoices
from fewmark.cli.options import print_json

if TYPE_CHECKING:
    from fewmark.runner import RunReport
    from fewmark.runner.projection.truncation import Validation

SHOWN_FAILURES = 5


@click.command("run", cls=NamedChoices)
@click.argument("suite", type=Named("suites"))
@click.option("--store", metavar="URL", help="Store to write.  [default: $FEWMARK_STORE or sqlite:///fewmark.db]")
@click.option("--engine-python", metavar="PATH", help="Python that has the engine, if not this one.")
@click.option("--worker-prefix", metavar="COMMAND", default="", help="Start workers behind a command: 'ssh gpu-host'.")
@click.option("--repeats-max", type=click.IntRange(min=1), metavar="N", help="Maximum repeats per case (campaigns: 1).")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="Spread the repeats over N rounds.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Time limit of a case.")
@click.option("--retry", type=click.Choice(["failed"]), help="Measure failed cases again.")
@click.option("--order", "order_seed", type=int, metavar="SEED", help="Seed of the random order and of the prompts.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure at most N cases.")
@click.option(
    "--memory-limit", metavar="SIZE", help="Memory limit of a worker: 4GiB. Beyond it a case is out_of_memory."
)
@click.option("--no-drift-check", is_flag=True, help="Do not re-measure the first case at the end of a long sweep.")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", help="Distribute over a Ray cluster.")
@click.option("--budget", metavar="DURATION", help="Measure only the most informative cells within this time: 30m.")
@click.option(
    "--target-error", type=float, metavar="FRACTION", help="Stop once the forecast median error is below this: 0.05."
)
@click.option(
    "--target",
    type=Named("targets"),
    default="throughput_tok_s",
    show_default=True,
    help="Metric to predict (with --budget or --target-error).",
)
@click.option(
    "--model",
    type=Named("models"),
    default="auto",
    show_default=True,
    help="Model that predicts unmeasured cells (with --budget or --target-error).",
)
@click.option(
    "--prior/--no-prior",
    default=True,
    help="Start from public measurements of similar deployments (with --budget or --target-error).",
)
@click.option(
    "--truncate", metavar="TOKENS", help="Truncate generations after so many tokens and project the rest: 64, or auto."
)
@click.option("--full", is_flag=True, help="Truncate nothing; measure in full what was only projected so far.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    help="Deployments measured in parallel (with --budget or --target-error).",
)
@click.option("--sentinels", type=click.IntRange(min=2), metavar="N", help="Re-measure N cells to detect a change.")
@click.option(
    "--find",
    "find_load",
    type=click.Choice(["concurrency", "request_rate"]),
    help="Find the largest load that meets the objectives (--slo), by few probes.",
)
@click.option(
    "--slo",
    multiple=True,
    metavar="METRIC=SECONDS",
    help="Objective of --find: ttft_p99_s=0.5. Repeatable; several joined by commas are a tier of their own.",
)
@click.option("--max-load", type=float, metavar="N", help="Upper end of the loads that --find looks at.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    suite: str,
    store: str | None,
    engine_python: str | None,
    worker_prefix: str,
    repeats_max: int | None,
    rounds: int | None,
    timeout_s: float | None,
    retry: str | None,
    order_seed: int | None,
    limit: int | None,
    memory_limit: str | None,
    no_drift_check: bool,
    executor: str,
    budget: str | None,
    target_error: float | None,
    target: str,
    model: str,
    prior: bool,
    truncate: str | None,
    full: bool,
    workers: int,
    sentinels: int | None,
    find_load: Literal["concurrency", "request_rate"] | None,
    slo: tuple[str, ...],
    max_load: float | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Measure the cases of SUITE (a name or a file) that the store does not hold yet.

    Each result is saved as soon as it exists; to resume a stopped run, run it again.

    With --budget or --target-error it measures a few of the cases and predicts the others: it shows the forecast error
    after each step and stops by its own estimate.

    With --find it looks for the largest concurrency or request rate at which a server meets the objectives.

    With --sentinels it re-measures N cells of each deployment, tests for a change since then (a new version of the
    engine, another driver), and marks results that no longer hold: the next run measures them again.
    """
    from fewmark.verbs.run import run

    try:
        prefix = shlex.split(worker_prefix)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--worker-prefix") from None
    if find_load is not None:
        if budget or target_error or limit or retry or truncate or full or rounds or sentinels or executor != "local":
            raise click.UsageError("--find goes with no option that says what else to measure, or how")
        from fewmark.cli.find import read_tiers, show_found, show_probe
        from fewmark.verbs.find import find

        founds = find(
            suite, find_load, read_tiers(slo), high=max_load, store=store, timeout_s=timeout_s,
            random_state=order_seed or 0, quiet=True, on_probe=(lambda found: None) if quiet else show_probe,
        )  # fmt: skip
        if as_json:
            print_json([found.to_dict() for found in founds])
        else:
            show_found(founds)
        return 0 if all(found.ok for found in founds) else 1
    if slo or max_load is not None:
        raise click.UsageError("--slo and --max-load go with --find")
    if sentinels is not None:
        if budget or target_error or limit or retry or truncate or full or rounds or executor != "local":
            raise click.UsageError("--sentinels goes with no option that says what else to measure, or how")
        from fewmark.cli.sentinels import show_checked
        from fewmark.verbs.sentinels import check_sentinels

        checked = check_sentinels(
            suite, sentinels, store=store, engine_python=engine_python, worker_prefix=prefix, timeout_s=timeout_s,
            memory_limit=memory_limit, quiet=quiet,
        )  # fmt: skip
        if as_json:
            print_json([one.to_dict() for one in checked])
        show_checked(checked)
        return 0 if checked else 1
    if budget is not None or target_error is not None:
        if limit is not None or retry is not None or executor != "local" or full or rounds is not None:
            raise click.UsageError(
                "--limit, --retry, --full, --rounds and --executor do not go with --budget and --target-error"
            )
        if truncate is not None and not truncate.isdecimal():
            raise click.BadParameter("with --budget or --target-error, a number of tokens", param_hint="--truncate")
        from fewmark.cli.campaign import show_campaign, show_step
        from fewmark.cli.results import results_text
        from fewmark.verbs.campaign import campaign

        done = campaign(
            suite, budget=budget, target_error=target_error, target=target, model=model, store=store,
            engine_python=engine_python, worker_prefix=prefix, repeats_max=repeats_max, timeout_s=timeout_s,
            truncate=None if truncate is None else int(truncate), workers=workers, seed=order_seed,
            memory_limit=memory_limit, prior=prior, quiet=quiet,
            on_step=show_step,
        )  # fmt: skip
        if as_json:
            print_json(done.to_dict())
        elif text := results_text(done.measurements):
            click.echo(text)
        show_campaign(done)
        return 0 if done.ok else 1
    report = run(
        suite,
        store=store,
        engine_python=engine_python,
        worker_prefix=prefix,
        repeats_max=repeats_max,
        timeout_s=timeout_s,
        retry_failed=retry == "failed",
        order_seed=order_seed,
        limit=limit,
        memory_limit=memory_limit,
        drift_check=not no_drift_check,
        executor=executor,
        truncate=truncate,
        full=full,
        rounds=rounds,
        quiet=quiet,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    return 0 if report.ok else 1


def _validated(held: Validation) -> str:
    if held.median_error is None:
        return "projected; no cell was also measured in full: the intervals rest on the runs' own scatter"
    inside = (
        "" if held.coverage is None else f", {held.coverage:.0%} inside their {held.confidence_level:.0%} intervals"
    )
    return (
        f"projected against full measurements of {held.n_pairs} cells: median error {held.median_error:.1%}{inside}; "
        f"{held.projected_s:.1f} s in place of {held.full_s:.1f} s"
    )


def _show(report: RunReport) -> None:
    from fewmark.cli.results import results_text

    if text := results_text(report.measurements):
        click.echo(text)

    def say(text: str) -> None:
        click.echo(text, err=True)

    statuses = Counter(str(m.status) for m in report.measurements)
    parts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    before = f"; {report.n_before} of {report.n_cases} were there before" if report.n_before else ""
    say(
        f"measured {len(report.measurements)} cases in {report.elapsed_s:.1f} s"
        + (f": {parts}" if parts else "")
        + before
    )
    for measurement in report.failures[:SHOWN_FAILURES]:
        work = measurement.case.workload
        shape = f"{work.input_tokens:g} in, {work.output_tokens:g} out, {work.load_label}"
        say(f"  {measurement.status}: {measurement.case.deployment.label}, {shape}: {measurement.error}")
    if len(report.failures) > SHOWN_FAILURES:
        say(f"  … and {len(report.failures) - SHOWN_FAILURES} more; --json lists them all")
    if (held := report.validation) is not None:
        say(_validated(held))
    for search in report.auto_batch:
        work, won = search.asked.workload, search.chosen
        place = won.case.deployment.to_dict().get("placement") if won else None
        size = f"batch {won.case.workload.batch_size}" + (f" on {place}" if place else "") if won else "no batch runs"
        say(
            f"  {search.asked.deployment.label}, {work.input_tokens:g} in, {work.output_tokens:g} out: {size}, "
            f"of {len(search.tried)} tried ({search.reason})"
        )
    for engine, reason, count in report.unavailable:
        say(f"  {count} cases wait for the engine {engine}: {reason}")
    if report.n_failed_before:
        say(f"{report.n_failed_before} cases failed in earlier runs; --retry failed measures them again")
    if report.n_elsewhere:
        say(f"{report.n_elsewhere} cases were measured by other runs on this store meanwhile")
    if report.n_left and not report.unavailable:
        say(f"{report.n_left} cases are left; run it again to go on")
    for advice in report.advice:
        say(f"warning: {advice.message}\n  hint: {advice.hint}")
