"""The load that a client's settings amount to: exactly one of a concurrency and a request rate, or unknown."""

from __future__ import annotations

import math

from fewmark.interop.results.run_rows import RunRow, count, number, positive, text


def put_load(
    row: RunRow,
    *,
    rate: object,
    cap: object,
    n_requests: int,
    ramp: object = None,
    ramp_ends: tuple[object, object] = (None, None),
) -> None:
    """Set the row's load from a client that sends requests at a rate and caps how many are in flight.

    Parameters
    ----------
    rate : requests per second; "inf" or infinity sends each as soon as it may be; −1 says so too
    cap : the most requests in flight, or nothing
    n_requests : how many were sent
    ramp, ramp_ends : the name of a ramp and its first and last rate; then `rate` does not hold, whatever it says
    """
    if text(ramp):
        low, high = (number(end) for end in ramp_ends)
        ends = f" from {low:g} to {high:g} req/s" if low is not None and high is not None else ""
        row.note(f"the load ramps up{ends}; no one load holds")
        return
    most = count(cap) or None
    if most is not None and n_requests and n_requests < most:
        row.note(f"only {n_requests} requests were sent with a cap of {most}")
        most = n_requests
    steady = positive(rate)
    if steady is not None:
        row.cells["request_rate"] = steady
        if most is not None:
            row.cells["workload.max_concurrency"] = most
            row.note(f"an open loop with at most {most} in flight; latencies leave out the wait for a place")
        return
    words = (text(rate) or "").lower()
    endless = words in ("inf", "infinity", "+inf", "-1", "-1.0") or (isinstance(rate, float) and math.isinf(rate))
    if words and not endless:
        row.note(f"the request rate is {words!r}, which is not a rate")
        return
    if not endless and not words and most is None:
        return
    if most is not None:
        row.cells["concurrency"] = most
    elif n_requests:
        row.cells["concurrency"] = n_requests
        row.note(f"all {n_requests} requests were sent at once, so that many are in flight at first and fewer later")
