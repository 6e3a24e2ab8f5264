"""How far each cell lies from what its neighbours imply.

Notation: l_i = log latency of cell i; a step i←j along an axis has s_ij = l_i - l_j. Axes are the load at the same
lengths, the input at the same output and load, the output at the same input and load, and both lengths in
proportion at the same load.

What a step should be is known from two sides: the same step in other deployments, and parallel steps of the same
deployment on its other lines. Where neither is there, the chord between the neighbours on both sides stands in. A
cell's residual on one side of an axis is the median of s_ij minus the expected step over its nearest neighbours
there. Of two sides, and of two expectations, the one that accuses least counts, and none if they disagree in sign:
beyond a bend, a cell is far from the cells before it but near to those after it. Levels differ between deployments
by orders of magnitude, steps hardly: so no model of any machine is needed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.identity import group_codes

SIDES: Final = ("heavier", "alike", "lighter")  # where a neighbour lies
REACH: Final = 2  # neighbours on either side
RELATIVES: Final = 5  # deployments that must share a step for its median to count
PARALLELS: Final = 3  # lines of the same deployment that must share it
MIN_SPREAD: Final = 0.04
CHORD_SPREAD: Final = 0.15  # latency over load bends: flat first, then proportional
AXES: Final = {
    "load": (("ii", "oo"), "bb"),
    "input": (("oo", "bb"), "ii"),
    "output": (("ii", "bb"), "oo"),
    "length": (("bb", "ratio"), "ii"),
}

_NOTHING: Final = pd.DataFrame(columns=["cell", "axis", "lighter", "heavier", "residual", "spread", "least_spread"])


def residuals(cells: pd.DataFrame) -> pd.DataFrame:
    """The residual and the usual spread along every axis on which a cell has neighbours.

    Parameters
    ----------
    cells : as `fewmark.screening.grid.cell_table` makes them, with a RangeIndex

    Returns
    -------
    DataFrame with columns cell (position in `cells`), axis, lighter and heavier (whether it
    has neighbours on that side), residual, spread and least_spread (of the wider and of the
    narrower of the expectations); the last three are logarithms.
    """
    cells = cells.assign(ratio=np.round(np.log(cells["ii"] / cells["oo"]), 3))
    parts: list[pd.DataFrame] = []
    for axis, (fixed, moving) in AXES.items():
        line = group_codes(cells, ["deployment", "online", "further", *fixed])[0]
        steps = _steps(cells, line, moving)
        if steps.empty:
            continue
        found = [
            one
            for one in (
                _expected(steps, ["work_i", "work_j"], RELATIVES, len(cells)),
                _expected(steps, ["deployment", "x_i", "x_j"], PARALLELS, len(cells)),
            )
            if one is not None
        ]
        out = _NOTHING
        if found:
            residual, spread = (np.concatenate([one[kind] for one in found]) for kind in (0, 1))
            low, high = np.fmin.reduce(residual), np.fmax.reduce(residual)
            sides = ~np.isnan(residual.reshape(len(found), len(SIDES), -1)).all(axis=0)
            at = np.flatnonzero(sides.any(axis=0))
            low, high = low[at], high[at]
            out = pd.DataFrame(
                {
                    "cell": at,
                    "lighter": sides[2, at],
                    "heavier": sides[0, at],
                    "residual": np.where(low > 0, low, np.where(high < 0, high, 0.0)),
                    "spread": np.fmax.reduce(spread)[at],
                    "least_spread": np.fmin.reduce(spread)[at],
                }
            )
        chord = _chord(cells, line, moving)
        judged = np.zeros(len(cells), dtype=bool)
        judged[out["cell"].to_numpy(dtype=np.intp)] = True
        chord = chord[~judged[chord["cell"].to_numpy()]]
        parts.append(pd.concat([part for part in (out, chord) if not part.empty] or [chord]).assign(axis=axis))
    return pd.concat(parts or [_NOTHING], ignore_index=True).astype({"cell": np.int64})


def noise(cells: pd.DataFrame, residual: FloatArray) -> FloatArray:
    """The robust spread of the residuals (n_axes, n) in each cell's deployment, (n,): how rough it is anyway.

    Of each cell the smallest residual counts.
    """
    size = np.abs(residual)
    least = np.where(np.isnan(size), np.inf, size).argmin(axis=0)
    values = pd.Series(residual[least, np.arange(residual.shape[1])])
    values[np.isinf(values)] = np.nan
    owner = cells["deployment"].to_numpy()
    rough = 1.4826 * (values - values.groupby(owner).transform("median")).abs().groupby(owner).median()
    return np.asarray(cells["deployment"].map(rough).fillna(0.0), dtype=np.float64)


def _steps(cells: pd.DataFrame, line: IntArray, moving: str) -> pd.DataFrame:
    """All steps between cells of one line that are at most `REACH` apart, each from the lighter to the heavier.

    The steps back are the same with the other sign; only between cells of equal size do both stand for themselves.
    """
    x, l, work = cells[moving].to_numpy(), cells["l"].to_numpy(), cells["workload"].to_numpy()  # noqa: E741
    order = np.lexsort((x, line))
    lighter, heavier = [], []
    for reach in range(1, REACH + 1):
        a, b = order[:-reach], order[reach:]
        same = line[a] == line[b]
        lighter.append(a[same])
        heavier.append(b[same])
    j, i = np.concatenate(lighter), np.concatenate(heavier)
    if (equal := x[i] == x[j]).any():
        i, j = np.concatenate([i, j[equal]]), np.concatenate([j, i[equal]])
    size = np.unique(x, return_inverse=True)[1].ravel()
    return pd.DataFrame(
        {
            "cell": i,
            "other": j,
            "side": np.sign(x[i] - x[j]),
            "deployment": cells["deployment"].to_numpy()[i],
            "work_i": work[i],
            "work_j": work[j],
            "x_i": size[i],
            "x_j": size[j],
            "s": l[i] - l[j],
        }
    )


def _expected(steps: pd.DataFrame, key: list[str], enough: int, n_cells: int) -> tuple[FloatArray, FloatArray] | None:
    """Residuals of the steps against the median of all steps that share `key`, where there are enough of them.

    Returns the residual and the spread of each cell on each of its `SIDES`, (3, n_cells), NaN where there is none.
    """
    group = group_codes(steps, key)[0]
    usable = np.bincount(group)[group] >= enough
    if not usable.any():
        return None
    group, s = group[usable], steps["s"].to_numpy()[usable]
    residual = s - _group_median(s, group)
    spread = 1.4826 * _group_median(np.abs(residual), group)
    cell, other, side = (steps[name].to_numpy()[usable] for name in ("cell", "other", "side"))
    side = side.astype(np.int64)
    back = side != 0
    # A whole number for the side and the cell, which is also their place in the result.
    code = np.concatenate([(side + 1) * n_cells + cell, (1 - side[back]) * n_cells + other[back]])
    shape = len(SIDES), n_cells
    off = _small_medians(np.concatenate([residual, -residual[back]]), code, shape)
    usual = _small_medians(np.concatenate([spread, spread[back]]), code, shape)
    return off, np.maximum(usual, MIN_SPREAD)


def _small_medians(values: FloatArray, code: IntArray, shape: tuple[int, int]) -> FloatArray:
    """The median of the values of each code, as an array of that shape; most codes have one value or two."""
    size = shape[0] * shape[1]
    count = np.bincount(code, minlength=size)
    with np.errstate(invalid="ignore"):
        out: FloatArray = np.bincount(code, values, minlength=size) / count
    several = (count > 2)[code]
    if several.any():
        median = pd.Series(values[several]).groupby(code[several]).median()
        out[median.index.to_numpy()] = median.to_numpy()
    return out.reshape(shape)


def _group_median(values: FloatArray, group: IntArray) -> FloatArray:
    """The median over each value's group, (n,); groups are numbered from 0."""
    groups = pd.Categorical.from_codes(group, categories=pd.RangeIndex(int(group.max()) + 1))  # no hashing
    median = pd.Series(values).groupby(pd.CategoricalIndex(groups), observed=False).median()
    return np.asarray(median.to_numpy(dtype=np.float64)[group], dtype=np.float64)


def _chord(cells: pd.DataFrame, line: IntArray, moving: str) -> pd.DataFrame:
    """Residuals of inner cells against the straight line (in logarithms) between their two neighbours."""
    x, l = np.log(cells[moving].to_numpy()), cells["l"].to_numpy()  # noqa: E741
    order = np.lexsort((x, line))
    before, here, after = order[:-2], order[1:-1], order[2:]
    inner = (line[before] == line[here]) & (line[here] == line[after])
    before, here, after = before[inner], here[inner], after[inner]
    weight = (x[here] - x[before]) / (x[after] - x[before])
    residual = l[here] - (1 - weight) * l[before] - weight * l[after]
    spreads = {"spread": CHORD_SPREAD, "least_spread": CHORD_SPREAD}
    return pd.DataFrame({"cell": here, "lighter": True, "heavier": True, "residual": residual, **spreads})
