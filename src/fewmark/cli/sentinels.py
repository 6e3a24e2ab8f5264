"""What `fewmark run --sentinels` prints, on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fewmark.verbs.sentinels import Checked


def show_checked(checked: Sequence[Checked]) -> None:
    """One paragraph a deployment: whether it changed, by how much, what expires."""
    if not checked:
        click.echo("no sentinel could be measured: nothing is known of a change", err=True)
    for one in checked:
        versions = f" ({one.before} → {one.now})" if one.before != one.now and one.before and one.now else ""
        failed = f", {one.n_failed} of them failed" if one.n_failed else ""
        click.echo(
            f"{one.deployment}{versions}: {one.n_sentinels} of {one.n_old} cells measured again{failed}; by a noise of "
            f"{one.noise:.1%}, no change at all has a probability of {one.p_value:.2g}",
            err=True,
        )
        if not one.changed:
            click.echo("  nothing has changed as far as these tell; what was measured still holds", err=True)
            continue
        click.echo(
            f"  it has changed: latencies are {one.ratio:.3g} times the old ones ({one.low:.3g} to {one.high:.3g}); "
            f"{len(one.expired)} of {one.n_old} results expired, the next run measures them again",
            err=True,
        )
