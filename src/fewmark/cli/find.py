"""What `fewmark run --find` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fewmark.planning.frontier import TierLimit
    from fewmark.verbs.find import Found

UNITS = {"concurrency": "users", "request_rate": "requests/s"}


def read_tiers(texts: Sequence[str]) -> list[dict[str, float]]:
    """Tiers of objectives: single ones are one tier together, a list with commas is a tier of its own."""
    alone: dict[str, float] = {}
    tiers = []
    for text in texts:
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            try:
                limits[name.strip()] = float(value)
            except ValueError:
                raise click.BadParameter(f"not METRIC=SECONDS: {part!r}", param_hint="--slo") from None
        if len(limits) == 1:
            alone |= limits
        else:
            tiers.append(limits)
    return ([alone] if alone else []) + tiers


def show_probe(found: Found) -> None:
    """One line on standard error after each probe."""
    probe = found.probes[-1]
    heads = "; ".join(f"{limit.limit:g} [{limit.low:.3g}, {limit.high:.3g}]" for limit in found.limits)
    failed = " failed" if probe.failed else ""
    click.echo(f"probe {len(found.probes)} at {probe.load:g}{failed}: the limit is near {heads}", err=True)


def show_found(founds: Sequence[Found]) -> None:
    """A line for each tier of each deployment and pair of lengths."""
    for found in founds:
        work = found.workload
        click.echo(f"{found.deployment.label}, {work.input_tokens:g} in, {work.output_tokens:g} out")
        for limit in found.limits:
            click.echo(f"  {_objectives(limit.tier.limits)}: {_limit(limit, UNITS[found.load])}")
        cost_s = sum(probe.cost_s for probe in found.probes)
        click.echo(f"  {len(found.probes)} probes, {cost_s:.0f} s" + (f"; {found.reason}" if found.reason else ""))


def _objectives(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{name} <= {value:g} s" for name, value in limits.items())


def _limit(limit: TierLimit, unit: str) -> str:
    if limit.where != "inside" and not limit.is_certain:
        kind = "for" if limit.where == "above" else "against"
        return f"not settled; what was measured speaks {kind} {limit.limit:g} {unit}, the end of the range"
    if limit.where == "above":
        return f"met up to {limit.limit:g} {unit} at least, the end of the range (--max-load)"
    if limit.where == "below":
        return f"not met at {limit.limit:g} {unit}, the least"
    return (
        f"met up to {limit.limit:g} {unit} [{limit.low:.3g}, {limit.high:.3g}]; "
        f"one step more fails with {limit.p_next_fails:.0%}"
    )
