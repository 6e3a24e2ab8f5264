"""Latencies of full generations from generations cut short.

    projector = Projector()                      one for each deployment
    projector.learn(measurement)                 any ok measurement of it, truncated or full; pairs calibrate
    projection = projector.project(workload, samples)      samples of a generation cut short, output_tokens < asked

Rules:

growth
    each run's own clock up to its last token, then for every step left the mean step at the KV lengths that are left:
    the case's own, as far as the machine's noise lets it be believed, and what all runs of the deployment say of cases
    like it and of how a step grows with the KV cache (`fewmark.runner.projection.kv_growth`); with an interval.
mean
    the mean decode step for every step left; no interval.
flexllmgen
    decode = the first two steps + the mean of the others × (output - 3), at least 4 tokens; no interval
    (FlexLLMGen's baselines, `hf_opt.py`).

The interval's relative variance, with a share s of the latency projected, M steps left and r repeats, in the notation
of `fewmark.runner.projection.kv_growth`, is the sum of

    s²·var(level)           the mean step at the KV length of the steps left: the fit, the case's own, the inflation
    τ²·(1 + (1 − s)²)       the full measurement is another visit; so is what was read off the clock
    φ²·2/r                  two measurements of the same differ: φ from the repeats
    s²·σ_g²/(M·r)           what single long steps add to the full measurement

times a calibration c² = (ν·`PRIOR_SCALE`² + Σ z²)/(ν + n) over the n cases that were also measured in full, z =
log(full/projected) over the relative standard deviation (at most `MAX_Z`: one moment of the machine must not rule),
ν = `PRIOR_DF`; the interval is Student's with ν + n degrees of freedom. On simulated machines, quiet ones and such
where two full measurements differ by a quarter, 85% to 93% of full measurements fall into the intervals of 90%.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fewmark.core import InputError, Measurement, Projection, Sample, Status, Workload
from fewmark.core.values import RUN_PROVENANCES
from fewmark.runner.drift_check import FLAG as DRIFT_CHECK
from fewmark.runner.projection.decode_steps import SKIPPED, Stretches, of_measurement, step_times, stretches
from fewmark.runner.projection.kv_growth import Growth, fit_growth

RULES: Final = ("growth", "mean", "flexllmgen")
CONFIDENCE_LEVEL: Final = 0.9
PRIOR_DF: Final = 5.0
PRIOR_SCALE: Final = 1.15
FEWEST_TOKENS: Final = 4
MAX_Z: Final = 3.0


@dataclass(frozen=True)
class Pair:
    """A case that was projected and measured in full: seconds, and the projection's own relative sd."""

    case_id: str
    projected_s: float
    full_s: float
    inside: bool | None
    z: float | None
    projected_wall_s: float | None = None
    full_wall_s: float | None = None

    @property
    def error(self) -> float:
        """Of the projection, as a fraction of the full measurement."""
        return abs(self.projected_s / self.full_s - 1)


class Projector:
    """Projects the runs of one deployment, the better the more of it has been learned.

    Parameters
    ----------
    rule : str
        ``growth``, ``mean`` or ``flexllmgen``.
    confidence_level : float
        Of the intervals.
    """

    def __init__(self, rule: str = "growth", confidence_level: float = CONFIDENCE_LEVEL) -> None:
        if rule not in RULES:
            raise InputError("no such rule of projection", got=rule, hint=f"one of {', '.join(RULES)}")
        self.rule = rule
        self.confidence_level = confidence_level
        self.pairs: dict[str, Pair] = {}
        self._runs: dict[tuple[str, str], Stretches] = {}  # by case and provenance
        self._held: dict[tuple[str, str], Measurement] = {}
        self._spent_s: dict[tuple[str, str], float] = {}  # of what was projected anew, by the run that it is of
        self._growth: Growth | None = None

    def learn(self, measurement: Measurement) -> None:
        """Take in a measurement of the deployment; what failed or has no clock says nothing."""
        live = measurement.provenance in RUN_PROVENANCES and DRIFT_CHECK not in measurement.flags
        if measurement.status is not Status.OK or not live:
            return
        case_id = measurement.case.case_id
        key = (case_id, measurement.provenance)
        self._held[key] = measurement
        if measurement.cost.wall_s is not None:
            self._spent_s[key] = measurement.cost.wall_s
        if (run := of_measurement(measurement)) is not None:
            self._runs[key], self._growth = run, None
        projected, full = (self._held.get((case_id, kind)) for kind in ("projected", "measured"))
        if full is not None and projected is not None and projected.projection is not None:
            spent_s = (self._spent_s.get((case_id, kind)) for kind in ("projected", "measured"))
            self.pairs[case_id] = _pair(projected, full, *spent_s)

    def projected(self) -> list[Measurement]:
        """What was learned that a projection was made of, each case once."""
        return [held for held in self._held.values() if held.projection is not None]

    def project(self, workload: Workload, samples: Sequence[Sample], case_id: str | None = None) -> Projection:
        """The full latency of each run, and the interval of their median.

        A full run of the same case (`case_id`) that was learned is left out, so that it can check the projection.

        Raises
        ------
        InputError
            If a sample has no more than the first token, or too few for the rule.
        """
        tokens = {sample.output_tokens for sample in samples}
        generated = next(iter(tokens)) if len(tokens) == 1 else None
        if generated is None or not 1 < generated < workload.output_tokens:
            raise InputError(
                "a projection needs runs of one length, at least two tokens and less than asked", got=tokens
            )
        if self.rule != "growth":
            simple = flexllmgen if self.rule == "flexllmgen" else mean_rule
            latencies = tuple(simple(sample, workload.output_tokens) for sample in samples)
            return Projection(self.rule, int(generated), latencies)
        own = stretches(workload, samples, case_id or "")
        if own is None:
            raise InputError("the engine told no time of the first token: nothing can be projected")
        return self._grown(workload, samples, int(generated), own, self._with(case_id, own))

    def extend(self, measurement: Measurement, workload: Workload) -> Projection:
        """What a learned run of a shorter generation makes of a longer one of the same prompts and batch, by growth.

        Raises
        ------
        InputError
            If the run was not learned, or told no time of the first token.
        """
        own = self._runs.get((measurement.case.case_id, measurement.provenance))
        tokens = {sample.output_tokens for sample in measurement.samples}
        if own is None or len(tokens) != 1 or (generated := next(iter(tokens))) is None:
            raise InputError("only a run that was learned can be extended", got=measurement.case.case_id)
        return self._grown(workload, measurement.samples, int(generated), own, self.growth)

    def _grown(
        self, workload: Workload, samples: Sequence[Sample], generated: int, own: Stretches, growth: Growth
    ) -> Projection:
        oo, ii = float(workload.output_tokens), float(workload.input_tokens)
        level = growth.level(own, ii + (generated + oo - 1) / 2)
        left = oo - generated
        latencies = tuple(float(s.e2e_latency_s or math.nan) + left * level.step_s for s in samples)
        middle = statistics.median(latencies)
        sd = self._sd(growth, left * level.step_s / middle, level.sd, left, len(samples))
        half = student_quantile(PRIOR_DF + len(self._z), (1 + self.confidence_level) / 2) * sd
        low_s, high_s = middle * math.exp(-half), middle * math.exp(half)
        return Projection("growth", generated, latencies, low_s, high_s, self.confidence_level)

    def expected_error(self, workload: Workload, generated: int, repeats: int) -> float | None:
        """The median relative error to expect of a projection from so many tokens; None before a step was seen."""
        if not self._runs:
            return None
        near = min(self._runs.values(), key=lambda run: abs(math.log(run.load / workload.load)))
        left = float(workload.output_tokens) - generated
        steps = max(1, generated - 1 - SKIPPED) * repeats
        alike = replace(near, kv_at=near.kv_at[:1], step_s=near.step_s[:1], count=np.array([float(steps)]))
        level = self.growth.level(alike, near.kv_at[0] + float(workload.output_tokens) / 2)
        share = left / float(workload.output_tokens)  # the prefill, which is measured, not counted
        return statistics.NormalDist().inv_cdf(0.75) * self._sd(self.growth, share, level.sd, left, repeats)

    def _sd(self, growth: Growth, share: float, level_sd: float, left: float, repeats: int) -> float:
        """The relative standard deviation of a projection, as the module's head has it."""
        variance = (
            (share * level_sd) ** 2
            + growth.tau**2 * (1 + (1 - share) ** 2)
            + growth.scatter**2 * 2 / repeats
            + (share * growth.spikes) ** 2 / (left * repeats)
        )
        return math.sqrt(variance) * self.calibration

    @property
    def calibration(self) -> float:
        """What the standard deviations are multiplied with, by the cases that were also measured in full."""
        return math.sqrt((PRIOR_DF * PRIOR_SCALE**2 + sum(z * z for z in self._z)) / (PRIOR_DF + len(self._z)))

    @property
    def growth(self) -> Growth:
        """What has been learned of the growth; ask only after something was."""
        if self._growth is None:
            self._growth = fit_growth(list(self._runs.values()))
        return self._growth

    def _with(self, case_id: str | None, own: Stretches) -> Growth:
        """What was learned, this run in place of what there is of its case."""
        others = [run for (case, _), run in self._runs.items() if case != case_id]
        return fit_growth([*others, own])

    @property
    def _z(self) -> list[float]:
        return [pair.z for pair in self.pairs.values() if pair.z is not None]


def mean_rule(sample: Sample, output_tokens: float) -> float:
    """Seconds of the full run: the first token's, and the mean decode step for all others."""
    generated, e2e, ttft = sample.output_tokens, sample.e2e_latency_s, sample.ttft_s
    if generated is None or e2e is None or ttft is None or generated < 2:
        raise InputError("the mean rule needs the times of two tokens", got=sample.to_dict())
    return ttft + (e2e - ttft) / (generated - 1) * (output_tokens - 1)


def flexllmgen(sample: Sample, output_tokens: float) -> float:
    """Seconds of the full run by FlexLLMGen's rule: two steps as they were, then the mean of the others."""
    steps = step_times(sample)
    if len(steps) < FEWEST_TOKENS - 1 or sample.ttft_s is None:
        raise InputError(f"the rule flexllmgen needs the times of at least {FEWEST_TOKENS} tokens", got=len(steps) + 1)
    return sample.ttft_s + float(steps[:2].sum() + steps[2:].mean() * (output_tokens - 3))


def _pair(projected: Measurement, full: Measurement, projected_wall_s: float | None, full_wall_s: float | None) -> Pair:
    held = projected.projection
    guess, actual = projected.median("e2e_latency_s"), full.median("e2e_latency_s")
    assert held is not None and guess is not None and actual is not None
    inside, z = None, None
    if held.low_s is not None and held.high_s is not None:
        inside = held.low_s <= actual <= held.high_s
        # the interval told the sd, widened by the calibration and the quantile that held when it was made
        half = math.log(held.high_s / held.low_s) / 2
        z = float(math.log(actual / guess) / half * student_quantile(PRIOR_DF, (1 + held.confidence_level) / 2))
        z = max(-MAX_Z, min(MAX_Z, z))
    return Pair(projected.case.case_id, guess, actual, inside, z, projected_wall_s, full_wall_s)


def student_quantile(df: float, p: float) -> float:
    """The quantile of Student's distribution; SciPy is imported when a projection is made, not when a run begins."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))
