"""Which deployment, at which setting: the cheapest that meets the objectives, how sure, and what would change it.

Notation: c candidates (cells); p_c the probability that c meets every objective; H_c money an hour; thr_c output tokens
per second, of which there are draws; cost_c = H_c / thr_c.

    ranking     candidates with p_c >= the assurance asked for, by expected cost; then the others, by p_c
    p_best      the share of draws in which c is the cheapest of those that meet the objectives
    regret      expected cost_c / (cheapest cost in the draw that meets the objectives) - 1, over draws where c does
    next one    the unmeasured candidate whose exact value would save most in expectation, by changing the choice

Draws are joint: candidates whose errors hang together are drawn together (`fewmark.decide.slo`). With R the correlation
of their normal scores z and sigma_c the deviation of log cost_c, what knowing i makes of another's expected cost is

    E[cost_c | i] = E[cost_c] exp(b z_i - b² / 2),  b = -R_ci sigma_c

Ranking, p_best and regret go by the same rates, those of `fewmark.decide.worlds`. Where nothing is believed of a rate
or of an objective's metric, the candidate cannot be judged: its p_c and p_best are unknown, and it is not among those
that the others are compared with.

p_c is the product over objectives: exact if their errors are independent, and too low (safe) where they rise and fall
together. Where no price is known, accelerators take money's place. Source: expected value of perfect information on one
alternative (Howard 1966; Gupta and Miescke 1996 for ranking and selection).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.core.fractions import require_fraction
from fewmark.core.values import Advice
from fewmark.decide.names import candidate_names
from fewmark.decide.slo import Distribution, Objective
from fewmark.decide.worlds import Worlds, bounded
from fewmark.models.feasibility import FEASIBLE, Feasibility
from fewmark.tables.arrays import BoolArray, FloatArray
from fewmark.tables.columns import load_of

RATE: Final = "throughput_tok_s"
SHOWN: Final = 3  # candidates named in a sentence
WORTH_NAMING: Final = 0.2  # the chance from which a cheaper candidate that is not sure is spoken of
WORTH_MEASURING: Final = 0.005  # of the choice's cost: below this no measurement is worth its while


@dataclass(frozen=True)
class Recommendation:
    """The candidates, best first (`table`, its index their position in the request), and what follows.

    `chosen` is the position of the best candidate that meets the objectives with the assurance asked for, or None.
    `next_measurement` is the position whose measurement could change the answer most, `next_metrics` what to measure
    there, `expected_saving` what knowing it is worth as a share of the choice's cost: unknown (NaN) where the candidate
    could not be judged so far. `names` are what the candidates are called, by position.
    """

    table: pd.DataFrame
    chosen: int | None
    next_measurement: int | None
    expected_saving: float
    advice: tuple[Advice, ...]
    names: tuple[str, ...] = ()
    next_metrics: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """JSON-ready: unknown is null."""
        rows = self.table.astype(object).where(self.table.notna(), None)
        return {
            "chosen": self.chosen,
            "recommended": None if self.chosen is None else self.names[self.chosen],
            "next_measurement": self.next_measurement,
            "measure_next": None if self.next_measurement is None else self.names[self.next_measurement],
            "next_metrics": list(self.next_metrics),
            "expected_saving": self.expected_saving if np.isfinite(self.expected_saving) else None,
            "candidates": [
                {"candidate": int(at), "name": self.names[at], **row}
                for at, row in zip(rows.index, rows.to_dict("records"), strict=True)
            ],
            "advice": [{"code": a.code, "message": a.message, "hint": a.hint} for a in self.advice],
        }


def recommend(
    cells: pd.DataFrame,
    throughput: Distribution,
    hourly: FloatArray,
    objectives: Sequence[tuple[Objective, Distribution]],
    measured: NDArray[np.bool_],
    *,
    feasible: Feasibility | None = None,
    assurance: float = 0.9,
    random_state: int = 0,
) -> Recommendation:
    """Rank candidates.

    Parameters
    ----------
    cells : DataFrame (c,)
    throughput : of output tokens per second
    hourly : array (c,), money an hour (or accelerators); NaN unknown
    objectives : each with what is believed of its metric
    measured : array (c,) of bool, whether the candidate was measured (measuring it again tells nothing new)
    feasible : whether each candidate can run at all; None: all can

    Raises
    ------
    InputError
        If there is no candidate, or the assurance is no probability.
    """
    n = len(cells)
    if not n:
        raise InputError("there is nothing to choose from", hint="give measured data, or a space of cells")
    require_fraction("the assurance", assurance)
    measured = np.asarray(measured, dtype=bool)
    throughput = bounded(throughput, cells, measured)
    met = np.column_stack([belief.probability(objective) for objective, belief in objectives]) if objectives else None
    probability = np.ones(n) if met is None else met.prod(axis=1)
    probability = np.where(throughput.known, probability, np.nan)
    runs = np.ones(n) if feasible is None else feasible.probability
    cannot = runs < FEASIBLE
    probability = np.where(cannot, 0.0, probability * runs)
    value = np.where(cannot, np.nan, throughput.median)
    cost = hourly / value
    known = np.isfinite(cost) & np.isfinite(probability)
    worlds = Worlds(
        cells, throughput, hourly, objectives, np.where(cannot, 0.0, runs), measured, known | cannot, random_state
    )
    table = pd.DataFrame({"probability": probability, "throughput_tok_s": value, "relative_cost": cost / np.nanmin(cost)
                          if np.isfinite(cost).any() else np.full(n, np.nan)})  # fmt: skip
    for objective, belief in objectives:
        median, low, high = (np.where(cannot, np.nan, one) for one in (belief.median, *_ends(belief)))
        if objective.metric not in table:
            table[objective.metric] = median
        table[f"{objective.metric}_low"], table[f"{objective.metric}_high"] = low, high
        table[f"probability.{objective.metric}"] = belief.probability(objective)
    if feasible is not None and any(feasible.reason):
        table["feasible"] = runs
        table["why_not_feasible"] = [reason or None for reason in feasible.reason]
    table["throughput_low"], table["throughput_high"] = (np.where(cannot, np.nan, end) for end in _ends(throughput))
    table["p_best"] = worlds.p_best()
    table["regret"] = worlds.regret()
    table["pareto"] = _pareto(np.column_stack([cost, *_burdens(objectives)]))
    sure = known & (probability >= assurance)
    order = np.lexsort((np.where(sure, cost, np.where(known, -probability, np.inf)), ~sure, ~known, cannot))
    chosen = int(order[0]) if sure.any() else None
    unknown = _unknown_metrics(throughput, objectives, cannot)
    table["unknown"] = [", ".join(names) or None for names in unknown]
    settled = measured.copy()
    for _, belief in objectives:
        settled &= measured if belief.measured is None else belief.measured
    after, saving = worlds.next_measurement(chosen, settled, sure)
    if saving < WORTH_MEASURING:
        after, saving = _first_unjudged(unknown, hourly / throughput.median, cells), np.nan
    names = tuple(candidate_names(cells))
    return Recommendation(
        table=table.iloc[order],
        chosen=chosen,
        next_measurement=after,
        expected_saving=0.0 if after is None else float(saving),
        advice=(
            *_advice(names, unknown, sure, probability, assurance, objectives),
            *([] if chosen is None else _cheaper(names, chosen, cost, probability, known)),
            *([] if feasible is None else _about_memory(feasible, chosen)),
        ),
        names=names,
        next_metrics=() if after is None else unknown[after] or _metrics(objectives),
    )


def _ends(belief: Distribution) -> tuple[FloatArray, FloatArray]:
    """The ends of the 90% intervals, (n,) each."""
    return belief.quantile(0.05), belief.quantile(0.95)


def _metrics(objectives: Sequence[tuple[Objective, Distribution]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((RATE, *(objective.metric for objective, _ in objectives))))


def _unknown_metrics(
    throughput: Distribution, objectives: Sequence[tuple[Objective, Distribution]], cannot: BoolArray
) -> list[tuple[str, ...]]:
    """Of each candidate the metrics of which nothing is believed: why it cannot be judged."""
    beliefs = [(RATE, throughput), *((objective.metric, belief) for objective, belief in objectives)]
    silent = [(metric, ~belief.known & ~cannot) for metric, belief in beliefs]
    return [tuple(dict.fromkeys(metric for metric, out in silent if out[row])) for row in range(len(cannot))]


def _first_unjudged(unknown: Sequence[tuple[str, ...]], cost: FloatArray, cells: pd.DataFrame) -> int | None:
    """The candidate that cannot be judged and is worth measuring first: the cheapest, else that of the lowest load."""
    rows = np.array([row for row, names in enumerate(unknown) if names], dtype=np.intp)
    if not len(rows):
        return None
    return int(rows[np.lexsort((load_of(cells)[rows], cost[rows]))[0]])


def _about_memory(feasible: Feasibility, chosen: int | None) -> list[Advice]:
    out = []
    silent = np.flatnonzero(feasible.infeasible)
    if len(silent):
        first = feasible.reason[silent[0]].removeprefix("infeasible: ")
        more = f"{len(silent)} candidates cannot run" if len(silent) > 1 else "one candidate cannot run"
        out.append(Advice("infeasible", f"{more}: {first}", "the column why_not_feasible says it of each"))
    if chosen is not None and feasible.reason[chosen]:
        out.append(Advice("may-not-fit", f"the choice: {feasible.reason[chosen]}", "measure it before it is deployed"))
    return out


def _burdens(objectives: Sequence[tuple[Objective, Distribution]]) -> list[FloatArray]:
    """What there should be less of, one array (c,) an objective."""
    return [-belief.median if objective.higher_is_better else belief.median for objective, belief in objectives]


def _pareto(burdens: FloatArray) -> NDArray[np.bool_]:
    """Which rows no other one beats: at most as much of everything and less of something, (c,)."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(burdens).all(axis=1))
    out = np.array(known)
    for row in np.flatnonzero(known):
        less = (burdens[known] <= burdens[row]).all(axis=1) & (burdens[known] < burdens[row]).any(axis=1)
        out[row] = not less.any()
    return out


def _advice(
    names: Sequence[str],
    unknown: Sequence[tuple[str, ...]],
    sure: BoolArray,
    probability: FloatArray,
    assurance: float,
    objectives: Sequence[tuple[Objective, Distribution]],
) -> list[Advice]:
    out = []
    silent = [row for row, metrics in enumerate(unknown) if metrics]
    if objectives and not sure.any():
        limits = ", ".join(str(objective) for objective, _ in objectives)
        judged = probability[np.isfinite(probability)]
        if not len(judged):
            text = f"whether anything here meets {limits} is unknown: no candidate can be judged"
        else:
            most = f"the best {'of those that can be judged ' if silent else ''}has {percent(float(judged.max()))}"
            text = f"nothing here {'is known to meet' if silent else 'meets'} {limits} with a probability of "
            text += f"{assurance:.0%}: {most}"
        hint = "loosen the objectives, lower the assurance, add accelerators, or measure what is proposed next"
        out.append(Advice("no-candidate", text, hint))
    if silent:
        metrics = ", ".join(dict.fromkeys(metric for row in silent for metric in unknown[row]))
        listed = "; ".join(names[row] for row in silent[:SHOWN]) + ("; …" if len(silent) > SHOWN else "")
        out.append(
            Advice(
                "not-predicted",
                f"{len(silent)} of {len(names)} candidates cannot be judged and are not compared: nothing is known of "
                f"their {metrics} ({listed})",
                f"measure {metrics} there; fewmark plan says which cells teach the most",
            )
        )
    return out


def _cheaper(
    names: Sequence[str], chosen: int, cost: FloatArray, probability: FloatArray, known: BoolArray
) -> list[Advice]:
    """What would cost less, and does not meet the objectives surely enough, where it may well do."""
    rows = np.flatnonzero(known & (cost < cost[chosen]) & (probability >= WORTH_NAMING))
    rows = rows[np.argsort(-probability[rows], kind="stable")]
    if not len(rows):
        return []
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return [
        Advice(
            "cheaper-but-unsure",
            f"cheaper, but less sure to meet the objectives: {names[rows[0]]} ({percent(probability[rows[0]])}){more}",
            "measure it, or lower the assurance",
        )
    ]


def percent(share: float) -> str:
    """A probability for people: what is not certain is not rounded to 0% or 100%."""
    if not np.isfinite(share):
        return "unknown"
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 - 1e-9 else f"{share:.0%}"
