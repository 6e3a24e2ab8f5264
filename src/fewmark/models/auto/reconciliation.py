"""Three latencies of a cell made to agree, each trusted as far as it has earned on other deployments.

Notation: T `ttft_s`, P `tpot_s`, E `e2e_latency_s` of a cell with oo output tokens; t, p, e what three processes say of
their logs, with variances a, b, c:

    minimise (log T - t)²/a + (log P - p)²/b + (log E - e)²/c   subject to E = T + (oo - 1) P

by Gauss-Newton steps on log T and log P. Two of the three are enough, and T and P have each a physics of their own, of
which E is the sum: these two are trusted, unless cells of other deployments that are left out, as
`fewmark.models.auto.leave_out` leaves them out, say that all three or another two are better, by
MIN_STANDARD_ERRORS standard errors over deployments. Every target is read off the same point, so the choice is one for
all targets. Variances count as
large as the errors of the left-out cells say, and intervals come from the errors that the reconciled values have there:
the processes learn from the same cells, so that their errors are not independent, and three that agree are not as good
as three measurements.

Source: generalised least squares under a constraint (Rasmussen and Williams 2006, A.6, for one linear observation); the
simplest that is not clearly worse (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3, with one standard error).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import ndtri as normal_quantile

from fewmark.models.auto.conformity_scores import LeftOut, Scores
from fewmark.tables.arrays import FloatArray
from fewmark.tables.metrics import E2E, LATENCIES, TPOT, TTFT

STEPS: Final = 12
DISTRUSTED: Final = 1e3  # times the standard deviation
ERROR_FLOOR: Final = 3e-3  # log error below which nothing is better than anything else
MIN_STANDARD_ERRORS: Final = 2.0
VAGUE: Final = 0.7  # of log T, a standard deviation
FADING: Final = 6.0
MAX_INFLATION: Final = 4.0  # times that a standard deviation may be too small or too large


@dataclass(frozen=True)
class TrustChoice:
    """How far each latency's standard deviation is inflated, and the scores of what is reconciled, by latency."""

    inflation: Mapping[str, float]
    scores: Mapping[str, Scores]


def select_trust(left: Mapping[str, LeftOut], output_tokens: FloatArray) -> TrustChoice | None:
    """Who is trusted, by cells left out (k of them, the same for each latency); None where they tell nothing.

    Parameters
    ----------
    left : by latency; `output_tokens` : (k,)
    """
    first = left[E2E]
    deployments, member = np.unique(first.deployment, return_inverse=True)
    if len(deployments) < 2:
        return None
    own = {name: _typical(one.compared(*one.errors) / one.sd) for name, one in left.items()}
    best, found = None, None
    for doubted in (E2E, None, TTFT, TPOT):
        inflation = {name: own[name] * trust for name, trust in distrust(doubted).items()}
        errors, sds = _reconciled(left, inflation, output_tokens)
        loss = np.mean([np.log(left[name].compared(*errors[name]) + ERROR_FLOOR) for name in LATENCIES], axis=0)
        each = np.bincount(member, loss) / np.bincount(member)
        if best is not None:
            gain = best - each
            if gain.mean() <= MIN_STANDARD_ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)):
                continue
        best, found = each, TrustChoice(
            inflation,
            {
                name: replace(one.scores, z=one.mixed(*errors[name]) / sds[name], log_sd=np.log(sds[name]))
                for name, one in left.items()
            },
        )  # fmt: skip
    return found


def distrust(latency: str | None) -> dict[str, float]:
    """How far each latency's standard deviation is inflated where one is not trusted, or none is distrusted."""
    return {name: DISTRUSTED if name == latency else 1.0 for name in LATENCIES}


def stretched(sds: Mapping[str, FloatArray], inflation: Mapping[str, float | FloatArray]) -> dict[str, FloatArray]:
    """Standard deviations (m,) as they count: E is not doubted where T itself is vague, as near the knee of a queue."""
    out = {name: np.asarray(inflation[name] * sd) for name, sd in sds.items()}
    most = np.maximum(1.0, (VAGUE / out[TTFT]) ** FADING)
    out[E2E] = sds[E2E] * np.where(inflation[E2E] > MAX_INFLATION, np.minimum(inflation[E2E], most), inflation[E2E])
    return out


def _typical(z: FloatArray) -> float:
    return float(np.clip(np.median(z) / normal_quantile(0.75), 1 / MAX_INFLATION, MAX_INFLATION))


def _reconciled(
    left: Mapping[str, LeftOut], inflation: Mapping[str, float], output_tokens: FloatArray
) -> tuple[dict[str, tuple[FloatArray, FloatArray]], dict[str, FloatArray]]:
    """The errors of left-out cells once reconciled, out of fold and in sample, and standard deviations, each (k,)."""
    counted = stretched({name: one.sd for name, one in left.items()}, inflation)
    variances = {name: sd**2 for name, sd in counted.items()}
    out_of_fold, ratio = agree(
        {name: one.offset + one.out_of_fold for name, one in left.items()}, variances, output_tokens
    )
    in_sample, _ = agree({name: one.offset + one.in_sample for name, one in left.items()}, variances, output_tokens)
    errors = {
        name: (np.abs(one.offset + one.truth - out_of_fold[name]), np.abs(one.offset + one.truth - in_sample[name]))
        for name, one in left.items()
    }
    return errors, {name: np.sqrt(variances[name] * ratio[name]) for name in LATENCIES}


def agree(
    logs: Mapping[str, FloatArray], variances: Mapping[str, FloatArray], output_tokens: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """The logs of all three latencies (m,) under the definition of E, and the shares left of their variances."""
    log_t, log_p, left = project(logs, variances, output_tokens)
    with np.errstate(divide="ignore"):
        log_e = np.logaddexp(log_t, np.log(output_tokens - 1) + log_p)
    return {TTFT: log_t, TPOT: log_p, E2E: log_e}, left


def project(
    logs: Mapping[str, FloatArray], variances: Mapping[str, FloatArray], output_tokens: FloatArray
) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """The nearest log T and log P (m,) under the definition of E, and for each latency its variance's share left."""
    t, p, e = (logs[name] for name in LATENCIES)
    a, b, c = (variances[name] for name in LATENCIES)
    log_t, log_p = t.copy(), p.copy()
    with np.errstate(divide="ignore"):
        log_tokens = np.log(output_tokens - 1)  # one token: no time per token, and E = T
    for _ in range(STEPS):
        total = np.logaddexp(log_t, log_tokens + log_p)
        first = np.exp(log_t - total)
        rest = 1.0 - first
        # E linear about the present point: an observation of first · log T + rest · log P
        seen = e - total + first * log_t + rest * log_p
        spread = first**2 * a + rest**2 * b
        gain = (seen - first * t - rest * p) / (spread + c)
        log_t, log_p = t + a * first * gain, p + b * rest * gain
    left = {
        TTFT: 1.0 - a * first**2 / (spread + c),
        TPOT: 1.0 - b * rest**2 / (spread + c),
        E2E: spread / (spread + c),
    }
    return log_t, log_p, left
