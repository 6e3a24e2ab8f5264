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

_NONE_EXPECTED: Final = pd.DataFrame(columns=["cell", "side", "residual", "spread"], dtype=float)
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
    parts = []
    for axis, (fixed, moving) in AXES.items():
        line = group_codes(cells, ["deployment", "online", "further", *fixed])[0]
        steps = _steps(cells, line, moving)
        if steps.empty:
            continue
        sides = [
            _expected(steps, ["work_i", "work_j"], RELATIVES),
            _expected(steps, ["deployment", "x_i", "x_j"], PARALLELS),
        ]
        both = pd.concat(sides)
        by_cell = both.groupby("cell")
        least, most = by_cell.min(), by_cell.max()
        low, high = least["residual"], most["residual"]
        out = pd.DataFrame(
            {
                "lighter": most["side"] > 0,
                "heavier": least["side"] < 0,
                "residual": np.where(low > 0, low, np.where(high < 0, high, 0.0)),
                "spread": most["spread"],
                "least_spread": least["spread"],
            }
        )
        chord = _chord(cells, line, moving)
        chord = chord[~chord["cell"].isin(out.index)]
        parts.append(
            pd.concat([part for part in (out.reset_index(), chord) if not part.empty] or [chord]).assign(axis=axis)
        )
    return pd.concat(parts or [_NOTHING], ignore_index=True).astype({"cell": np.int64})


def noise(cells: pd.DataFrame, found: pd.DataFrame) -> FloatArray:
    """The robust spread of the residuals in each cell's deployment: how rough its measurements are anyway."""
    least = found.assign(size=found["residual"].abs()).sort_values("size").groupby("cell")["residual"].first()
    owner = cells["deployment"].to_numpy()[least.index.to_numpy()]
    values = pd.Series(least.to_numpy()).replace([np.inf, -np.inf], np.nan)
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


def _expected(steps: pd.DataFrame, key: list[str], enough: int) -> pd.DataFrame:
    """Residuals of the steps against the median of all steps that share `key`, where there are enough of them."""
    group = group_codes(steps, key)[0]
    usable = np.bincount(group)[group] >= enough
    if not usable.any():
        return _NONE_EXPECTED
    group, s = group[usable], steps["s"].to_numpy()[usable]
    residual = s - _group_median(s, group)
    spread = 1.4826 * _group_median(np.abs(residual), group)
    cell, other, side = (steps[name].to_numpy()[usable] for name in ("cell", "other", "side"))
    back = side != 0
    ends = {
        "residual": np.concatenate([residual, -residual[back]]),
        "spread": np.concatenate([spread, spread[back]]),
    }
    # A whole number for the cell and the side: grouping by two columns takes several times as long.
    code = 3 * np.concatenate([cell, other[back]]) + np.concatenate([side, -side[back]]).astype(np.int64) + 1
    out = pd.DataFrame(ends).groupby(code).median()
    out.insert(0, "cell", out.index.to_numpy() // 3)
    out.insert(1, "side", (out.index.to_numpy() % 3 - 1).astype(np.float64))
    out = out.reset_index(drop=True)
    out["spread"] = out["spread"].clip(lower=MIN_SPREAD)
    return out


def _group_median(values: FloatArray, group: IntArray) -> FloatArray:
    """The median over each value's group, (n,)."""
    median = pd.Series(values).groupby(group).median()
    position = np.zeros(int(group.max()) + 1, dtype=np.intp)
    position[median.index.to_numpy()] = np.arange(len(median))
    return np.asarray(median.to_numpy(dtype=np.float64)[position[group]], dtype=np.float64)


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
