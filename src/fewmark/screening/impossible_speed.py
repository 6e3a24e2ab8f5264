"""More work in much less time: nothing was generated, or the smaller run was not what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import cell_table, describe_cell, robust_scale, verdict_on
from fewmark.screening.neighbours import residuals
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.identity import group_codes, rows_by_group

FASTER: Final = float(np.log(1.5))  # beyond noise: a static batch with more of everything takes no less time
FASTER_ONLINE: Final = float(np.log(2.0))  # request mixes vary
SPREADS: Final = 6.0
MAX_GRID: Final = 8  # places of a grid for each cell; sparser ones are not looked up
MAX_COMPARED: Final = 200  # deployments that those in question are compared with
MAX_PAIRED_CELLS: Final = 4000  # cells of one deployment beyond which pairs are compared in blocks only


class ImpossibleSpeed:
    """Within a deployment, a run with at least as much of input, output and batch cannot be much faster.

    Each pair that breaks this accuses both of its rows; the row that most pairs accuse goes first, until no pair is
    left (a greedy vertex cover). It went too fast if it was the larger run of most of its pairs, else too slowly.
    """

    name = "impossible-speed"
    description = "more tokens or a larger batch in much less time than smaller runs of the same deployment"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the rows that must go for the rest to be possible."""
        cells = cell_table(frame)
        if cells.empty:
            return
        columns = {name: cells[name].to_numpy(dtype=np.float64) for name in ("l", "ii", "oo", "bb", "online")}
        group = group_codes(cells, ["deployment", "online", "further"])[0]
        possible = _may_be_faster(columns, group)
        found: list[tuple[IntArray, BoolArray]] = []
        for number, rows in rows_by_group(group).items():
            if not possible[number] or not 2 < len(rows) <= MAX_PAIRED_CELLS:
                continue
            faster = _faster({name: values[rows] for name, values in columns.items()})
            if faster.any():
                found.append((rows, faster))
        if found:
            off = _mean_residuals(cells, np.concatenate([rows for rows, _ in found]))
            for rows, faster in found:
                yield from self._within(cells.iloc[rows].assign(residual=off[rows]).reset_index(drop=True), faster)

    def _within(self, cells: pd.DataFrame, faster: BoolArray) -> Iterable[Finding]:
        latency, residual = cells["l"].to_numpy(), cells["residual"].fillna(0.0).to_numpy()
        while faster.any():
            too_fast, too_slow = faster.sum(axis=1), faster.sum(axis=0)
            accused = too_fast + too_slow
            # Among equally accused rows, the one that its neighbours also find too fast or too slow.
            off = np.where(too_fast >= too_slow, -residual, residual)
            worst = int(np.lexsort((off, accused))[-1])
            fast = too_fast[worst] >= too_slow[worst]
            against = faster[worst] if fast else faster[:, worst]
            peer = int(np.flatnonzero(against)[np.argmax(np.abs(latency[against] - latency[worst]))])
            yield from self._report(cells, worst, peer, fast, int(accused[worst]))
            faster[worst, :] = False
            faster[:, worst] = False

    def _report(self, cells: pd.DataFrame, worst: int, peer: int, fast: bool, count: int) -> Iterable[Finding]:
        row, other = cells.iloc[worst], cells.iloc[peer]
        took, factor = np.exp(row["l"]), np.exp(abs(row["l"] - other["l"]))
        told = describe_cell(other["ii"], other["oo"], other["bb"], other["online"]) + f" ({np.exp(other['l']):.4g} s)"
        words = ("less", "more") if fast else ("more", "less")
        reason = f"took {took:.4g} s, {factor:.3g} times {words[0]} than {told}, though it does {words[1]}"
        reason += f"; {count} such contradictions" + (". The tokens were probably not generated" if fast else "")
        action, reason = verdict_on(row["rows"], confirmed=row["confirmed"], reason=reason)
        for label in row["rows"]:
            yield Finding(int(label) + 1, self.name, reason, action)


def _mean_residuals(cells: pd.DataFrame, rows: IntArray) -> FloatArray:
    """The mean residual of cells over their axes, (n,); NaN where it is unknown, and of deployments not asked for.

    It only decides between cells that are accused alike, so that some hundred other deployments are comparison enough.
    """
    owner = cells["deployment"].to_numpy()
    compared = np.union1d(owner[rows], np.unique(owner)[:MAX_COMPARED])
    kept = np.flatnonzero(np.isin(owner, compared))
    mean = residuals(cells.iloc[kept].reset_index(drop=True)).groupby("cell")["residual"].mean()
    out: FloatArray = np.full(len(cells), np.nan)
    out[kept[mean.index.to_numpy()]] = mean.to_numpy()
    return out


def _may_be_faster(cells: Mapping[str, FloatArray], group: IntArray) -> BoolArray:
    """Which groups have a cell that takes less time than one that does no more: (k,). True where it is not looked up.

    On a grid of all sizes that occur, the longest time of what does no more is a running maximum along each axis.
    """
    n_groups = int(group.max()) + 1
    axes = [np.unique(cells[name], return_inverse=True) for name in ("ii", "oo", "bb")]
    shape = (n_groups, *(len(sizes) for sizes, _ in axes))
    if np.prod(shape, dtype=np.float64) > MAX_GRID * len(group):
        return np.ones(n_groups, dtype=bool)
    at = (group, *(place.ravel() for _, place in axes))
    longest = np.full(shape, -np.inf)
    np.maximum.at(longest, at, cells["l"])
    for axis in (1, 2, 3):
        np.maximum.accumulate(longest, axis=axis, out=longest)
    limit = np.where(cells["online"] > 0, FASTER_ONLINE, FASTER)
    out: BoolArray = np.zeros(n_groups, dtype=bool)
    out[group[cells["l"] < longest[at] - limit]] = True
    return out


def _faster(cells: Mapping[str, FloatArray]) -> BoolArray:
    """Which cells do more than which others in less time than noise explains: [i, j], i more than j."""
    latency = cells["l"]
    limit = max(FASTER_ONLINE if cells["online"][0] else FASTER, SPREADS * _roughness(cells))
    out: BoolArray = latency[:, None] < latency[None, :] - limit
    more = np.zeros_like(out)
    for name in ("ii", "oo", "bb"):
        size = cells[name]
        out &= size[:, None] >= size[None, :]
        more |= size[:, None] > size[None, :]
    return out & more


def _roughness(cells: Mapping[str, FloatArray]) -> float:
    """How much latency jumps about along the batch at the same length: the deployment's own noise, as a logarithm."""
    ii, oo, bb, latency = (cells[name] for name in ("ii", "oo", "bb", "l"))
    order = np.lexsort((bb, oo, ii))
    same: BoolArray = (np.diff(ii[order]) == 0) & (np.diff(oo[order]) == 0)
    return robust_scale(np.minimum(np.diff(latency[order])[same], 0.0))
