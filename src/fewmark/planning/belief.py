"""What is believed of a space before and while it is measured: a joint distribution of the log target over its cells.

Notation: n cells; f (n,) the log of the target; m (n,) its mean; C (n, n) its covariance; s the noise of a measurement,
as a standard deviation of the log; nu0: how many measurements' worth the stated covariance is trusted.

    told cells T        K = C_TT + N, r = y - m_T:  m ← m + C_T K^-1 r,  C ← C - C_T K^-1 C_T^T
    noise N             s_i² + e_i² on the diagonal, e_i what projecting adds; SHARED (s_i s_j + e_i e_j) between two
                        values of one run (`planning.prefix`); else 0
    scale               q = (nu0 + r K^-1 r) / (nu0 + k) after k measurements: how much wider or narrower it was
    later               against a reference of another time of a machine: + q MINUTE² s_i s_j, for all cells alike
    noise               s = f s_0, f of `NOISE_FACTORS` by the likelihood of the told cells (Student-t with nu0 degrees)
                        times a log-normal prior around 1: a busy machine is noisier than any model learned
    posterior           multivariate Student-t with nu0 + k degrees, mean m, covariance q C
    gain of cell j      Σ_i w_i (sqrt(C_ii) - sqrt(C_ii - C_ij² / v_j)): the drop in the weighted mean error

The forecast is by drawing from the posterior: errors of one deployment's cells are strongly correlated, so the median
of the absolute errors over a grid is itself uncertain, and its quantile is what a safe stop must look at.

Source: Rasmussen and Williams (2006), section 2.2 and, for the scale, 9.9; the greedy gain follows Krause, Singh and
Guestrin (JMLR 2008), with the mean standard deviation in place of the mutual information.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import ndtri as normal_quantile

from fewmark.core.errors import InputError
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray

NOISE_FACTORS: Final = tuple(2.0 ** (k / 2) for k in range(11))
NOISE_PRIOR_SD: Final = 1.0  # of the log of the factor
# on a machine of today, which may be busy; records were chosen by who made them
NOISE_PRIOR_SD_INDEPENDENT: Final = 1.5
# What all runs of a campaign are off from another time of the machine, over what one is off from the next
MINUTE: Final = 1.0
SHARED: Final = 0.9  # of the variance of noise: between values that one run gave
MIN_TOLD: Final = 4  # measurements before noise is told from signal
JITTER: Final = 1e-10
TRUST: Final = 3.0
MEAN_DOUBT: Final = 2 / 3  # single wild cells, which these draws do not know, move the mean and not the median
N_DRAWS: Final = 300
MAX_DRAWN: Final = 600  # cells whose joint draw is affordable; beyond, an even sample of them stands for all
INTERVAL_LEVEL: Final = 0.9


def error_text(error: float) -> str:
    """A forecast error for people: beyond 100% it only says that nothing is known."""
    return f"{error:.1%}" if error <= 1 else "more than 100%"


@dataclass(frozen=True, slots=True)
class Forecast:
    """The errors to expect over the space, as fractions: expected values, and the level that they stay below with
    probability `assurance`."""

    median_ape: float
    mean_ape: float
    p90_ape: float
    median_ape_bound: float
    mean_ape_bound: float
    assurance: float


@dataclass(frozen=True, slots=True)
class Observation:
    """One value: its cell, its log, the position of the run that gave it, and the standard deviation of the log that
    projecting it added; 0 where it was measured, and then it stands."""

    position: int
    log_value: float
    run: int
    projected_sd: float = 0.0


@dataclass(frozen=True)
class Belief:
    """See the notation above. `observed` (n,) marks measured cells: their value stands.

    `independent_reference` tells what errors are held against: a reference that is measured independently, so that a
    measured cell is answered by the posterior like any other (its neighbours even out the noise of its own
    measurement), or (the default) one that has these very measurements in it, so that a measured cell is right.
    `noise` (n,) is s of each cell; the reference that errors are held against has it, too. `told` is what came since
    `start`, the belief before it. `reveals` (n, n), if any, says whether measuring cell j also gives the value of i.
    """

    mean: FloatArray
    covariance: FloatArray
    observed: BoolArray
    noise: FloatArray
    trust: float = TRUST
    surprise: float = 0.0
    n_told: int = 0
    told: tuple[Observation, ...] = ()
    start: Belief | None = None
    independent_reference: bool = False
    reveals: BoolArray | None = None

    @property
    def scale(self) -> float:
        """q: the factor on the covariance that the measurements so far suggest."""
        return (self.trust + self.surprise) / (self.trust + self.n_told)

    @property
    def exact(self) -> BoolArray:
        """Cells whose answer cannot be wrong, (n,): measured ones, unless the reference is independent."""
        return np.zeros_like(self.observed) if self.independent_reference else self.observed

    @property
    def sd(self) -> FloatArray:
        """Standard deviation of each cell's log target, (n,); 0 where exact."""
        variance = np.maximum(np.diag(self.covariance), 0.0) * self.scale
        return np.where(self.exact, 0.0, np.sqrt(variance))

    @property
    def repeatability(self) -> float:
        """The median error of measuring the space twice at about the same time, a fraction."""
        return float(np.expm1(normal_quantile(0.75) * np.sqrt(2 * self.scale) * np.median(self.noise)))

    @property
    def sd_of_measurement(self) -> FloatArray:
        """Standard deviation of what a measurement of each cell would give, its noise included, (n,)."""
        variance = np.maximum(np.diag(self.covariance), 0.0) + self.noise**2
        return np.asarray(np.sqrt(variance * self.scale))

    @property
    def sd_later(self) -> FloatArray:
        """Standard deviation of what a measurement at another time would give, (n,); the same without an
        independent reference."""
        shared = MINUTE * self.noise * float(self.independent_reference)
        return np.asarray(np.sqrt(self.sd_of_measurement**2 + shared**2 * self.scale))

    def tell(self, position: int, log_value: float) -> Belief:
        """The belief after measuring one cell. Raises `InputError` if the value is not finite."""
        return self.condition_on([Observation(position, float(log_value), position)])

    def condition_on(self, values_told: Iterable[Observation]) -> Belief:
        """The belief after several values; of one cell's, the last one counts. Raises `InputError` as `tell`."""
        start = self if self.start is None else self.start
        told = {one.position: one for one in (*self.told, *values_told)}
        if not told:
            return self
        at = np.array(list(told), dtype=np.intp)
        values = np.array([one.log_value for one in told.values()])
        runs = np.array([one.run for one in told.values()])
        extra = np.array([one.projected_sd for one in told.values()])
        if not np.isfinite(values).all():
            raise InputError(
                "a measured value must be finite and positive", got=np.exp(values[~np.isfinite(values)][0])
            )
        noise, added = _noise(start.noise[at], runs), _noise(extra, runs)
        exact = extra == 0
        residual = values - start.mean[at]
        prior = start.covariance[np.ix_(at, at)]
        best, chosen = -np.inf, None
        for factor in NOISE_FACTORS if len(at) >= MIN_TOLD else NOISE_FACTORS[:1]:
            root = np.linalg.cholesky(prior + factor**2 * noise + added + JITTER * np.eye(len(at)))
            white = solve_triangular(root, residual, lower=True)
            surprise = float(white @ white)
            likelihood = -np.log(np.diag(root)).sum() - 0.5 * (self.trust + len(at)) * np.log1p(surprise / self.trust)
            likelihood -= (
                0.5
                * (np.log(factor) / (NOISE_PRIOR_SD_INDEPENDENT if self.independent_reference else NOISE_PRIOR_SD)) ** 2
            )
            if likelihood > best:
                best, chosen = likelihood, (factor, root, white, surprise)
        assert chosen is not None
        factor, root, white, surprise = chosen
        explained = solve_triangular(root, start.covariance[at], lower=True)
        mean = start.mean + explained.T @ white
        observed = start.observed.copy()
        observed[at[exact]] = True
        if not self.independent_reference:
            mean[at[exact]] = values[exact]
        return replace(
            self,
            mean=np.where(start.exact, start.mean, mean),
            covariance=start.covariance - explained.T @ explained,
            observed=observed,
            noise=factor * start.noise,
            surprise=surprise,
            n_told=len(at),
            told=tuple(told.values()),
            start=start,
        )

    def recall(self, position: int, log_value: float) -> Belief:
        """Mark a cell as measured whose value is in the mean and covariance already."""
        mean, observed = self.mean.copy(), self.observed.copy()
        mean[position], observed[position] = log_value, True
        return replace(self, mean=mean, observed=observed)

    def fantasize(self, position: int) -> Belief:
        """The belief after measuring one cell, whatever its value: the spread shrinks, the mean and scale stay."""
        at = np.array([position]) if self.reveals is None else np.flatnonzero(self.reveals[position])
        columns = self.covariance[:, at]
        total = columns[at] + _noise(self.noise[at], np.zeros(len(at)))
        covariance = self.covariance - columns @ np.linalg.solve(total, columns.T)
        observed = self.observed.copy()
        observed[at] = True
        return replace(self, covariance=covariance, observed=observed)

    def sd_reduction(self, candidates: IntArray, weights: FloatArray | None = None) -> FloatArray:
        """The drop in the (weighted) mean error, in log units, from measuring each candidate, (m,)."""
        variance = np.maximum(np.diag(self.covariance), 0.0)
        hidden = np.flatnonzero(~self.exact)
        share = np.ones(len(variance)) if weights is None else weights
        share = share / share.sum()
        columns = self.covariance[np.ix_(hidden, candidates)]
        total = variance[candidates] + self.noise[candidates] ** 2
        after = np.sqrt(np.maximum(variance[hidden, None] - columns**2 / total, 0.0))
        # of what a run gives besides, only its own value counts here, not what that says of others
        if not self.independent_reference:
            given = np.eye(len(variance), dtype=bool) if self.reveals is None else self.reveals
            after[given[np.ix_(candidates, hidden)].T] = 0.0
        drop = np.sqrt(variance[hidden])[:, None] - after
        return np.asarray(np.sqrt(self.scale) * (share[hidden] @ drop))

    def forecast(
        self,
        *,
        assurance: float = 0.85,
        random_state: int = 0,
        weights: FloatArray | None = None,
        later: bool = False,
    ) -> Forecast:
        """The errors to expect over the space if every cell that is not measured is answered by the mean; `later`:
        against a reference that, if `independent_reference`, is measured at another time."""
        n = len(self.mean)
        # errors are over the cells that matter; a weight of 0 says that a cell does not
        rows = np.flatnonzero(np.ones(n) if weights is None else weights > 0)
        if len(rows) > MAX_DRAWN:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_DRAWN).astype(int)]
        rng = np.random.default_rng(random_state)
        hidden = ~self.exact[rows]
        errors = np.zeros((N_DRAWS, len(rows)))
        if hidden.any():
            at = rows[hidden]
            values, vectors = np.linalg.eigh(self.covariance[np.ix_(at, at)] + np.diag(self.noise[at] ** 2))
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            heavy = np.sqrt((self.trust + self.n_told) / rng.chisquare(self.trust + self.n_told, size=(N_DRAWS, 1)))
            drawn = rng.standard_normal((N_DRAWS, len(at))) @ root.T
            if later and self.independent_reference:
                drawn += MINUTE * self.noise[at] * rng.standard_normal((N_DRAWS, 1))
            drawn *= np.sqrt(self.scale) * heavy
            # reference = estimate · e^drawn, so that |estimate - reference| / reference = |e^-drawn - 1|
            errors[:, hidden] = np.abs(np.expm1(np.clip(-drawn, -20, 20)))
        medians, means = np.median(errors, axis=1), errors.mean(axis=1)
        return Forecast(
            median_ape=float(np.median(medians)),
            mean_ape=float(np.median(means)),
            p90_ape=float(np.median(np.quantile(errors, 0.9, axis=1))),
            median_ape_bound=float(np.quantile(medians, assurance)),
            mean_ape_bound=float(np.quantile(means, 1 - MEAN_DOUBT * (1 - assurance))),
            assurance=assurance,
        )


def _noise(sd: FloatArray, runs: FloatArray | IntArray) -> FloatArray:
    """N of the notation, (k, k)."""
    shared = np.where(runs[:, None] == runs[None, :], SHARED, 0.0)
    np.fill_diagonal(shared, 1.0)
    return np.asarray(shared * np.outer(sd, sd))
