"""From a workload to its requests: the mix, when they are sent, and how many make a steady window.

Workload options: `input_lengths`, `output_lengths` (distributions as `fewmark.load.lengths.parse_lengths` reads them,
in place of fixed lengths; the workload's own are their means), `shared_prefix_share`, `n_prefixes`, `turns`, `think_s`
(as `fewmark.load.mixes.RequestClass` takes them), `process`, `burstiness` (of an open loop, as
`fewmark.load.arrivals.OpenLoop`), `model` (an adapter); or `trace`, the path of a recorded one as
`fewmark.load.traces.read_trace` reads it, in place of all but `model`: its lengths and prefixes, and at a request
rate its times, drawn together or apart to that rate.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fewmark.core import FewmarkError, InputError, Workload
from fewmark.core.frozen import thaw
from fewmark.engines.base import Effort
from fewmark.engines.checkpoints.source import unsupported
from fewmark.engines.openai.options import Given
from fewmark.load.arrivals import OpenLoop
from fewmark.load.lengths import FixedLength, Lengths, parse_lengths
from fewmark.load.mixes import RequestClass, RequestMix, RequestSpec, Segment, replay
from fewmark.load.prompts import Prompt, PromptMaker
from fewmark.load.settings import LoadSettings, Transport
from fewmark.load.traces import Trace, read_trace

OPTIONS: Final = frozenset(
    {
        *("input_lengths", "output_lengths", "shared_prefix_share", "n_prefixes", "turns", "think_s"),
        *("process", "burstiness", "model", "trace"),
    }
)
MIN_REQUESTS: Final = 50  # in the steady window; 40 make it valid
MIN_TURNS: Final = 4  # mean latencies of a stream in the steady window; 3 make it valid
MIN_OPEN_S: Final = 5.0
MAX_DRAIN_S: Final = 120.0
NEAR: Final = 0.01  # of a trace's mean length


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
    if "trace" in given:
        try:
            _check_trace(workload, given)
        except (FewmarkError, TypeError, ValueError) as error:
            raise unsupported(" ".join(str(error).split())) from None
        return
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
    trace = _trace(given)
    specs = _mix(workload, given).requests(seed) if trace is None else _specs(trace, workload, given)
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
    times = None if trace is not None else _arrivals(workload, given, duration_s).send_times(seed)
    if trace is not None:
        specs = itertools.takewhile(lambda spec: (spec.time_s or 0.0) < duration_s, specs)
    return Traffic(specs, times, LoadSettings(None, duration_s=duration_s + 1.0, **common), thinks)


def _trace(given: Given) -> Trace | None:
    return _read(str(given["trace"])) if "trace" in given else None


@functools.lru_cache(maxsize=4)
def _read(path: str) -> Trace:
    return read_trace(Path(path))


def _specs(trace: Trace, workload: Workload, given: Given) -> Iterator[RequestSpec]:
    """The trace's requests, for the model that is measured, at the rate that is asked for."""
    rate, wanted = trace.mean_request_rate, workload.request_rate
    for spec in replay(trace):
        time_s = None if rate is None or wanted is None or spec.time_s is None else spec.time_s * rate / wanted
        yield replace(spec, time_s=time_s, model=given.get("model"))


def _check_trace(workload: Workload, given: Given) -> None:
    if beside := sorted(set(given) - {"trace", "model"}):
        raise InputError("a trace has its own lengths, prefixes and times", got=", ".join(beside))
    trace = _trace(given)
    assert trace is not None
    n = len(trace.requests)
    means = {name: sum(getattr(r, name) for r in trace.requests) / n for name in ("input_tokens", "output_tokens")}
    if any(abs(getattr(workload, name) - mean) > NEAR * mean for name, mean in means.items()):
        said = ", ".join(f"{name}: {mean:.6g}" for name, mean in means.items())
        raise InputError("a workload's lengths are its trace's means", got=given["trace"], hint=said)
    if workload.request_rate is not None and trace.mean_request_rate is None:
        raise InputError("a trace of one request, or all at once, has no rate", got=given["trace"])


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


class MadePrompt:
    """A prompt that is made already."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def make(self, segments: Sequence[Segment]) -> Prompt:
        return self._prompt

    def fresh(self) -> PromptMaker:
        return self
