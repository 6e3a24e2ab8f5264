"""Batch sizes that are none: the number named something else, such as the size of the prompt's chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from fewmark.screening.base import Finding
from fewmark.screening.grid import log_latency
from fewmark.screening.rates import lacks_batch
from fewmark.screening.remembered import deployment_codes
from fewmark.tables.arrays import FloatArray, IntArray
from fewmark.tables.identity import group_codes

RISES: Final = float(np.log(1.1))  # a batch of real sequences takes longer than one sequence
FALLS: Final = -float(np.log(1.25))
LENGTHS: Final = 3  # lengths that must agree where the throughput is no witness


class BatchNotBatch:
    """More sequences never take less time. Where latency falls as the "batch" rises, it counts no sequences.

    Two witnesses: a throughput that is off by exactly 1/batch in rows whose latency does not rise with the batch, or
    latency alone that falls steadily at every length. The true batch of such rows is 1, but what varied in them is
    not a column of the table: as repeats at batch 1 they would contradict each other up to twofold. So they are
    excluded and not corrected. Rows at batch 1 are what they say, and stay.
    """

    name = "batch-not-batch"
    description = "latency falls as the batch rises, or throughput is off by exactly 1/batch and latency does not rise"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the rows above batch 1 of the deployments concerned."""
        trends = _trends(frame)
        suspect = lacks_batch(frame)
        engines = group_codes(frame, ["source", "engine"])[0]
        deployments = deployment_codes(frame)
        for engine in np.unique(engines[suspect.to_numpy()]):
            # How a harness reads its own option is a matter of the harness, so its deployments vote together.
            rows = suspect & (engines == engine)
            votes = trends[trends["deployment"].isin(np.unique(deployments[rows.to_numpy()]))]
            if len(votes) and float(votes["trend"].median()) > RISES:
                continue
            told = f"{np.exp(votes['trend'].median()):.2f} times" if len(votes) else "an unknown multiple of"
            for label, batch in _values(frame.loc[rows, "batch_size"]):
                reason = (
                    f"throughput is exactly 1/{batch:g} of what batch {batch:g} implies, and the largest batch takes "
                    f"{told} the time of the smallest: the batch of this row is 1, and {batch:g} is something else"
                )
                yield Finding(int(label) + 1, self.name, reason, "exclude")
        if trends.empty:
            return
        falling = trends.groupby("deployment")["trend"].agg(["median", "max", "size"])
        falling = falling[(falling["size"] >= LENGTHS) & (falling["median"] < FALLS) & (falling["max"] < 0)]
        for deployment, fall in falling["median"].items():
            rows = (frame["batch_size"] > 1) & ~suspect & (deployments == deployment)
            for label, batch in _values(frame.loc[rows, "batch_size"]):
                reason = (
                    f"at every length the largest batch takes less time than the smallest (median {np.exp(fall):.2f} "
                    f"times): {batch:g} is not a number of sequences"
                )
                yield Finding(int(label) + 1, self.name, reason, "exclude")


def _values(column: pd.Series) -> list[tuple[int, float]]:
    """Labels and values of a column of numbers."""
    return list(zip(column.index.tolist(), column.tolist(), strict=True))


def _trends(frame: pd.DataFrame) -> pd.DataFrame:
    """For each deployment and pair of lengths with several batches: l(largest) - l(smallest batch)."""
    none = pd.DataFrame({"deployment": [], "trend": []}, dtype=np.float64)
    if len(frame) < 2:
        return none
    sizes = {name: frame[name].to_numpy(dtype=np.float64) for name in ("input_tokens", "output_tokens", "batch_size")}
    log_s = log_latency(frame)
    known = np.isfinite(log_s) & np.logical_and.reduce([np.isfinite(values) for values in sizes.values()])
    if known.sum() < 2:
        return none
    deployment, log_s = deployment_codes(frame)[known], log_s[known]
    ii, oo, bb = (values[known] for values in sizes.values())
    line = group_codes(pd.DataFrame({"deployment": deployment, "ii": ii, "oo": oo}), ["deployment", "ii", "oo"])[0]
    order = np.lexsort((bb, line))
    deployment, line, bb, log_s = deployment[order], line[order], bb[order], log_s[order]
    first = _first_of(line, bb)
    if len(first) < len(log_s):  # repeats
        cell = np.repeat(np.arange(len(first)), np.diff([*first.tolist(), len(log_s)]))
        log_s = pd.Series(log_s).groupby(cell).median().to_numpy()
    else:
        log_s = log_s[first]
    deployment, line = deployment[first], line[first]
    start = _first_of(line)
    end = np.append(start[1:], len(line)) - 1
    several = end > start
    return pd.DataFrame({"deployment": deployment[start], "trend": log_s[end] - log_s[start]})[several].reset_index(
        drop=True
    )


def _first_of(*columns: FloatArray | IntArray) -> IntArray:
    """Where a group of equal neighbours begins."""
    new = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(np.append(True, new))
