"""Which of the well-known slips (`slips`) explains that a row contradicts itself.

A slip changes one column, or several in the same way: undone, every identity of the row holds (`identities`). Of slips
that explain a row alike, the one that explains most rows of its table is the likeliest; the more rows it explains, the
less exactly it must. A slip that says that the load, or the length, was another than stated changes what was measured
and not how long it took: its rows are excluded, all others corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.fits import evidence_of, fit_of
from fewmark.screening.identities import METRICS, TIMES, Bounds, Values
from fewmark.screening.remembered import deployment_codes, remembered_of
from fewmark.screening.slips import EXACT, TIMES_OF_A_ROW, Slip, slips_by_value, slips_of
from fewmark.tables.arrays import BoolArray, FloatArray

CLOSENESS: Final = (0.03, 0.12)  # of a logarithm: steps in which a loop is the nearer to its load the likelier


@dataclass(frozen=True)
class Explained:
    """The rows of a table that contradict themselves: which (n,), and of each the position in `slips`, or -1.

    `n_rows` counts the rows that each slip explains; `found` are the residuals, `values` the columns as numbers.
    """

    off: BoolArray
    slip: np.ndarray
    slips: list[Slip]
    n_rows: list[int]
    found: Mapping[str, FloatArray]
    values: Values
    bounds: Mapping[str, Bounds]

    @property
    def by_times(self) -> BoolArray:
        """Rows whose times contradict each other, or are what a slip changed, (n,)."""
        out = np.zeros(len(self.off), dtype=bool)
        for name in TIMES:
            out |= self.bounds[name].broken(self.found[name])
        for number, slip in enumerate(self.slips):
            if set(slip.undone) <= set(TIMES_OF_A_ROW):
                out |= self.slip == number
        return out & self.off


def explain(frame: pd.DataFrame) -> Explained:
    """The rows that break an identity, and the likeliest slip of each. Worked out once where tables are remembered."""
    return remembered_of(frame, "explained", _explain)


def _explain(frame: pd.DataFrame) -> Explained:
    said = evidence_of(frame)
    slips: list[Slip] = []
    fits: list[BoolArray] = []
    ranks: list[tuple[float, ...]] = []
    by_value = slips_by_value(said.values, lambda: deployment_codes(frame))
    if by_value or (said.off | said.doubtful).any():
        deployments = deployment_codes(frame)
        for slip in (*by_value, *slips_of(said.values)):
            fit = fit_of(slip, said, deployments)
            if fit.rows.any():
                slips.append(slip)
                fits.append(fit.rows)
                far = float(np.searchsorted(CLOSENESS, float(np.median(fit.unheld[fit.rows]))))
                wrong = round(float(np.median(fit.wrong[fit.rows])), 2)
                ranks.append((-int(fit.rows.sum()), wrong, far, len(slip.undone)))
    chosen = np.full(len(frame), -1)
    for position in sorted(range(len(slips)), key=lambda i: (ranks[i], i), reverse=True):  # the likeliest comes last
        chosen[fits[position]] = position
    n_rows = [int((chosen == position).sum()) for position in range(len(slips))]
    return Explained(said.off | (chosen >= 0), chosen, slips, n_rows, said.found, said.values, said.bounds)


def changes_of(slip: Slip, frame: pd.DataFrame, position: int) -> dict[str, float]:
    """What the columns of a row hold with a slip undone; only metrics are ever changed."""
    row = frame.iloc[position]
    return {name: float(row[name]) * float(factor[position]) for name, factor in slip.undone.items() if name in METRICS}


def finding_of(rule: str, frame: pd.DataFrame, explained: Explained, position: int) -> Finding:
    """The finding of a row that contradicts itself: corrected where a slip of its metrics explains it."""
    row, number, said = int(frame.index[position]) + 1, int(explained.slip[position]), told(explained, position)
    if number < 0:
        return Finding(row, rule, f"{said}; {_unexplained(explained, position)}", "exclude")
    slip, count = explained.slips[number], explained.n_rows[number]
    alike = f"; so in {count} of {len(frame)} rows" if count > 1 else ""
    changes = {} if slip.other_cell else changes_of(slip, frame, position)
    if changes:
        now = " and ".join(f"{name} {value:.4g}" for name, value in changes.items())
        return Finding(row, rule, f"{said}: {slip.words}; taken as {now}{alike}", "correct", changes)
    words = slip.words
    if "output_tokens" in slip.undone:
        asked, given = (explained.values[name][position] for name in ("output_tokens", "input_tokens"))
        length = asked * slip.undone["output_tokens"][position]
        words += f", after about {length:.0f} of {asked:g} tokens"
        if abs(np.log(length / given)) < EXACT:
            words += " (or input_tokens and output_tokens are interchanged)"
    return Finding(row, rule, f"{said}: {words}, so another cell was measured than this one{alike}", "exclude")


def _unexplained(explained: Explained, position: int) -> str:
    """What may be the case where no slip explains a row."""
    v, off = explained.values, explained.found["times"][position]
    if not np.isfinite(off) or not explained.bounds["times"].broken(explained.found["times"])[position]:
        return "which of the two is wrong is unknown"
    decode = float(v["e2e_latency_s"][position] - v["ttft_s"][position])
    if off < 0 < decode:
        tpot, oo = float(v["tpot_s"][position]), float(v["output_tokens"][position])
        chunk = tpot * (oo - 1) / decode
        return (
            f"either it ended early, after about {decode / tpot + 1:.0f} of {oo:g} tokens, or tpot_s is the gap "
            f"between chunks of {chunk:.1f} tokens"
        )
    return "which of the three is wrong is unknown"


def told(explained: Explained, position: int) -> str:
    """What contradicts what in a row, with the numbers."""
    for name in TIMES:
        if explained.bounds[name].broken(explained.found[name])[position]:
            return _told_times(explained, position)
    return _told_rates(explained, position)


def _told_times(explained: Explained, position: int) -> str:
    """What the times of a row say of each other."""
    e, f, p, oo = (
        float(explained.values[name][position]) for name in ("e2e_latency_s", "ttft_s", "tpot_s", "output_tokens")
    )
    if np.isnan(f + p) or not np.isfinite(explained.found["times"][position]):
        return f"the first token came after {f:.4g} s, the last one after {e:.4g} s"
    return (
        f"the last token came after {e:.4g} s, but {f:.4g} s to the first and {oo - 1:g} × {p:.4g} s make "
        f"{f + (oo - 1) * p:.4g} s"
    )


def _told_rates(explained: Explained, position: int) -> str:
    """What the rates of a row say of its times and of each other."""
    parts = {
        "output": ("throughput_tok_s", "load, output tokens and latency make"),
        "total": ("total_throughput_tok_s", "load, tokens and latency make"),
        "requests": ("request_throughput_req_s", "load and latency make"),
        "per_request": ("throughput_tok_s", "requests a second and output tokens make"),
        "rates": ("total_throughput_tok_s", "throughput_tok_s and the tokens make"),
        "offered": ("throughput_tok_s", "the requests sent and their output tokens make no more than"),
    }
    number = int(explained.slip[position])
    moved = set(explained.slips[number].undone) if number >= 0 else set()
    best, size = "output", -1.0
    for name, (column, _) in parts.items():
        value = explained.found[name][position]
        # the column that a slip names tells most
        weight = abs(value) + (100.0 if column in moved else 0.0) if np.isfinite(value) else -1.0
        if weight > size:
            best, size = name, weight
    column, made = parts[best]
    reported, ratio = float(explained.values[column][position]), float(np.exp(explained.found[best][position]))
    return f"{column} is {reported:.4g}, but {made} {reported / ratio:.4g} ({ratio:.3g} times)"
