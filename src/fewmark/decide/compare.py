"""Whether B is slower than A by more than a threshold: paired log ratios with variance pooled over cells.

Notation
--------
m cells; sides A and B; y (n,) the values of a side's runs, cell (n,) which of 0…m-1 each is of, n_i runs of cell i.
w_i = ± (mean log y_B - mean log y_A) in cell i, so signed that more is worse; L = the threshold on that scale;
s² a side's variance of log y within cells, pooled over them; c_i a cell's noise beside the others', 1 where all are
alike.

The variance of w_i is c_i (s_A² / n_iA + s_B² / n_iB). A cell FAILs if the one-sided test rejects w_i ≤ L, PASSes if it
rejects w_i ≥ L (the two tests of TOST, of which the one against slower decides), and is INCONCLUSIVE otherwise; the
interval shown is the one that these tests read. Whether cells are equally noisy is tested (Bartlett 1937); where they
are not, c_i is a moderated variance (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3(1):3, section 6.2). Cells are many:
that some cell FAILs counts for the whole only by Holm's procedure (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy import optimize, special, stats

from fewmark.core.errors import InputError
from fewmark.core.fractions import require_fraction
from fewmark.tables.arrays import FloatArray, IntArray

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Noise: TypeAlias = Literal["repeats", "spread over cells", "unknown"]
MIN_DF: Final = 2  # degrees of freedom from repeats; with fewer, the spread over cells says more
MIN_SPREAD_CELLS: Final = 6  # cells from which the spread of their ratios is a measure of noise
ALIKE_LEVEL: Final = 0.05  # of the test whether cells are equally noisy
MAX_PRIOR_DF: Final = 1e6


@dataclass(frozen=True)
class CellVerdicts:
    """What was found in each cell; ratios are B to A of the metric itself.

    Attributes
    ----------
    ratio, low, high : (m,) float
        Ratio of the geometric means and its interval; the interval is NaN where noise is unknown.
    p_slower, p_slower_holm : (m,) float
        Of the test that the cell is slower by more than the threshold, alone and by Holm over all.
    verdicts : (m,) of "PASS", "FAIL", "INCONCLUSIVE"
    equivalent, faster : (m,) bool
        Whether the interval lies within the threshold on both sides; whether it lies beyond it on the better side.
    """

    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    p_slower: FloatArray
    p_slower_holm: FloatArray
    verdicts: tuple[Verdict, ...]
    equivalent: tuple[bool, ...]
    faster: tuple[bool, ...]


@dataclass(frozen=True)
class Comparison:
    """The verdict over all cells: of the geometric mean of their ratios, and of any cell by itself.

    Attributes
    ----------
    verdict : "FAIL" if the mean or, by Holm's procedure, some cell is slower by more than the threshold; "PASS" if the
        mean is not and no cell's own ratio is beyond it; else "INCONCLUSIVE"
    ratio, low, high : float
        The geometric mean of the cells' ratios, and its interval of `level`.
    cells : CellVerdicts
    noise : where the noise is known from
    cv_a, cv_b : float
        Coefficients of variation of one run, NaN where unknown.
    df : float
        Degrees of freedom of the noise.
    """

    verdict: Verdict
    ratio: float
    low: float
    high: float
    level: float
    cells: CellVerdicts
    noise: Noise
    alike: bool
    cv_a: float
    cv_b: float
    df: float


def compare(
    y_a: FloatArray,
    cell_a: IntArray,
    y_b: FloatArray,
    cell_b: IntArray,
    *,
    higher_is_better: bool,
    threshold: float = 0.1,
    confidence_level: float = 0.9,
    every_cell: bool = False,
) -> Comparison:
    """Compare the runs of two sides over their cells.

    Parameters
    ----------
    y_a, y_b : (n_a,), (n_b,) float
        Positive values of one metric.
    cell_a, cell_b : (n_a,), (n_b,) int
        The cell of each, 0…m-1; each side has each cell.
    higher_is_better : bool
        A rate is worse below 1 - threshold of A's, a latency above 1 + threshold.
    confidence_level : float, default 0.9
        Of the cells' intervals; each verdict of a cell is wrong at most half as often as the interval.
    every_cell : bool, default False
        Whether the whole PASSes only if every cell does.

    Raises
    ------
    InputError
        If a number is not possible, or a side lacks a cell.
    """
    require_fraction("the threshold", threshold)
    require_fraction("the confidence level", confidence_level)
    m = int(cell_a.max(initial=-1)) + 1
    a, b = _Side.of(y_a, cell_a, m), _Side.of(y_b, cell_b, m)
    sign = -1.0 if higher_is_better else 1.0
    w = sign * (b.mean - a.mean)
    limits = sign * np.log([1 - sign * threshold, 1 + sign * threshold])  # of the better side, of the worse side
    alpha = (1 - confidence_level) / 2
    var, df, noise, alike = _noise(a, b, w)

    t = stats.t.isf(alpha, df)
    low, high = w - t * np.sqrt(var), w + t * np.sqrt(var)
    p = _p_above(w, limits[1], var, df)
    cells = CellVerdicts(
        *_ratios(sign, w, low, high),
        p_slower=p,
        p_slower_holm=holm(p),
        verdicts=tuple(_verdict(*ends, limits[1]) for ends in zip(low, high, strict=True)),
        equivalent=tuple(bool(x) for x in (low > limits[0]) & (high < limits[1])),
        faster=tuple(bool(x) for x in high < limits[0]),
    )

    # Two ways to FAIL, the mean and some cell: each has half of the error that is allowed.
    share = alpha if m == 1 else alpha / 2
    mean_var, mean_df = _noise_of_mean(a, b, var, noise)
    half = stats.t.isf(share, mean_df) * np.sqrt(mean_var)
    mean = float(w.mean())
    of_mean = _verdict(mean - half, mean + half, limits[1])
    some_cell_fails = m > 1 and bool((cells.p_slower_holm < share).any())
    if every_cell:
        quiet = all(found == "PASS" for found in cells.verdicts)
    else:
        quiet = "FAIL" not in cells.verdicts and bool((w < limits[1]).all())
    verdict: Verdict = "FAIL" if some_cell_fails else of_mean if of_mean != "PASS" or quiet else "INCONCLUSIVE"
    ratio, least, most = (float(x[0]) for x in _ratios(sign, *np.array([[mean], [mean - half], [mean + half]])))
    return Comparison(
        verdict,
        ratio,
        least,
        most,
        1 - 2 * share,
        cells,
        noise,
        alike,
        np.sqrt(a.variance),
        np.sqrt(b.variance),
        mean_df,
    )


@dataclass(frozen=True)
class _Side:
    """Means (m,), counts (m,) and sums of squares (m,) of log y, a side's runs by cell."""

    mean: FloatArray
    n: FloatArray
    squares: FloatArray

    @classmethod
    def of(cls, y: FloatArray, cell: IntArray, m: int) -> _Side:
        if not (np.isfinite(y) & (y > 0)).all():
            raise InputError("values to compare must be positive and finite", got=str(y[~(y > 0)][:3]))
        n = np.bincount(cell, minlength=m).astype(float)
        if not m or len(n) > m or not n.all():
            raise InputError(
                "both sides need runs of every cell", got=f"runs in {int((n > 0).sum())} of {len(n)} cells"
            )
        log_y = np.log(y)
        mean = np.bincount(cell, log_y, m) / n
        return cls(mean, n, np.asarray(np.bincount(cell, (log_y - mean[cell]) ** 2, m), float))

    @property
    def df(self) -> float:
        return float((self.n - 1).sum())

    @property
    def variance(self) -> float:
        """Of one run, pooled over cells; NaN without repeats, or where all repeats are copies."""
        total = float(self.squares.sum())
        return total / self.df if self.df and total > 1e-18 * self.df else float("nan")


def _variances(a: _Side, b: _Side) -> tuple[float, float, float, float]:
    """The sides' variances of one run and their degrees of freedom (0 for a side that borrows the other's)."""
    found = [(side.variance, side.df) for side in (a, b)]
    (var_a, df_a), (var_b, df_b) = ((v, f) if v == v else (v, 0.0) for v, f in found)
    return var_a if df_a else var_b, var_b if df_b else var_a, df_a, df_b


def _satterthwaite(part_a: FloatArray, part_b: FloatArray, df_a: float, df_b: float) -> FloatArray:
    """Degrees of freedom of the sum of two estimated variances; one that is borrowed is the other's."""
    if not df_a or not df_b:
        return np.full_like(part_a, df_a + df_b)
    return np.asarray((part_a + part_b) ** 2 / (part_a**2 / df_a + part_b**2 / df_b))


def _noise(a: _Side, b: _Side, w: FloatArray) -> tuple[FloatArray, FloatArray, Noise, bool]:
    """Variance (m,) of w, its degrees of freedom (m,), where it is from, and whether cells are equally noisy."""
    var_a, var_b, df_a, df_b = _variances(a, b)
    m = len(w)
    if df_a + df_b < MIN_DF and m >= MIN_SPREAD_CELLS and float(w.var(ddof=1)) > 0:
        # Real differences between cells are in it, too: it is rather too large.
        return np.full(m, w.var(ddof=1)), np.full(m, m - 1.0), "spread over cells", True
    if not df_a + df_b:
        return np.full(m, np.nan), np.full(m, np.nan), "unknown", True
    part_a, part_b = var_a / a.n, var_b / b.n
    df = _satterthwaite(part_a, part_b, df_a, df_b)
    scaled = (a.squares / var_a if df_a else 0.0) + (b.squares / var_b if df_b else 0.0)
    own_df = (a.n - 1) * bool(df_a) + (b.n - 1) * bool(df_b)
    factor, factor_df = noise_factors(np.asarray(scaled, float), own_df)
    alike = not np.isfinite(factor_df).any()
    return factor * (part_a + part_b), np.minimum(df, factor_df), "repeats", alike


def _noise_of_mean(a: _Side, b: _Side, var: FloatArray, noise: Noise) -> tuple[float, float]:
    """Variance of the mean of w over these cells, and its degrees of freedom."""
    m = len(var)
    if noise != "repeats":
        return float(var.mean() / m), m - 1.0 if noise == "spread over cells" else float("nan")
    var_a, var_b, df_a, df_b = _variances(a, b)
    part_a, part_b = (np.array([(v / side.n).sum()]) for v, side in ((var_a, a), (var_b, b)))
    return float(var.sum() / m**2), float(_satterthwaite(part_a, part_b, df_a, df_b)[0])


def noise_factors(squares: FloatArray, df: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Each cell's variance beside the pooled one and its degrees of freedom, (m,) each; 1 and infinity if alike.

    Parameters
    ----------
    squares : (m,) float
        Sums of squares, the pooled variance being 1.
    df : (m,) float
        Their degrees of freedom, 0 where a cell has no repeats.
    """
    m = len(squares)
    ones, infinite = np.ones(m), np.full(m, np.inf)
    told = df > 0
    k, f = int(told.sum()), df[told]
    if k < 3:
        return ones, infinite
    own = np.maximum(squares[told] / f, 1e-4)  # copies among repeats have no logarithm
    pooled = float((f * own).sum() / f.sum())
    scale = 1 + ((1 / f).sum() - 1 / f.sum()) / (3 * (k - 1))
    statistic = (f.sum() * np.log(pooled) - (f * np.log(own)).sum()) / scale
    if stats.chi2.sf(statistic, k - 1) >= ALIKE_LEVEL:
        return ones, infinite
    e = np.log(own) - special.digamma(f / 2) + np.log(f / 2)
    excess = float(((e - e.mean()) ** 2).sum() / (k - 1) - special.polygamma(1, f / 2).mean())
    if excess <= special.polygamma(1, MAX_PRIOR_DF):
        return ones, infinite
    prior_df = 2 * float(optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 2 * MAX_PRIOR_DF))
    prior = float(np.exp(e.mean() + special.digamma(prior_df / 2) - np.log(prior_df / 2)))
    return (prior_df * prior + squares) / (prior_df + df), prior_df + df


def holm(p: FloatArray) -> FloatArray:
    """P-values (m,) adjusted by Holm's procedure; unknown ones count as 1."""
    known = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(known)
    steps = known[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


def _p_above(w: FloatArray, limit: float, var: FloatArray, df: FloatArray) -> FloatArray:
    return np.asarray(stats.t.sf((w - limit) / np.sqrt(var), df))


def _verdict(low: float, high: float, limit: float) -> Verdict:
    return "FAIL" if low > limit else "PASS" if high < limit else "INCONCLUSIVE"


def _ratios(sign: float, w: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ratios of the metric and their ends in order: what is worse is less of a rate."""
    ends = (low, high) if sign > 0 else (high, low)
    return np.exp(sign * w), np.exp(sign * ends[0]), np.exp(sign * ends[1])
