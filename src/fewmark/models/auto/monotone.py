"""What grows with work: of a deployment of which nothing is measured, no latency falls as users or prompts grow.

Between what relatives say a process bends as it likes, and trees step up and down. So the log latency f of such a
deployment is corrected where it falls along the prompt's length or along the load, all else the same:

    f~(x) = (the most of f at less work + the least of f at more work) / 2

along the load first, then along the length, on a grid of octaves and of what was measured; loads and lengths above all
that were measured lower nothing below them, those beneath raise nothing above. Between the grid's points the correction
f~ - f is interpolated, so that what is in order stays as it was.

Source: isotonic estimates between the greatest monotone function below and the least one above (Mukerjee 1988, section
2, after smoothing); such operators keep any order between curves, so that one direction after another does for two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator

from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.columns import numbers_of
from fewmark.tables.identity import rows_by_group

MORE: Final = 4.0  # octaves beyond the measured ones, as far as there are answers
MAX_VALUES: Final = 24  # measured loads or lengths that join the grid
OUTPUT_STEP: Final = 0.5  # octaves of output within which cells share a correction
NEAR: Final = 0.5  # octaves from a measured value within which no other is needed
AT_ONCE: Final = 100_000  # cells that are answered together; each deployment asks for some hundred
SMALLEST: Final = 1e-9  # a correction that is none


@dataclass(frozen=True, slots=True)
class Grid:
    """log2 of the prompts (a,) and loads (b,) at which curves are put in order, and which of them were surpassed.

    `lengths_within` and `loads_within`: the least and the greatest log2 that was measured.
    """

    lengths: FloatArray
    loads: FloatArray
    lengths_within: tuple[float, float]
    loads_within: tuple[float, float]

    @classmethod
    def of(cls, axes: FloatArray) -> Grid:
        """That of measured cells (n, 3 or more): log2 input, output and load."""
        lengths, loads = np.unique(axes[:, 0]), np.unique(axes[:, 2])
        first = max(0.0, np.floor(lengths[0]) - MORE)
        return cls(
            _joined(np.arange(first, np.ceil(lengths[-1]) + MORE + 1.0), lengths),
            _joined(np.arange(0.0, np.ceil(loads[-1]) + MORE + 1.0), loads),
            (float(lengths[0]), float(lengths[-1])),
            (float(loads[0]), float(loads[-1])),
        )

    def correction(self, curves: FloatArray) -> FloatArray:
        """f~ - f of curves (…, a, b) at the grid."""
        by_load = in_order(curves, self.loads, self.loads_within)
        by_length = in_order(np.swapaxes(by_load, -1, -2), self.lengths, self.lengths_within)
        return np.asarray(np.swapaxes(by_length, -1, -2) - curves)


def _joined(octaves: FloatArray, measured: FloatArray) -> FloatArray:
    if len(measured) > MAX_VALUES:
        return octaves
    apart = np.abs(octaves[:, None] - measured).min(1) > NEAR
    apart[[0, -1]] = True  # else what lies at the ends would have no end
    return np.unique(np.round(np.append(octaves[apart], measured), 9))


def in_order(curves: FloatArray, at: FloatArray, within: tuple[float, float]) -> FloatArray:
    """Curves (…, k) at increasing values `at` (k,) that do not fall; see the module."""
    most = np.maximum.accumulate(np.where(at < within[0] - SMALLEST, -np.inf, curves), axis=-1)
    above = np.where(at > within[1] + SMALLEST, np.inf, curves)
    least = np.minimum.accumulate(above[..., ::-1], axis=-1)[..., ::-1]
    both = np.where(np.isinf(most), least, np.where(np.isinf(least), most, 0.0))
    inside = np.isfinite(most) & np.isfinite(least)
    both[inside] = 0.5 * (most[inside] + least[inside])
    return both


def correction(
    X: pd.DataFrame, axes: FloatArray, deployment: IntArray, grid: Grid, say: Callable[[pd.DataFrame], FloatArray]
) -> FloatArray:
    """What to add to the log latencies of cells, so that they do not fall where work grows, (…, m).

    Parameters
    ----------
    X : the m cells; axes : (m, 3 or more) where they lie; deployment : (m,) numbers
    say : gives the log latencies (…, n) of any n cells
    """
    rounded = np.round(axes[:, 1] / OUTPUT_STEP).astype(np.int64)
    kinds = np.column_stack([deployment, rounded, axes[:, 3:]])
    _, first, kind = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    points = np.array(np.meshgrid(grid.lengths, grid.loads, indexing="ij")).reshape(2, -1)
    step = max(1, AT_ONCE // points.shape[1])
    said = np.concatenate([say(_at(X, first[k : k + step], points)) for k in range(0, len(first), step)], axis=-1)
    curves = said.reshape(*said.shape[:-1], len(first), len(grid.lengths), len(grid.loads))
    found = np.moveaxis(grid.correction(curves), -3, 0)  # kind by kind
    out = np.zeros((*said.shape[:-1], len(X)))
    for number, rows in rows_by_group(kind.reshape(-1).astype(np.int64)).items():
        if np.abs(found[number]).max() > SMALLEST:
            at = np.clip(axes[rows][:, [0, 2]], [grid.lengths[0], grid.loads[0]], [grid.lengths[-1], grid.loads[-1]])
            each = np.moveaxis(found[number], (-2, -1), (0, 1))
            out[..., rows] = np.moveaxis(RegularGridInterpolator((grid.lengths, grid.loads), each)(at), 0, -1)
    return out


def _at(X: pd.DataFrame, rows: IntArray, points: FloatArray) -> pd.DataFrame:
    """Each of these cells at each pair of log2 lengths and loads, (2, p)."""
    cells = X.iloc[np.repeat(rows, points.shape[1])].reset_index(drop=True)
    lengths, loads = np.tile(np.exp2(points), len(rows))
    batch = np.isfinite(numbers_of(cells, "batch_size"))
    asked = {"input_tokens": lengths}
    for name, here in (("batch_size", batch), ("concurrency", ~batch)):
        if name in cells:
            asked[name] = np.where(here, loads, np.nan)
    return cells.assign(**asked)
