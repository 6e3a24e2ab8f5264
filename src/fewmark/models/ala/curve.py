"""Throughput as a saturating exponential of the batch size, fitted to many groups of rows at once.

Notation (the ALA paper's symbols: arXiv 2505.09319, Algorithms 1 and 2)
    bb        batch size, ``batch_size``; x (G, m) the distinct batch sizes of G groups, padded
    thpt      throughput in tokens per second; y (G, m) its mean at each of them; w (G, m) rows behind it, 0 = padding
    a, b, c   thpt = c - a exp(-b bb): a >= 0 the gain still to come at bb = 0, b > 0 the rate per sequence in the
              batch, c the saturation throughput
    a0 b0 c0  where ALA starts its fit: spreads between the 10th and 90th percentiles

Least squares over rows equals least squares over the means y weighted by w, so a fit costs the same however often a
cell was repeated. For a fixed b the model is linear in a and c, so both follow in closed form and the sum of squares
is a function of b alone (variable projection); its minimum is bracketed on a grid of b, then found by bisecting the
derivative. That is the global optimum under ALA's bounds; a local optimiser started at (a0, b0, c0) agrees wherever
it converges. What the paper leaves open is defined here, and told by a status:

    converged     the optimum lies at a finite b (at least 3 distinct batch sizes)
    flat          throughput does not rise with batch: a = 0, c the mean, b = b0
    step          saturated from the second batch size on, so that any larger b fits as well: the smallest that fits
                  to within a relative 1e-8 (the tolerance of SciPy's optimisers)
    two-batches   2 distinct batch sizes cannot determine three parameters: of the curves through both points the one
                  whose a, c are nearest to a0, c0
    one-batch     1 distinct batch size: a = 1, b = 0.001 as in Algorithm 2, c such that the curve meets the mean
    not-converged no saturation within the data: the best fit is a straight line, reached only as b goes to 0 and a, c
                  to infinity, or bends by less than 1/160 of its rise. Unsuccessful in Algorithm 2's sense (SciPy's
                  optimiser, too, runs out of evaluations there)

How to fit is the caller's choice (``fitting``): "optimum" is as above and an unsuccessful fit has
no parameters; "line" gives it those of the nearly straight curve at the end of the bracket; "search" is the listing
taken literally: SciPy's bounded trust-region search from (a0, b0, c0) for every group, wherever that ends. It agrees
with "optimum" on at least 3 batch sizes; on 2 its answer depends on the path that it takes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewmark.core.errors import InputError
from fewmark.tables.arrays import FloatArray

STATUSES: Final = ("converged", "flat", "step", "two-batches", "one-batch", "not-converged")
FITTINGS: Final = ("optimum", "line", "search")
_GRID: Final = 48
_BISECTIONS: Final = 54
_THIRDS: Final = 80
_STRAIGHT: Final = 0.05  # b times the range of batch sizes: bends by less than 1/160 of the rise, a over 20 times it
_SATURATED: Final = 20.0  # b times the first gap: exp(-20) = 2e-9 is left of the rise at the second batch size
_TOLERANCE: Final = 1e-8
_CHUNK: Final = 4_000_000  # elements of the largest intermediate array


def saturation(batch_size: ArrayLike, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> FloatArray:
    """Throughput c - a exp(-b batch_size), in tokens per second; arguments broadcast. Source: ALA, Algorithm 1."""
    exponent = -np.asarray(b, dtype=float) * np.asarray(batch_size, dtype=float)
    return np.asarray(np.asarray(c, dtype=float) - np.asarray(a, dtype=float) * np.exp(exponent), dtype=np.float64)


@dataclass(frozen=True)
class SaturationFits:
    """Parameters of G groups, shapes (G,), NaN where the fit was not successful, and each group's status."""

    a: FloatArray
    b: FloatArray
    c: FloatArray
    status: NDArray[np.str_]

    @property
    def successful(self) -> NDArray[np.bool_]:
        """Where Algorithm 2 stores the parameters."""
        return np.isfinite(self.c)

    @property
    def parameters(self) -> FloatArray:
        """Columns a, b, c; shape (G, 3)."""
        return np.column_stack([self.a, self.b, self.c])


def fit_saturation(x: FloatArray, y: FloatArray, w: FloatArray, *, fitting: str = "optimum") -> SaturationFits:
    """Fit every group at once. Source: ALA, Algorithm 2, by variable projection.

    Parameters
    ----------
    x, y, w : arrays of shape (G, m)
        Distinct batch sizes in rising order, mean throughput at each, rows behind each mean (0 leaves the entry out).
    fitting : "optimum", "line" or "search"
        As the module explains.

    Raises
    ------
    InputError
        If `fitting` is unknown.
    """
    if fitting not in FITTINGS:
        raise InputError(f"fitting must be one of {', '.join(FITTINGS)}", got=fitting)
    if fitting == "search":
        return _search(x, y, w)
    n_groups, width = x.shape
    a, b, c = np.full((3, n_groups), np.nan)
    status = np.full(n_groups, "not-converged", dtype="U13")
    n_distinct = (w > 0).sum(axis=1)

    one = n_distinct == 1
    if one.any():
        total = w[one].sum(axis=1)
        at, mean = (w[one] * x[one]).sum(axis=1) / total, (w[one] * y[one]).sum(axis=1) / total
        a[one], b[one], c[one], status[one] = 1.0, 1e-3, mean + np.exp(-1e-3 * at), "one-batch"
    two = n_distinct == 2
    if two.any():
        a[two], b[two], c[two], status[two] = _fit_two(x[two], y[two], w[two])
    many = np.flatnonzero(n_distinct > 2)
    step = max(1, _CHUNK // (_GRID * max(width, 1)))
    for start in range(0, len(many), step):
        rows = many[start : start + step]
        a[rows], b[rows], c[rows], status[rows] = _fit_determined(x[rows], y[rows], w[rows], fitting)
    return SaturationFits(a=a, b=b, c=c, status=status)


def group_rows(
    batch: FloatArray, throughput: FloatArray, group: NDArray[np.intp], n_groups: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows of shape (n,) as the padded x, y, w of `fit_saturation`, duplicates averaged and counted."""
    order = np.lexsort((batch, group))
    group, batch, throughput = group[order], batch[order], throughput[order]
    first = np.ones(len(batch), dtype=bool)
    first[1:] = (group[1:] != group[:-1]) | (batch[1:] != batch[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, len(batch)))
    means = np.add.reduceat(throughput, starts) / counts
    owner = group[starts]
    column = np.arange(len(starts)) - np.searchsorted(owner, owner)
    x = np.zeros((n_groups, int(column.max()) + 1))
    y, w = np.zeros_like(x), np.zeros_like(x)
    x[owner, column], y[owner, column], w[owner, column] = batch[starts], means, counts
    return x, y, w


def _project(
    b: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """For rates b (G, K): the sum of squares, the best a >= 0 and c, and the sign-giving part of its derivative."""
    x, y, w = x[:, None, :], y[:, None, :], w[:, None, :]
    decay = np.exp(-b[:, :, None] * x)
    total = w.sum(axis=2)
    decay_mean, y_mean = (w * decay).sum(axis=2) / total, (w * y).sum(axis=2) / total
    centred = decay - decay_mean[:, :, None]
    spread = (w * centred**2).sum(axis=2)
    a = -(w * centred * (y - y_mean[:, :, None])).sum(axis=2) / np.maximum(spread, 1e-300)
    a = np.maximum(a, 0.0)
    residual = y - y_mean[:, :, None] + a[:, :, None] * centred
    slope = -(w * residual * x * decay).sum(axis=2)
    return (w * residual**2).sum(axis=2), a, y_mean + a * decay_mean, slope


def _fit_determined(
    x: FloatArray, y: FloatArray, w: FloatArray, fitting: str
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.str_]]:
    """Groups with at least 3 distinct batch sizes."""
    seen = w > 0
    ordered = np.sort(np.where(seen, x, np.inf), axis=1)
    largest = np.where(seen, x, -np.inf).max(axis=1)
    low, high = _STRAIGHT / (largest - ordered[:, 0]), _SATURATED / (ordered[:, 1] - ordered[:, 0])
    grid = low[:, None] * (high / low)[:, None] ** np.linspace(0.0, 1.0, _GRID)
    squares, _, _, slope = _project(grid, x, y, w)
    mean = (w * y).sum(axis=1) / w.sum(axis=1)
    about_mean = (w * (y - mean[:, None]) ** 2).sum(axis=1)
    floor = 1e-12 * about_mean

    # Every dip of the sum of squares, the deepest two on the grid refined: they may be almost equally deep.
    padded = np.pad(squares, ((0, 0), (1, 1)), constant_values=np.inf)
    dips = (squares < padded[:, :-2] * (1 - 1e-9)) & (squares <= padded[:, 2:])
    dips[:, 0] &= slope[:, 0] < 0
    dips[:, -1] = False
    b, least = np.copy(low), np.full(len(x), np.inf)
    depth = np.where(dips, squares, np.inf)
    for _ in range(2):
        k = depth.argmin(axis=1)
        rows = np.flatnonzero(np.isfinite(depth[np.arange(len(x)), k]))
        if not len(rows):
            break
        k = k[rows]
        found, value = _bottom(
            np.log(grid[rows, np.maximum(k - 1, 0)]), np.log(grid[rows, k + 1]), x[rows], y[rows], w[rows]
        )
        deeper = value < least[rows]
        b[rows[deeper]], least[rows[deeper]] = found[deeper], value[deeper]
        depth[rows, k] = np.inf

    line, limit = squares[:, 0], squares[:, -1]
    flat = np.minimum(np.minimum(least, line), limit) >= about_mean * (1 - 1e-12)
    stepped = ~flat & (limit <= np.minimum(least, line) * (1 + _TOLERANCE) + floor)
    straight = ~flat & ~stepped & (line <= least)
    rows = np.flatnonzero(stepped)
    if len(rows):
        allowed = (limit * (1 + _TOLERANCE) + floor)[rows]
        b[rows] = _first_within(allowed, grid[rows], squares[rows], x[rows], y[rows], w[rows])
    b = np.where(flat, _initial_rate(x, w), np.where(straight, low, b))
    _, a, c, _ = (part[:, 0] for part in _project(b[:, None], x, y, w))
    a, c = np.where(flat, 0.0, a), np.where(flat, mean, c)
    status = np.select([flat, stepped, straight], ["flat", "step", "not-converged"], "converged").astype("U13")
    if fitting == "optimum":
        a, b, c = (np.where(straight, np.nan, part) for part in (a, b, c))
    return a, b, c, status


def _bottom(
    left: FloatArray, right: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The rate between exp(left) and exp(right) where the sum of squares is least, and that sum."""
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        rising = _project(np.exp(middle)[:, None], x, y, w)[3][:, 0] >= 0
        left, right = np.where(rising, left, middle), np.where(rising, middle, right)
    b = np.exp((left + right) / 2)
    return b, _project(b[:, None], x, y, w)[0][:, 0]


def _first_within(
    allowed: FloatArray, grid: FloatArray, squares: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray
) -> FloatArray:
    """The smallest rate from which on the sum of squares stays within what is allowed."""
    above = squares > allowed[:, None]
    last = np.where(above.any(axis=1), grid.shape[1] - 1 - above[:, ::-1].argmax(axis=1), 0)
    rows = np.arange(len(grid))
    left, right = np.log(grid[rows, last]), np.log(grid[rows, np.minimum(last + 1, grid.shape[1] - 1)])
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        within = _project(np.exp(middle)[:, None], x, y, w)[0][:, 0] <= allowed
        left, right = np.where(within, left, middle), np.where(within, middle, right)
    return np.asarray(np.exp(right))


def _fit_two(
    x: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.str_]]:
    """Groups with 2 distinct batch sizes. In units of the rise between them, the curve through both points has
    a = 1 / (exp(-b x1) - exp(-b x2)) and c = y1 + a exp(-b x1)."""
    entries = np.argsort(w <= 0, axis=1, kind="stable")[:, :2]
    x1, x2 = np.take_along_axis(x, entries, axis=1).T
    y1, y2 = np.take_along_axis(y, entries, axis=1).T
    rise = y2 - y1
    p10, p90 = _percentile(x, w, 0.1), _percentile(x, w, 0.9)
    a0, c0 = (p90 - p10) / (x2 - x1), (p90 - x1) / (x2 - x1)

    def through(log_b: FloatArray) -> tuple[FloatArray, FloatArray]:
        decay1, decay2 = np.exp(-np.exp(log_b) * x1), np.exp(-np.exp(log_b) * x2)
        a = 1 / np.maximum(decay1 - decay2, 1e-300)
        return a, a * decay1

    def distance(log_b: FloatArray) -> FloatArray:
        a, c = through(log_b)
        return np.asarray((a - a0) ** 2 + (c - c0) ** 2)

    left, right = np.log(_STRAIGHT / (x2 - x1)), np.log(_SATURATED / (x2 - x1))
    for _ in range(_THIRDS):  # the distance falls, then rises
        third = (right - left) / 3
        nearer_left = distance(left + third) <= distance(right - third)
        left, right = np.where(nearer_left, left, left + third), np.where(nearer_left, right - third, right)
    log_b = (left + right) / 2
    a, c = through(log_b)
    rises = rise > 0
    mean = (w * y).sum(axis=1) / w.sum(axis=1)
    return (
        np.where(rises, a * rise, 0.0),
        np.where(rises, np.exp(log_b), _initial_rate(x, w)),
        np.where(rises, y1 + c * rise, mean),
        np.where(rises, "two-batches", "flat").astype("U13"),
    )


def _initial_rate(x: FloatArray, w: FloatArray) -> FloatArray:
    """ALA's b0 of each group."""
    p10 = _percentile(x, w, 0.1)
    p90 = np.maximum(_percentile(x, w, 0.9), p10 + 1e-3)
    return np.asarray(1 / np.maximum(p90 - p10, 1e-5))


def _percentile(x: FloatArray, w: FloatArray, q: float) -> FloatArray:
    """The q-quantile of each group's batch sizes over rows, interpolated linearly as NumPy does."""
    ends = np.cumsum(w, axis=1)
    position = q * (ends[:, -1] - 1)
    lower, upper = np.floor(position), np.ceil(position)
    at = [np.take_along_axis(x, (ends <= k[:, None]).sum(axis=1)[:, None], axis=1)[:, 0] for k in (lower, upper)]
    return np.asarray(at[0] + (position - lower) * (at[1] - at[0]))


def _search(x: FloatArray, y: FloatArray, w: FloatArray) -> SaturationFits:
    """Each group by itself: the literal Algorithm 2, percentiles taken over means repeated as often as their rows."""
    from scipy.optimize import curve_fit

    parameters = np.full((len(x), 3), np.nan)
    status = np.full(len(x), "not-converged", dtype="U13")
    for group, weight in enumerate(w):
        seen = np.repeat(np.arange(x.shape[1]), weight.astype(int))
        if not len(seen):
            continue
        batch, thpt = x[group, seen], y[group, seen]
        start = (1.0, 0.001, 0.0)
        if (weight > 0).sum() > 1:
            (thpt_p10, thpt_p90), (b_p10, b_p90) = np.percentile(thpt, [10, 90]), np.percentile(batch, [10, 90])
            b_p90 = max(b_p90, b_p10 + 1e-3)
            start = (max(thpt_p90 - thpt_p10, 1e-5), 1 / max(b_p90 - b_p10, 1e-5), max(thpt_p90, 1e-5))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the parameters of 1 or 2 batch sizes have no covariance
                parameters[group] = curve_fit(saturation, batch, thpt, p0=start, bounds=(0, np.inf))[0]
        except RuntimeError:
            continue
        status[group] = {1: "one-batch", 2: "two-batches"}.get(int((weight > 0).sum()), "converged")
    a, b, c = parameters.T
    return SaturationFits(a=a, b=b, c=c, status=status)
