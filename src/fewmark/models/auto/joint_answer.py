"""Three latency processes that answer as one: projected onto what the definitions allow, and kept in order.

The notation is that of `fewmark.models.auto.model`; m cells are asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from fewmark.models.auto.conformity_scores import LeftOut
from fewmark.models.auto.estimate import JUDGED_LEVEL, MAX_SPAN, CalibratedEstimate, LatencyEstimate, Scored
from fewmark.models.auto.features import Features
from fewmark.models.auto.latency_gp import LatencyGP
from fewmark.models.auto.limits import Order
from fewmark.models.auto.local_experts import Situation
from fewmark.models.auto.monotone import correction
from fewmark.models.auto.order_of_rates import keep_rate
from fewmark.models.auto.reconciliation import TrustChoice, agree, distrust, select_trust, stretched
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.metrics import E2E, LATENCIES, TPOT, TTFT, tokens_and_load

KNOWN_BY_ITSELF: Final = 5.0  # the factor between the ends of a 90% interval

Choice = tuple[Mapping[str, Situation], TrustChoice | None]
"""The situation of a deployment, by latency, and which of these to trust there."""


@dataclass(frozen=True, slots=True)
class JointProcesses:
    """The processes of the three latencies, fitted to the same cells.

    Attributes
    ----------
    own : str
        The latency that is asked about.
    processes : mapping
        By latency.
    order : Order or None
        What cells may not break.
    numbering : str
        The latency whose process numbers the deployments of `order`.
    """

    own: str
    processes: Mapping[str, LatencyGP]
    order: Order | None
    numbering: str

    @property
    def process(self) -> LatencyGP:
        """That of the latency that is asked about."""
        return self.processes[self.own]

    def estimates(self, X: pd.DataFrame) -> dict[str, LatencyEstimate]:
        """What each process says by itself."""
        return {name: process.estimate(X) for name, process in self.processes.items()}

    def choices(self, found: Mapping[str, LatencyEstimate]) -> list[Choice]:
        """For each deployment asked for: its situation, and which of the three latencies to trust there."""
        names = list(self.processes)
        situations = [process.experts_.situations(found[name].features) for name, process in self.processes.items()]
        out: list[Choice] = []
        for each in zip(*situations, strict=True):
            of = dict(zip(names, each, strict=True))
            out.append((of, _choice({name: left for name, (_, left, _) in of.items()})))
        return out

    def scored(self, choices: list[Choice], latency: str | None = None) -> list[Scored]:
        """For each deployment asked for: the asked rows, the scores that apply, and octaves beyond the known cells."""
        name = self.own if latency is None else latency
        situations = [(of[name], choice) for of, choice in choices]
        return [
            (rows, left.scores if choice is None else choice.scores[name], outside)
            for (rows, left, outside), choice in situations
        ]

    def reconciled(
        self, X: pd.DataFrame, found: Mapping[str, LatencyEstimate], choices: list[Choice]
    ) -> CalibratedEstimate:
        """The own latency under the definitions."""
        each, logs, sds = self._agreed(X, found, choices)
        output_tokens = tokens_and_load(X)[1]
        own = self.own
        table = each[own].features
        self._let_rise(X, table, logs)
        numbered = each[self.numbering].features
        if self.order is not None:
            self.order.keep(numbered.axes, numbered.deployment, {name: logs[name] for name in (TTFT, TPOT)})
        floors = {name: each[name].floor for name in (TTFT, TPOT)}
        for name, floor in floors.items():
            logs[name] = np.maximum(logs[name], floor)
        with np.errstate(divide="ignore"):
            logs[E2E] = np.logaddexp(logs[TTFT], np.log(output_tokens - 1) + logs[TPOT])
        if self.order is not None:
            keep_rate(self.order, numbered, logs, sds, floors, output_tokens)
        together = {
            name: replace(one, mean=logs[name], sd=sds[name], silent=self.process.out_of_reach(table))
            for name, one in each.items()
        }
        return together[own].silent_where(self._is_vague(found, together, choices))

    def _is_vague(
        self,
        found: Mapping[str, LatencyEstimate],
        together: Mapping[str, CalibratedEstimate],
        choices: list[Choice],
    ) -> BoolArray:
        """Where too little is known of the own latency for an answer, (m,).

        What follows from latencies that are answered is answered. What follows from one that is not, only if it is
        known by itself, as the rate of a plateau whose users wait nobody knows how long.
        """

        def is_vague(name: str, span: float) -> BoolArray:
            process = self.processes[name]
            extra = process.extra_width(JUDGED_LEVEL)
            too_wide = together[name].spans_more(span, self.scored(choices, name), extra)
            return process.is_unsure(found[name]) | too_wide

        if self.own != E2E:
            return is_vague(self.own, MAX_SPAN)
        follows_from_none = is_vague(TTFT, MAX_SPAN) | is_vague(TPOT, MAX_SPAN)
        if not follows_from_none.any():
            return follows_from_none
        return np.asarray(follows_from_none & is_vague(E2E, KNOWN_BY_ITSELF))

    def _agreed(
        self, X: pd.DataFrame, found: Mapping[str, LatencyEstimate], choices: list[Choice]
    ) -> tuple[dict[str, CalibratedEstimate], dict[str, FloatArray], dict[str, FloatArray]]:
        """What the processes say, and the logs and standard deviations of each latency under the definitions."""
        each = {name: process.calibrated(found[name]) for name, process in self.processes.items()}
        trust = {name: np.ones(len(X)) for name in LATENCIES}
        for of, choice in choices:
            rows = of[self.own][0]
            for name, inflation in (distrust(E2E) if choice is None else choice.inflation).items():
                trust[name][rows] = inflation
        sds = stretched({name: one.sd for name, one in each.items()}, trust)
        variances = {name: sd**2 for name, sd in sds.items()}
        logs, ratio = agree({name: one.mean for name, one in each.items()}, variances, tokens_and_load(X)[1])
        return each, logs, {name: sd * np.sqrt(ratio[name]) for name, sd in sds.items()}

    def _let_rise(self, X: pd.DataFrame, table: Features, logs: dict[str, FloatArray]) -> None:
        """Let T and P of deployments of which nothing is measured not fall as work grows, in place."""
        rows = self.process.strange(table)
        if not len(rows):
            return

        def say(cells: pd.DataFrame) -> FloatArray:
            found = self.estimates(cells)
            agreed = self._agreed(cells, found, self.choices(found))[1]
            return np.stack([agreed[TTFT], agreed[TPOT]])

        moved = correction(X.iloc[rows], table.axes[rows], table.deployment[rows], self.process.grid(), say)
        logs[TTFT][rows] += moved[0]
        logs[TPOT][rows] += moved[1]


def _choice(left: dict[str, LeftOut]) -> TrustChoice | None:
    """Which latency to trust, by the same cells; None where the processes do not know the same."""
    one, *others = left.values()
    if any(not np.array_equal(one.axes, other.axes) for other in others):
        return None
    if not all(np.isfinite(each.offset).all() for each in left.values()):
        return None
    return select_trust(left, np.exp2(one.axes[:, 1]))
