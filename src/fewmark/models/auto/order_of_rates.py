"""Closed loops serve no fewer requests a second for more users.

First token and pace give way as far as each is uncertain: who waits in a queue waits for the first token, whose time is
known least there; a pace that is off by a percent is not made up for by a first token that is a hundredth of it.

The notation is that of `fewmark.models.auto.model`; m cells are asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from fewmark.models.auto.features import Features
from fewmark.models.auto.limits import RATE, Order
from fewmark.models.auto.reconciliation import project
from fewmark.tables.arrays import FloatArray
from fewmark.tables.metrics import E2E, TPOT, TTFT

MAX_CUT: Final = 2.0  # of log T, by which an order of rates may lower it
LEAST_SD: Final = 1e-3  # of a log: nothing is known better


def keep_rate(
    order: Order,
    table: Features,
    logs: dict[str, FloatArray],
    sds: dict[str, FloatArray],
    floors: Mapping[str, FloatArray],
    output_tokens: FloatArray,
) -> None:
    """Let closed loops serve as many requests a second as there may be, in place.

    Cells that are moved between two bounds, as on a plateau, are known as well as these lie close, and no better
    than measurements that are taken for in order may contradict one another.

    Parameters
    ----------
    logs, sds : by latency, (m,) each
    floors : (m,) for first token and pace, the logs of their least seconds
    output_tokens : (m,)
    """
    least, most = order.whole_bounds(table.axes, table.deployment, table.online)
    kept = np.clip(logs[E2E], least, most)
    moved = np.flatnonzero(np.abs(kept - logs[E2E]) > 1e-9)
    if not len(moved):
        return
    said = {TTFT: logs[TTFT][moved], TPOT: logs[TPOT][moved], E2E: kept[moved]}
    variances = {name: np.maximum(sds[name][moved], LEAST_SD) ** 2 for name in (TTFT, TPOT)}
    log_t, log_p, _ = project(said, variances | {E2E: np.full(len(moved), LEAST_SD**4)}, output_tokens[moved])
    log_t = np.maximum(log_t, np.maximum(floors[TTFT][moved], said[TTFT] - MAX_CUT))
    log_p = np.maximum(log_p, floors[TPOT][moved])
    first, decoding = np.exp(log_t), (output_tokens[moved] - 1) * np.exp(log_p)
    logs[TTFT][moved], logs[TPOT][moved] = log_t, log_p
    logs[E2E][moved] = np.log(first + decoding)
    apart = np.maximum((most[moved] - least[moved]) / 2, order.tolerance[RATE])
    of_first = np.hypot(apart * (first + decoding), sds[TPOT][moved] * decoding) / first
    sds[E2E][moved] = np.minimum(sds[E2E][moved], apart)
    sds[TTFT][moved] = np.minimum(sds[TTFT][moved], of_first)
