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
from fewmark.screening.identities import (
    METRICS,
    NAMES,
    TIMES,
    Bounds,
    Values,
    bounds_of,
    is_exact,
    residuals,
    values_of,
)
from fewmark.screening.remembered import deployment_codes, remembered_of
from fewmark.screening.slips import (
    CLEAR,
    EXACT,
    LEAST_BY_VALUE,
    MUCH_LATER,
    RATES_OF_A_ROW,
    TIMES_OF_A_ROW,
    Slip,
    slips_by_value,
    slips_of,
)
from fewmark.tables.arrays import BoolArray, FloatArray

NEAR: Final = 0.06  # where three rows or more agree on it
AGREEING: Final = 3
RARE: Final = 0.2
SMALLEST: Final = 0.1  # of a logarithm: a factor nearer to 1 explains nothing
HELD: Final = -0.3  # a closed loop rarely holds less of its load than this, of a logarithm
LARGE: Final = float(np.log(3.0))  # a slip by less may as well be a load that was not held
SHARE: Final = 0.5  # of a deployment's rows, that must have the slip where it could be a load that was not held
CLOSENESS: Final = (0.03, 0.12)  # of a logarithm: steps in which a loop is the nearer to its load the likelier
VARIED: Final = float(np.log(1.5))  # what factors that follow the lengths, or rates of an open loop, must span
VARIED_ROWS: Final = 4
LATEST: Final = float(np.log(1e3))


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
    v = values_of(frame)
    found, exact = residuals(v), is_exact(frame, v)
    bounds = bounds_of(frame, found, exact)
    off = np.zeros(len(frame), dtype=bool)
    for name in NAMES:
        off |= bounds[name].broken(found[name])
    doubtful = _doubtful(frame, found, exact)
    slips: list[Slip] = []
    fits: list[BoolArray] = []
    ranks: list[tuple[float, ...]] = []
    by_value = slips_by_value(v, lambda: deployment_codes(frame))
    if by_value or (off | doubtful).any():
        deployments = deployment_codes(frame)
        worst = np.zeros(len(frame))  # how far the worst broken identity is off
        for name, bound in bounds.items():
            worst = np.maximum(worst, np.where(bound.broken(found[name]), np.abs(found[name]), 0.0))
        for slip in (*by_value, *slips_of(v)):
            fit, wrong, unheld = _fit(slip, v, found, exact, bounds, worst, off, doubtful, deployments)
            if fit.any():
                slips.append(slip)
                fits.append(fit)
                far = float(np.searchsorted(CLOSENESS, float(np.median(unheld[fit]))))
                ranks.append((-int(fit.sum()), round(float(np.median(wrong[fit])), 2), far, len(slip.undone)))
    chosen = np.full(len(frame), -1)
    for position in sorted(range(len(slips)), key=lambda i: (ranks[i], i), reverse=True):  # the likeliest comes last
        chosen[fits[position]] = position
    n_rows = [int((chosen == position).sum()) for position in range(len(slips))]
    return Explained(off | (chosen >= 0), chosen, slips, n_rows, found, v, bounds)


def _doubtful(frame: pd.DataFrame, found: Mapping[str, FloatArray], exact: BoolArray) -> BoolArray:
    """Rows that a slip may explain although nothing forbids them: a rate that is too low for a load that was held."""
    low = np.zeros(len(frame), dtype=bool)
    for name in ("output", "total", "requests", "offered"):
        with np.errstate(invalid="ignore"):
            low |= ~exact & (found[name] < -SMALLEST)
    return low


def _fit(
    slip: Slip,
    v: Values,
    found: Mapping[str, FloatArray],
    exact: BoolArray,
    bounds: Mapping[str, Bounds],
    worst: FloatArray,
    off: BoolArray,
    doubtful: BoolArray,
    deployments: np.ndarray,
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Rows that a slip explains, (n,): all its columns are known, and with it undone every identity holds.

    And how far the worst identity is off then, a logarithm, and how far a loop is from holding its load, another.
    """
    size = np.zeros(len(off))
    usable = np.ones(len(off), dtype=bool)
    changed = dict(v)
    for name, factor in slip.undone.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.log(factor)
        usable &= (
            np.isfinite(size) & (np.abs(size) > (LEAST_BY_VALUE if slip.by_value else SMALLEST)) & np.isfinite(v[name])
        )
        changed[name] = v[name] * factor
    if not slip.by_value:
        usable &= off | doubtful
    # undoing a large factor in a small part of the sum mends any small excess, and so is no evidence
    usable &= ~off | (worst > np.minimum(np.abs(size) / 2, CLEAR))
    if not usable.any():
        return usable, worst, worst
    after = residuals(changed)
    moved = np.zeros(len(off), dtype=bool)
    wrong = np.zeros(len(off))  # how far the worst identity is off, with the slip undone
    unheld = np.zeros(len(off))
    held = np.ones(len(off), dtype=bool)
    for name, bound in bounds.items():
        known = np.isfinite(after[name])
        loose = name in ("output", "total", "requests") and not slip.other_cell
        with np.errstate(invalid="ignore"):
            moved |= known & (np.abs(after[name] - found[name]) > (LEAST_BY_VALUE if slip.by_value else SMALLEST) / 2)
            if name == "offered" or (loose and not exact.all()):
                unheld = np.where(known & ~exact, np.maximum(unheld, np.abs(after[name])), unheld)
            if name in ("late", "offered"):
                held &= ~known | ~bound.broken(after[name])
                broken = bound.broken(found[name]) & ~np.isfinite(found["times"])
                if name == "late" and broken.any():  # any large factor mends it, so it must be off by much, and often
                    often = broken.sum() > SHARE * np.isfinite(found[name]).sum()
                    held &= ~broken | (often & (found[name] > MUCH_LATER) & (after[name] > -LATEST))
                continue
            sided = ~exact & loose
            held &= ~(known & sided) | ((after[name] > HELD) & (after[name] < SMALLEST))
            tight = known & ~sided
        if slip.other_cell:
            held &= ~tight | ~bound.broken(after[name])
        else:
            wrong = np.where(tight, np.maximum(wrong, np.abs(np.nan_to_num(after[name]))), wrong)
    fit = usable & moved & held & (wrong < NEAR)
    if not set(slip.undone) <= {*RATES_OF_A_ROW, "request_rate"}:
        fit &= off
    if fit.sum() < AGREEING:
        fit &= wrong < EXACT
        if fit.sum() < RARE * off.sum():  # among many rows that nothing explains, one comes near by chance
            fit[:] = False
    if slip.by_value:
        if fit.sum() < AGREEING:
            fit &= off | (np.abs(size) > SMALLEST)
        return fit, wrong, unheld
    # where nothing but a rate that is low for its load speaks for it, all of a deployment's rows must say the same
    alone = fit & doubtful & ~off
    if slip.ordinary:  # nor is it more where requests may have ended early, or input and output been counted together
        high = ~exact & np.isnan(found["per_request"])
        alone |= fit & np.isnan(found["rates"]) & np.where(size > 0, np.isnan(found["times"]), high)
    ordinary = np.log(slip.ordinary) if slip.ordinary else -np.inf
    for code in np.unique(deployments[alone]):
        rows = deployments == code
        rate = np.where(np.isfinite(found["output"]), found["output"], found["offered"])
        could = rows & np.isfinite(size) & (np.abs(size) > SMALLEST) & np.isfinite(rate)
        many = (fit & rows).sum()
        large = np.abs(size[fit & rows]).min() > LARGE
        enough = many > SHARE * could.sum() and (large or many >= AGREEING)
        is_open = bool(np.isfinite(found["offered"][fit & rows]).any())  # where rates fall short of load by themselves
        worst_after = np.abs(_worst(after, fit & rows))
        near = worst_after < (NEAR if is_open else -HELD if large and many > 1 else SMALLEST)
        # or the others hold what they should, and these are off by the slip's factor exactly
        held_rest = bool((np.abs(rate[could & ~fit]) < SMALLEST).all())
        apart = many >= AGREEING and held_rest and worst_after < NEAR
        clear = (enough and near) or apart
        if size[fit & rows].max() < ordinary:  # the factor must follow the lengths
            spans = bool((size[alone & rows] < 0).all()) or float(np.ptp(size[fit & rows])) > VARIED
            follows = many >= VARIED_ROWS and spans and worst_after < NEAR
            clear = clear and follows and (bool((fit | ~could).all()) or held_rest)
        if is_open:  # one that is saturated falls short by any factor, though not by the same one at several rates
            offered = np.log(v["request_rate"][fit & rows])
            clear = clear and many >= AGREEING and float(np.ptp(offered)) > VARIED
        if not clear:
            fit &= ~(rows & alone)
    return fit, wrong, unheld


def _worst(after: Mapping[str, FloatArray], rows: BoolArray) -> float:
    known = [after[name][rows] for name in ("output", "total", "requests", "offered")]
    joined = np.concatenate(known)
    joined = joined[np.isfinite(joined)]
    return float(joined[np.argmax(np.abs(joined))]) if len(joined) else 0.0


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
