"""Requests that a server may still work at though their client has gone.

Some servers generate to the end whether anybody listens or not (`transformers serve` does); what is measured next then
shares the machine with what was abandoned. Their own gauges tell when they are idle; where there are none, one of our
own is started anew, and of any other a request's time is waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from fewmark.load.records import RequestRecord, RequestStatus

MAX_SETTLE_S: Final = 120.0
POLL_S: Final = 0.1
GREET_EVERY: Final = 50  # polls: some gauges change only when something is answered
_ENDED: Final = frozenset({RequestStatus.CANCELLED, RequestStatus.TIMEOUT, RequestStatus.TOO_LARGE})


def count_abandoned(records: Iterable[RequestRecord]) -> int:
    """Requests that were sent and given up by the client."""
    return sum(record.send_s is not None and record.status in _ENDED for record in records)


def wait_until_idle(
    in_flight: Callable[[], float | None], greet: Callable[[], object], limit_s: float = MAX_SETTLE_S
) -> bool | None:
    """Whether a server became idle in time; None where it does not tell how many requests it works at."""
    deadline = time.monotonic() + limit_s
    n_polls = 0
    while (running := in_flight()) is not None:
        if running <= 0:
            return True
        if time.monotonic() > deadline:
            return False
        n_polls += 1
        if n_polls % GREET_EVERY == 0:
            greet()
        time.sleep(POLL_S)
    return None
