"""Faster than the accelerators are, or slower by a thousand times: published peaks bound rates and times.

Notation (arrays (n,); bytes, tokens): W the bytes of the weights that a token needs, A active parameters, D devices,
BW and F their peak memory bandwidth and FLOP/s together, N sequences at once, oo output tokens. A decoding step reads
W at least, and a token takes 2 A operations:

    tpot >= max(W / BW, 2 A / F)      throughput <= min(N BW / W, F / 2 A)      e2e >= oo max(W / BW, 2 A N / F)

    ttft >= max(W / BW, 2 A ii / F)

Peaks are never reached, so a row that is beyond them is wrong in a number, a unit or a name. Engines that guess several
tokens at once pass the first bound, by the number that they guess. Nothing is hundreds of times slower than the peaks
at every load of a deployment: such times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.facts.facts import load_facts, user_files, weight_bytes
from fewmark.screening.base import Finding
from fewmark.screening.remembered import deployment_codes
from fewmark.tables.arrays import FloatArray
from fewmark.tables.columns import accelerator_counts, numbers_of, sequences_of

BEYOND: Final = 1.3  # times a limit: shapes and clocks are known to some percent
GUESSED: Final = 6.0  # tokens that an engine may guess at once
MOST_DEVICES: Final = 8.0  # where their number is unknown
LEAST_BYTES: Final = 0.5  # of a weight, where the precision is unknown


RATES: Final = ("throughput_tok_s", "total_throughput_tok_s")
SLOWER: Final = 300.0  # times a limit, from which on times are in milliseconds
OVERHEAD_S: Final = {"tpot_s": 0.001, "ttft_s": 0.01, "e2e_latency_s": 0.01}  # of the smallest models


class PhysicalLimit:
    """By published facts alone, so from one row on; what is known of neither model nor accelerator is not judged."""

    name = "physical-limit"
    description = "faster than the accelerators' published peaks allow for the model, or slower by a thousand times"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude what is faster even with several tokens guessed at once; warn of what is only then possible."""
        step, compute = _least_times(frame)
        if not np.isfinite(step).any():
            return
        yield from self._too_slow(frame, step, compute)
        ok = (frame["status"] == "ok").to_numpy()
        n, oo = sequences_of(frame), numbers_of(frame, "output_tokens")
        held = np.where(np.isfinite(n), n, np.inf)  # at a request rate nobody knows how many are in flight
        rate = numbers_of(frame, "throughput_tok_s")
        tests = {
            "tpot_s": (numbers_of(frame, "tpot_s"), step, compute),
            "throughput_tok_s": (1 / np.where(rate > 0, rate, np.nan), step / held, compute),
            "e2e_latency_s": (numbers_of(frame, "e2e_latency_s"), oo * step, oo * compute * np.where(n > 0, n, 1.0)),
        }
        for position in np.flatnonzero(ok & np.isfinite(step)).tolist():
            worst: tuple[float, bool, str, float, float] | None = None
            for name, (took, read, computed) in tests.items():
                at = float(took[position])
                if not at > 0:
                    continue
                # guessing spares reading, not computing
                sure = max(float(read[position]) / GUESSED, float(computed[position])) / at
                usual = max(float(read[position]), float(computed[position])) / at
                limit = max(float(read[position]), float(computed[position]))
                if usual > BEYOND and (worst is None or usual > worst[0]):
                    worst = (usual, sure > BEYOND, name, at, limit)
            if worst is not None:
                times, sure_, name, at, limit = worst
                if name == "throughput_tok_s":
                    said = f"throughput_tok_s is {1 / at:.4g}, {times:.3g} times the {1 / limit:.4g}"
                else:
                    said = f"{name} is {at:.4g} s, {times:.3g} times less than the {limit:.4g} s"
                reason = f"{said} that the published peaks of {_named(frame, position)} allow"
                reason += "" if sure_ else "; only guessing several tokens at once (speculative decoding) can do that"
                yield Finding(int(frame.index[position]) + 1, self.name, reason, "exclude" if sure_ else "warn")

    def _too_slow(self, frame: pd.DataFrame, step: FloatArray, compute: FloatArray) -> Iterable[Finding]:
        """Correct times that are slower than sense at every load of their deployment, where no rate bears them out."""
        ok = (frame["status"] == "ok").to_numpy() & np.isfinite(step)
        ok &= (frame["placement"].isna() | (frame["placement"] == "accelerator")).to_numpy()
        ok &= frame[list(RATES)].isna().all(axis=1).to_numpy()
        ii, oo = numbers_of(frame, "input_tokens"), numbers_of(frame, "output_tokens")
        least = {
            "tpot_s": np.maximum(step, compute),
            "ttft_s": np.maximum(step, ii * compute),
            "e2e_latency_s": oo * np.maximum(step, compute),
        }
        code = deployment_codes(frame)
        for name, limit in least.items():
            took = numbers_of(frame, name)
            known = ok & (took > 0) & np.isfinite(limit)
            times = np.full(len(frame), np.nan)
            overhead = OVERHEAD_S[name] + (oo * OVERHEAD_S["tpot_s"] if name == "e2e_latency_s" else 0.0)
            times[known] = (took / np.maximum(limit, overhead))[known]
            for number in np.unique(code[known]):
                rows = known & (code == number)
                if times[rows].min() < SLOWER or (took < 1e3 * limit)[rows].any():  # no, if faster than peaks then
                    continue
                for position in np.flatnonzero(rows).tolist():
                    reason = (
                        f"{name} is {took[position]:.4g} s, {took[position] / limit[position]:,.0f} times the "
                        f"{limit[position]:.3g} s that the published peaks of {_named(frame, position)} allow: {name} "
                        f"is in milliseconds; taken as {took[position] / 1e3:.4g}; so in all {rows.sum()} rows of it"
                    )
                    changes = {name: took[position] / 1e3}
                    yield Finding(int(frame.index[position]) + 1, self.name, reason, "correct", changes)


def _named(frame: pd.DataFrame, position: int) -> str:
    row = frame.iloc[position]
    count = accelerator_counts(frame.iloc[[position]])[0]
    number = f"{count:g} × " if np.isfinite(count) else f"up to {MOST_DEVICES:g} × "
    return f"{number}{row['accelerator']} for {row['model']}"


def _least_times(frame: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """The least seconds of a decoding step by reading the weights, and of a token by arithmetic, (n,) each."""
    facts = load_facts(user_files())
    read, compute = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    code = deployment_codes(frame)
    first = np.unique(code, return_index=True)[1]
    counts = accelerator_counts(frame)
    for number, position in enumerate(first.tolist()):
        row = frame.iloc[position]
        model, device = (None if pd.isna(row[name]) else str(row[name]) for name in ("model", "accelerator"))
        if model is None or device is None:
            continue
        shape, peak = facts.model(model), facts.accelerator(device)
        if not (shape.known and peak.known):
            continue
        precision = None if pd.isna(row["precision"]) else str(row["precision"])
        size = weight_bytes(precision, model) if precision else min(LEAST_BYTES, weight_bytes(None, model))
        devices = counts[position] if np.isfinite(counts[position]) else MOST_DEVICES
        rows = code == number
        read[rows] = shape.active_parameters * size / (devices * peak.bandwidth)
        compute[rows] = 2 * shape.active_parameters / (devices * max(peak.flops.values()))
    return read, compute
