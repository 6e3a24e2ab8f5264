"""Latencies of full generations from generations cut short.

    projector = Projector()                      one for each deployment
    projector.learn(measurement)                 any ok measurement of it, truncated or full; pairs calibrate
    projection = projector.project(workload, samples)      samples of a generation cut short, output_tokens < asked

Rules:

growth
    each run's own clock up to its last token, then for every step left the case's mean step plus what a step gains
    with the length of the KV cache, learned from all runs of the deployment (`runner.growth`); with an interval.
mean
    the mean decode step for every step left; no interval.
flexllmgen
    decode = the first two steps + the mean of the others × (output - 3), at least 4 tokens; no interval
    (FlexLLMGen's baselines, `hf_opt.py`).

The interval's variance, with M steps left at a KV length Δ beyond the case's own mean, r repeats and the median
latency L, is the sum of

    (M·m·σ)²/steps        the case's mean step m is known from so many steps
    (M·Δ·sd(slope))²      the growth
    L²·φ²·(1/r + 1/r)     two measurements of the same differ: φ from the repeats
    (M·m·τ)²              a visit of the machine is not the next one

times a calibration c² = (ν + Σ z²)/(ν + n) over the n cases that were also measured in full, z = log(full/projected)
over the relative standard deviation, ν = `PRIOR_DF`; the interval is Student's with ν + n degrees of freedom.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy.stats import norm
from scipy.stats import t as student

from fewmark.core import InputError, Measurement, Projection, Sample, Status, Workload
from fewmark.runner.drift import FLAG as DRIFT_CHECK
from fewmark.runner.growth import Growth, fit_growth
from fewmark.runner.steps import SKIPPED, Stretches, of_measurement, step_times, stretches

RULES: Final = ("growth", "mean", "flexllmgen")
CONFIDENCE_LEVEL: Final = 0.9
PRIOR_DF: Final = 6.0
FEWEST_TOKENS: Final = 4


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
        self._growth: Growth | None = None

    def learn(self, measurement: Measurement) -> None:
        """Take in a measurement of the deployment; what failed or has no clock says nothing."""
        live = measurement.provenance in ("measured", "projected") and DRIFT_CHECK not in measurement.flags
        if measurement.status is not Status.OK or not live:
            return
        case_id = measurement.case.case_id
        key = (case_id, measurement.provenance)
        self._held[key] = measurement
        if (run := of_measurement(measurement)) is not None:
            self._runs[key], self._growth = run, None
        projected, full = (self._held.get((case_id, kind)) for kind in ("projected", "measured"))
        if full is not None and projected is not None and projected.projection is not None:
            self.pairs[case_id] = _pair(projected, full)

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
        own = stretches(workload, samples)
        if own is None:
            raise InputError("the engine told no time of the first token: nothing can be projected")
        growth = self._without(case_id, own)
        slope, _ = growth.slope(workload.load)
        left = float(workload.output_tokens) - generated
        beyond = float(workload.input_tokens) + (generated + float(workload.output_tokens) - 1) / 2 - own.kv
        rest = left * (own.mean_s + slope * beyond)
        latencies = tuple(float(s.e2e_latency_s or math.nan) + rest for s in samples)
        middle = statistics.median(latencies)
        sd = self._sd(growth, workload.load, left, beyond, own.mean_s, middle, own.count.sum(), len(samples))
        half = float(student.ppf((1 + self.confidence_level) / 2, PRIOR_DF + len(self._z))) * sd
        low_s, high_s = middle * math.exp(-half), middle * math.exp(half)
        return Projection("growth", int(generated), latencies, low_s, high_s, self.confidence_level)

    def expected_error(self, workload: Workload, generated: int, repeats: int) -> float | None:
        """The median relative error to expect of a projection from so many tokens; None before a step was seen."""
        if not self._runs:
            return None
        near = min(self._runs.values(), key=lambda run: abs(math.log(run.load / workload.load)))
        left = float(workload.output_tokens) - generated
        steps = max(1, generated - 1 - SKIPPED) * repeats
        latency = near.mean_s * float(workload.output_tokens)  # the prefill, which is measured, not counted
        sd = self._sd(
            self.growth, workload.load, left, float(workload.output_tokens) / 2, near.mean_s, latency, steps, repeats
        )
        return float(norm.ppf(0.75)) * sd

    def _sd(
        self,
        growth: Growth,
        load: int,
        left: float,
        beyond: float,
        step_s: float,
        latency_s: float,
        steps: float,
        repeats: int,
    ) -> float:
        """The relative standard deviation of a projection, as the module's head has it."""
        _, slope_sd = growth.slope(load)
        variance = (
            (left * step_s * growth.sigma) ** 2 / steps
            + (left * beyond * slope_sd) ** 2
            + (latency_s * growth.scatter) ** 2 * 2 / repeats
            + (left * step_s * growth.tau) ** 2
        )
        return math.sqrt(variance) / latency_s * self.calibration

    @property
    def calibration(self) -> float:
        """What the standard deviations are multiplied with, by the cases that were also measured in full."""
        return math.sqrt((PRIOR_DF + sum(z * z for z in self._z)) / (PRIOR_DF + len(self._z)))

    @property
    def growth(self) -> Growth:
        """What has been learned of the growth; ask only after something was."""
        if self._growth is None:
            self._growth = fit_growth(list(self._runs.values()))
        return self._growth

    def _without(self, case_id: str | None, own: Stretches) -> Growth:
        if (case_id, "measured") not in self._runs:
            return self.growth if self._runs else fit_growth([own])
        others = [run for key, run in self._runs.items() if key != (case_id, "measured")]
        return fit_growth(others or [own])

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


def _pair(projected: Measurement, full: Measurement) -> Pair:
    held = projected.projection
    guess, actual = projected.median("e2e_latency_s"), full.median("e2e_latency_s")
    assert held is not None and guess is not None and actual is not None
    inside, z = None, None
    if held.low_s is not None and held.high_s is not None:
        inside = held.low_s <= actual <= held.high_s
        # the interval told the sd, widened by the calibration and the quantile that held when it was made
        half = math.log(held.high_s / held.low_s) / 2
        z = float(math.log(actual / guess) / half * student.ppf((1 + held.confidence_level) / 2, PRIOR_DF))
    return Pair(projected.case.case_id, guess, actual, inside, z, projected.cost.wall_s, full.cost.wall_s)
