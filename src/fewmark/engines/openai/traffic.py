"""From a workload to its requests: the mix, when they are sent, and how many make a steady window.

Workload options: `input_lengths`, `output_lengths` (distributions as `fewmark.load.lengths.parse_lengths` reads them,
in place of fixed lengths; the workload's own are their means), `shared_prefix_share`, `n_prefixes`, `turns`, `think_s`
(as `fewmark.load.mixes.RequestClass` takes them), `process`, `burstiness` (of an open loop, as
`fewmark.load.arrivals.OpenLoop`), `model` (an adapter).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fewmark.core import InputError, Workload
from fewmark.core.frozen import thaw
from fewmark.engines.base import Effort
from fewmark.engines.checkpoints.source import unsupported
from fewmark.engines.openai.options import Given
from fewmark.load.arrivals import OpenLoop
from fewmark.load.lengths import FixedLength, Lengths, parse_lengths
from fewmark.load.mixes import RequestClass, RequestMix, RequestSpec
from fewmark.load.settings import LoadSettings, Transport

OPTIONS: Final = frozenset(
    {
        *("input_lengths", "output_lengths", "shared_prefix_share", "n_prefixes", "turns", "think_s"),
        *("process", "burstiness", "model"),
    }
)
MIN_REQUESTS: Final = 50  # in the steady window; 40 make it valid
MIN_TURNS: Final = 4  # mean latencies of a stream in the steady window; 3 make it valid
MIN_OPEN_S: Final = 5.0
MAX_DRAIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of a window and how they are sent."""

    specs: Iterator[RequestSpec]
    send_times: Iterator[float] | None
    settings: LoadSettings
    thinks: bool


def check_traffic(workload: Workload) -> None:
    """Raise `CaseFailure` (``unsupported``) for options that are unknown or wrong."""
    if unknown := sorted(set(workload.options) - OPTIONS):
        raise unsupported(f"no workload option {', '.join(unknown)}; known: {', '.join(sorted(OPTIONS))}")
    if workload.batch_size is not None and workload.options:
        raise unsupported("a static batch has no further options: give a concurrency or a request_rate")
    given = thaw(workload.options)
    for name in ("input", "output"):
        tokens = getattr(workload, f"{name}_tokens")
        if not float(tokens).is_integer() and f"{name}_lengths" not in given:
            raise unsupported(f"{tokens:g} {name} tokens are a mean: say of which {name}_lengths")
    try:
        _mix(workload, given)
        if workload.request_rate is not None:
            _arrivals(workload, given, 1.0)
        elif "process" in given or "burstiness" in given:
            raise unsupported("process and burstiness are of requests at a rate: give a request_rate")
    except (InputError, TypeError, ValueError) as error:
        raise unsupported(" ".join(str(error).split())) from None


def make_traffic(
    workload: Workload, effort: Effort, seed: int, latency_s: float | None, transport: Transport = "sockets"
) -> Traffic:
    """The traffic of one window.

    Parameters
    ----------
    workload : Workload
        With a concurrency or a request rate.
    effort : Effort
    seed : int
    latency_s : float or None
        What one request takes, as far as it is known.
    transport : str
    """
    given = thaw(workload.options)
    specs = _mix(workload, given).requests(seed)
    limit_s = effort.limit_s or math.inf
    stall_s = max(min(300.0, limit_s / 2), 1.0)
    drain_s = min(MAX_DRAIN_S, max(5.0, 4 * (latency_s or 15.0)), max(limit_s / 4, 1.0))
    common: Given = {
        "workers": effort.n_workers,
        "drain_s": drain_s,
        "stall_timeout_s": stall_s,
        "request_timeout_s": max(min(3600.0, limit_s), 1.0),
        "connect_timeout_s": min(10.0, stall_s),
        "transport": transport,
    }
    longest = max(limit_s - drain_s, 1.0)
    thinks = bool(given.get("think_s"))
    if workload.concurrency is not None:
        streams = workload.concurrency
        if effort.window_s is not None:
            settings = LoadSettings(streams, duration_s=min(effort.stretch * effort.window_s, longest), **common)
            return Traffic(specs, None, settings, thinks)
        n = effort.n_requests or max(MIN_REQUESTS + 2 * streams, (MIN_TURNS + 2) * streams)
        duration_s = None if math.isinf(longest) else longest
        settings = LoadSettings(streams, duration_s=duration_s, **common)
        return Traffic(itertools.islice(specs, math.ceil(effort.stretch * n)), None, settings, thinks)
    assert workload.request_rate is not None
    long_enough = max(
        (effort.n_requests or MIN_REQUESTS + 10) / workload.request_rate, (MIN_TURNS + 2) * (latency_s or 0), MIN_OPEN_S
    )
    duration_s = min(effort.stretch * (effort.window_s or long_enough), longest)
    times = _arrivals(workload, given, duration_s).send_times(seed)
    return Traffic(specs, times, LoadSettings(None, duration_s=duration_s + 1.0, **common), thinks)


def _mix(workload: Workload, given: Given) -> RequestMix:
    return RequestMix(
        (
            RequestClass(
                _lengths(given.get("input_lengths"), workload.input_tokens),
                _lengths(given.get("output_lengths"), workload.output_tokens),
                shared_prefix_share=given.get("shared_prefix_share", 0.0),
                n_prefixes=given.get("n_prefixes", 1),
                turns=_lengths(given.get("turns"), 1),
                think_s=given.get("think_s", 0.0),
                model=given.get("model"),
            ),
        )
    )


def _lengths(given: str | int | None, fixed: float) -> Lengths:
    return FixedLength(int(fixed)) if given is None else parse_lengths(given)


def _arrivals(workload: Workload, given: Given, duration_s: float) -> OpenLoop:
    assert workload.request_rate is not None
    default = "gamma" if "burstiness" in given else "poisson"
    return OpenLoop.constant(
        workload.request_rate, duration_s, given.get("process", default), given.get("burstiness", 1.0)
    )
