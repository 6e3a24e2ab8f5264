"""What is left of a budget, and how far predicted costs can be believed while it is spent.

Costs on a machine that nothing is known of are guesses. So the first cell is a probe, the budget is looked at before
each cell, and what the latest cells really took, as a multiple of what was predicted, counts for the next ones. A cell
that has begun is finished: a budget is exceeded by one cell and its engine's start at most, or by one a lane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import geometric_mean
from typing import Final

from fewmark.core import Advice, Case
from fewmark.planning.planner import Proposal

LATEST: Final = 3  # cells whose costs say how far the next ones' predictions are off
MOST_DEARER: Final = 1000.0


@dataclass(frozen=True, slots=True)
class CellCost:
    """What one cell was predicted to cost and cost, its engine's start included, in seconds."""

    case: Case
    predicted_s: float
    cost_s: float


@dataclass
class Budget:
    """A limit in seconds (None: no limit) and what cells have cost against their predictions."""

    limit_s: float | None
    taken: list[CellCost] = field(default_factory=list)

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.limit_s is not None

    def left_s(self, spent_s: float) -> float:
        """Seconds left; below 0 once it is exceeded."""
        return math.inf if self.limit_s is None else self.limit_s - spent_s

    @property
    def dearer(self) -> float:
        """How many times what is predicted the next cells may cost: what the latest ones did, 1 at least."""
        ratios = [one.cost_s / one.predicted_s for one in self.taken[-LATEST:] if one.predicted_s > 0 < one.cost_s]
        return min(max(geometric_mean(ratios), 1.0), MOST_DEARER) if ratios else 1.0

    def advice(self, spent_s: float) -> Advice | None:
        """What to say where more was spent than the limit; None where not."""
        if self.limit_s is None or spent_s <= self.limit_s:
            return None
        over = f"{spent_s:.4g} s were spent, {spent_s - self.limit_s:.4g} s beyond the budget of {self.limit_s:.4g} s"
        if not self.taken:
            return Advice("over-budget", f"{over}, before this campaign", "a larger budget, or another store")
        last = self.taken[-1]
        work = last.case.workload
        return Advice(
            "over-budget",
            f"{over}: the last cell ({work.input_tokens:g} in, {work.output_tokens:g} out, {work.load_label}) took "
            f"{last.cost_s:.4g} s with its engine's start, where {last.predicted_s:.4g} s were predicted",
            "a cell that has begun is finished; the next campaign on this machine predicts by what this one took",
        )


def portions(batch: Sequence[Proposal], deployment: Sequence[int], lanes: int) -> list[list[Proposal]]:
    """The cells of a batch to measure between two looks at the budget: one a lane, each lane another deployment.

    `deployment` is that of each proposal; cells of one deployment follow one another, so that its engine stays loaded.
    """
    order = list(dict.fromkeys(deployment))
    pairs = sorted(zip(deployment, batch, strict=True), key=lambda pair: order.index(pair[0]))
    if lanes == 1:
        return [[proposal] for _, proposal in pairs]
    queues = [[proposal for _, proposal in some] for _, some in groupby(pairs, key=lambda pair: pair[0])]
    out = []
    while queues:
        out.append([queue.pop(0) for queue in queues[:lanes]])
        queues = [queue for queue in queues if queue]
    return out
