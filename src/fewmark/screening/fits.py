"""Which rows a slip (`slips`) explains: undone, every identity of the row holds, and little else would explain it.

Three kinds of evidence are weighed one after another: the row's own identities with the slip undone, how many rows
agree, and, where nothing forbids a row but a rate that is low for its load, what the rest of its deployment says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.identities import NAMES, Bounds, Values, bounds_of, is_exact, residuals, values_of
from fewmark.screening.slips import CLEAR, EXACT, LEAST_BY_VALUE, MUCH_LATER, RATES_OF_A_ROW, Slip
from fewmark.tables.arrays import BoolArray, FloatArray

NEAR: Final = 0.06  # where three rows or more agree on it
AGREEING: Final = 3
RARE: Final = 0.2
SMALLEST: Final = 0.1  # of a logarithm: a factor nearer to 1 explains nothing
HELD: Final = -0.3  # a closed loop rarely holds less of its load than this, of a logarithm
LARGE: Final = float(np.log(3.0))  # a slip by less may as well be a load that was not held
SHARE: Final = 0.5  # of a deployment's rows, that must have the slip where it could be a load that was not held
VARIED: Final = float(np.log(1.5))  # what factors that follow the lengths, or rates of an open loop, must span
VARIED_ROWS: Final = 4
LATEST: Final = float(np.log(1e3))
RATES: Final = ("output", "total", "requests")  # identities whose rate may be low because a loop held less than stated
LOADS: Final = (*RATES, "offered")


@dataclass(frozen=True)
class Evidence:
    """What a table says of itself before any slip is undone; arrays are (n,).

    `off` are the rows that break an identity, `worst` by how much the worst one, of a logarithm; `doubtful` those that
    a slip may explain although nothing forbids them: a rate that is too low for a load that was held.
    """

    values: Values
    found: Mapping[str, FloatArray]
    bounds: Mapping[str, Bounds]
    exact: BoolArray
    off: BoolArray
    doubtful: BoolArray
    worst: FloatArray


@dataclass(frozen=True)
class Fit:
    """The rows that a slip explains, (n,).

    With it undone, `wrong` is how far the worst identity of a row is off and `unheld` how far its loop is from holding
    its load, both of a logarithm.
    """

    rows: BoolArray
    wrong: FloatArray
    unheld: FloatArray


@dataclass(frozen=True)
class _Undone:
    """A table with a slip undone: by which factor's logarithm, in which rows it can be, and the residuals then."""

    slip: Slip
    size: FloatArray
    usable: BoolArray
    after: Mapping[str, FloatArray]

    @property
    def least(self) -> float:
        """The smallest factor that explains anything, of a logarithm."""
        return LEAST_BY_VALUE if self.slip.by_value else SMALLEST


def evidence_of(frame: pd.DataFrame) -> Evidence:
    """What the identities of a table's rows say."""
    values = values_of(frame)
    found, exact = residuals(values), is_exact(frame, values)
    bounds = bounds_of(frame, found, exact)
    off, worst = np.zeros(len(frame), dtype=bool), np.zeros(len(frame))
    for name in NAMES:
        broken = bounds[name].broken(found[name])
        off |= broken
        worst = np.maximum(worst, np.where(broken, np.abs(found[name]), 0.0))
    doubtful = np.zeros(len(frame), dtype=bool)
    for name in LOADS:
        with np.errstate(invalid="ignore"):
            doubtful |= ~exact & (found[name] < -SMALLEST)
    return Evidence(values, found, bounds, exact, off, doubtful, worst)


def fit_of(slip: Slip, said: Evidence, deployments: np.ndarray) -> Fit:
    """Rows that a slip explains; `deployments` (n,) tells which rows belong together."""
    undone = _undone(slip, said)
    if not undone.usable.any():
        return Fit(undone.usable, said.worst, said.worst)
    fit = _by_identities(undone, said)
    rows = _by_agreement(undone, said, fit)
    if not slip.by_value:
        rows = _by_deployment(undone, said, rows, deployments)
    return Fit(rows, fit.wrong, fit.unheld)


def _undone(slip: Slip, said: Evidence) -> _Undone:
    """The table with a slip undone, where all its columns are known and its factor is large enough to matter."""
    size = np.zeros(len(said.off))
    usable = np.ones(len(said.off), dtype=bool)
    changed = dict(said.values)
    least = LEAST_BY_VALUE if slip.by_value else SMALLEST
    for name, factor in slip.undone.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.log(factor)
        usable &= np.isfinite(size) & (np.abs(size) > least) & np.isfinite(said.values[name])
        changed[name] = said.values[name] * factor
    if not slip.by_value:
        usable &= said.off | said.doubtful
    # undoing a large factor in a small part of the sum mends any small excess, and so is no evidence
    usable &= ~said.off | (said.worst > np.minimum(np.abs(size) / 2, CLEAR))
    return _Undone(slip, size, usable, residuals(changed) if usable.any() else {})


def _by_identities(undone: _Undone, said: Evidence) -> Fit:
    """Rows whose own identities hold with the slip undone, and did not care for it by chance."""
    moved = np.zeros(len(said.off), dtype=bool)
    wrong, unheld = np.zeros(len(said.off)), np.zeros(len(said.off))
    held = np.ones(len(said.off), dtype=bool)
    for name, bound in said.bounds.items():
        after, before = undone.after[name], said.found[name]
        known = np.isfinite(after)
        loose = name in RATES and not undone.slip.other_cell
        with np.errstate(invalid="ignore"):
            moved |= known & (np.abs(after - before) > undone.least / 2)
            if name == "offered" or (loose and not said.exact.all()):
                unheld = np.where(known & ~said.exact, np.maximum(unheld, np.abs(after)), unheld)
            if name in ("late", "offered"):
                held &= ~known | ~bound.broken(after)
                if name == "late":
                    held &= _late_enough(said, after)
                continue
            sided = ~said.exact & loose
            held &= ~(known & sided) | ((after > HELD) & (after < SMALLEST))
            tight = known & ~sided
        if undone.slip.other_cell:
            held &= ~tight | ~bound.broken(after)
        else:
            wrong = np.where(tight, np.maximum(wrong, np.abs(np.nan_to_num(after))), wrong)
    rows = undone.usable & moved & held & (wrong < NEAR)
    if not set(undone.slip.undone) <= {*RATES_OF_A_ROW, "request_rate"}:
        rows &= said.off
    return Fit(rows, wrong, unheld)


def _late_enough(said: Evidence, after: FloatArray) -> BoolArray:
    """Where a first token later than the last one may be a slip: any large factor mends it, so by much, and often."""
    before = said.found["late"]
    broken = said.bounds["late"].broken(before) & ~np.isfinite(said.found["times"])
    often = bool(broken.sum() > SHARE * np.isfinite(before).sum())
    with np.errstate(invalid="ignore"):
        return ~broken | (often & (before > MUCH_LATER) & (after > -LATEST))


def _by_agreement(undone: _Undone, said: Evidence, fit: Fit) -> BoolArray:
    """Rows that many agree on, or that the slip explains exactly: among many, one comes near by chance."""
    rows = fit.rows.copy()
    if rows.sum() < AGREEING:
        rows &= fit.wrong < EXACT
        if rows.sum() < RARE * said.off.sum():
            rows[:] = False
    if undone.slip.by_value and rows.sum() < AGREEING:
        rows &= said.off | (np.abs(undone.size) > SMALLEST)
    return rows


def _by_deployment(undone: _Undone, said: Evidence, fit: BoolArray, deployments: np.ndarray) -> BoolArray:
    """Without rows for which only a rate speaks that is low for its load, unless their whole deployment says so."""
    alone = fit & said.doubtful & ~said.off
    if undone.slip.ordinary:  # nor where requests may have ended early, or input and output been counted together
        high = ~said.exact & np.isnan(said.found["per_request"])
        times_unknown = np.isnan(said.found["times"])
        alone |= fit & np.isnan(said.found["rates"]) & np.where(undone.size > 0, times_unknown, high)
    rows = fit.copy()
    for code in np.unique(deployments[alone]):
        own = deployments == code
        if not _is_clear(undone, said, rows, own, alone):
            rows &= ~(own & alone)
    return rows


def _is_clear(undone: _Undone, said: Evidence, fit: BoolArray, own: BoolArray, alone: BoolArray) -> bool:
    """Whether a deployment's rows (`own`) speak for a slip and not for a load that was not held."""
    size = undone.size
    rate = np.where(np.isfinite(said.found["output"]), said.found["output"], said.found["offered"])
    could = own & np.isfinite(size) & (np.abs(size) > SMALLEST) & np.isfinite(rate)
    many = int((fit & own).sum())
    large = bool(np.abs(size[fit & own]).min() > LARGE)
    enough = many > SHARE * could.sum() and (large or many >= AGREEING)
    is_open = bool(np.isfinite(said.found["offered"][fit & own]).any())  # where rates fall short of load by themselves
    worst = _worst(undone.after, fit & own)
    near = worst < (NEAR if is_open else -HELD if large and many > 1 else SMALLEST)
    # or the others hold what they should, and these are off by the slip's factor exactly
    others_held = bool((np.abs(rate[could & ~fit]) < SMALLEST).all())
    apart = many >= AGREEING and others_held and worst < NEAR
    clear = (enough and near) or apart
    ordinary = np.log(undone.slip.ordinary) if undone.slip.ordinary else -np.inf
    if size[fit & own].max() < ordinary:  # the factor must follow the lengths
        spans = bool((size[alone & own] < 0).all()) or float(np.ptp(size[fit & own])) > VARIED
        follows = many >= VARIED_ROWS and spans and worst < NEAR
        clear = clear and follows and (bool((fit | ~could).all()) or others_held)
    if is_open:  # one that is saturated falls short by any factor, though not by the same one at several rates
        offered = np.log(said.values["request_rate"][fit & own])
        clear = clear and many >= AGREEING and float(np.ptp(offered)) > VARIED
    return bool(clear)


def _worst(after: Mapping[str, FloatArray], rows: BoolArray) -> float:
    """How far the worst rate of some rows is off, of a logarithm."""
    joined = np.concatenate([np.abs(after[name][rows]) for name in LOADS])
    joined = joined[np.isfinite(joined)]
    return float(joined.max()) if len(joined) else 0.0
