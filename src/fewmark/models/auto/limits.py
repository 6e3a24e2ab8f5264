"""What cannot be, and is not answered: latencies that fall as work grows, and closed loops slower for more users.

With no fewer users, no shorter prompt and no shorter answer than two measured cells of its deployment, a cell takes no
less time than the faster of them; with no more of each, no more than the slower. Measured cells that break this rule
among themselves, as noise and batching let some, say how far it holds: SHARE of all ordered pairs of the table depart
from it by less. So it is with the rate of requests (`RATE`) of closed loops of the same lengths: with no fewer users it
is no lower, which pins what lies between measured cells of a plateau.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.models.state import Arrays, State, floats, part, real
from fewmark.tables.arrays import BoolArray, FloatArray, IntArray
from fewmark.tables.identity import rows_by_group
from fewmark.tables.metrics import E2E, TPOT

RATE: Final = "rate"  # log of users over the latency of whole requests
SHARE: Final = 0.98
LEAST: Final = 0.02  # log: differences that are none
FEW: Final = 10  # ordered pairs that tell next to nothing
UNKNOWN: Final = 0.1  # the least tolerance where there are so few


@dataclass(frozen=True)
class Order:
    """Measured cells of each deployment, and how well their latencies keep the order of their work.

    Attributes
    ----------
    axes : (k, 3) log2 input, output and load
    logs : the log of each latency (k,) by name
    deployment : (k,) numbers
    tolerance : by latency, how far cells of the table depart from the order, a log
    """

    axes: FloatArray
    logs: Mapping[str, FloatArray]
    deployment: IntArray
    tolerance: Mapping[str, float]

    @classmethod
    def learn(cls, axes: FloatArray, logs: Mapping[str, FloatArray], deployment: IntArray) -> Order:
        """From cells (k of them)."""
        broken: dict[str, list[FloatArray]] = {name: [] for name in logs}
        for rows in rows_by_group(deployment).values():
            below = _no_more(axes[rows], axes[rows], logs)
            for name, values in logs.items():
                lower, upper = np.nonzero(below[name] & ~np.eye(len(rows), dtype=bool))
                apart = values[rows][lower] - values[rows][upper]
                broken[name].append(apart[np.isfinite(apart)])
        tolerance = {}
        for name, parts in broken.items():
            excess = np.maximum(np.concatenate(parts), 0.0) if parts else np.zeros(0)
            found = float(np.quantile(excess, SHARE)) if len(excess) else UNKNOWN
            tolerance[name] = max(found, UNKNOWN if len(excess) < FEW else 0.0) + LEAST
        return cls(axes, logs, deployment, tolerance)

    def keep(self, axes: FloatArray, deployment: IntArray, logs: dict[str, FloatArray]) -> None:
        """Move the logs (m,) of cells, by name and in place, to where the measured ones allow."""
        for name, (least, most) in self.bounds(axes, deployment, logs).items():
            logs[name][:] = np.clip(logs[name], least, most)

    def bounds(
        self, axes: FloatArray, deployment: IntArray, names: Iterable[str]
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        """The least and the most that cells' logs may be, (m,) each, by name; infinite where nothing bounds them."""
        names = tuple(names)
        out = {name: (np.full(len(axes), -np.inf), np.full(len(axes), np.inf)) for name in names}
        members = rows_by_group(self.deployment)
        for number, rows in rows_by_group(deployment).items():
            own = members.get(number)
            if own is None:
                continue
            for start in range(0, len(rows), 4096):
                part = rows[start : start + 4096]
                lower = _no_more(self.axes[own], axes[part], names)
                upper = _no_more(axes[part], self.axes[own], names)
                for name in names:
                    told = self.logs[name][own]
                    there = np.isfinite(told)[:, None]
                    below = np.where(lower[name] & there, -told[:, None], np.inf)
                    above = np.where(upper[name].T & there, told[:, None], np.inf)
                    # the second of them: one alone may be an outlier
                    least, most = -_second(below), _second(above)
                    if name == RATE:  # unless it keeps the order with all on the other side
                        fastest, slowest = -below.min(axis=0), above.min(axis=0)
                        in_order = fastest <= slowest + self.tolerance[name]
                        least, most = np.where(in_order, fastest, least), np.where(in_order, slowest, most)
                    least, most = least - self.tolerance[name], most + self.tolerance[name]
                    open_ = least > most  # they contradict each other
                    # what was measured itself can be
                    same = lower[name] & upper[name].T & there
                    lowest = np.where(same, told[:, None], np.inf).min(axis=0)
                    highest = np.where(same, told[:, None], -np.inf).max(axis=0)
                    out[name][0][part] = np.where(open_, -np.inf, np.minimum(least, lowest))
                    out[name][1][part] = np.where(open_, np.inf, np.maximum(most, highest))
        return out

    def keep_rate(self, axes: FloatArray, deployment: IntArray, log_s: FloatArray, loop: BoolArray) -> FloatArray:
        """The log latency of whole requests (m,), in closed loops with as many requests a second as there may be."""
        least, most = self.whole_bounds(axes, deployment, loop)
        return np.clip(log_s, least, most)

    def whole_bounds(self, axes: FloatArray, deployment: IntArray, loop: BoolArray) -> tuple[FloatArray, FloatArray]:
        """The log latencies of whole requests that the order of rates leaves to closed loops, (m,) each."""
        if RATE not in self.logs or not loop.any():
            return np.full(len(axes), -np.inf), np.full(len(axes), np.inf)
        least, most = self.bounds(axes, deployment, (RATE,))[RATE]
        return np.where(loop, log_rate(axes, most), -np.inf), np.where(loop, log_rate(axes, least), np.inf)

    def to_state(self) -> tuple[State, Arrays]:
        """JSON values and arrays."""
        arrays: Arrays = {"axes": self.axes, "deployment": self.deployment}
        arrays |= {f"log {name}": values for name, values in self.logs.items()}
        tolerance: State = dict(self.tolerance)
        return {"tolerance": tolerance}, arrays

    @classmethod
    def from_state(cls, state: State, arrays: Arrays) -> Order:
        """What `to_state` gave."""
        told = part(state, "tolerance")
        tolerance = {name: real(told, name) for name in told}
        logs = {name: floats(arrays, f"log {name}") for name in tolerance}
        return cls(floats(arrays, "axes"), logs, np.asarray(arrays["deployment"], dtype=np.int64), tolerance)


def log_rate(axes: FloatArray, log_s: FloatArray) -> FloatArray:
    """The log of users over a latency's log, (n,), and the other way round."""
    return np.asarray(np.log(2.0) * axes[:, 2] - log_s)


def _second(values: FloatArray) -> FloatArray:
    """The second smallest of each column; infinite where there is but one row."""
    if len(values) < 2:
        return np.full(values.shape[1], np.inf)
    return np.asarray(np.partition(values, 1, axis=0)[1])


def _no_more(few: FloatArray, many: FloatArray, names: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """Whether each of some cells asks no more of each other one, for each latency, (a, b)."""
    no_more = few[:, None, :3] <= many[None, :, :3] + 1e-9
    first = no_more[..., 0] & no_more[..., 2]  # a first token does not wait for an answer's length alone
    whole = first & no_more[..., 1]
    alike = (few[:, None, :2] == many[None, :, :2]).all(-1) & no_more[..., 2]
    return {
        name: alike if name == RATE else whole if name in (E2E, TPOT) else first & (few[:, None, 1] == many[None, :, 1])
        for name in names
    }
