"""What no measurement can be, whoever made it: the one gate through which every result passes.

A result that says ``ok`` and holds what cannot be is ``invalid``, and says why; its samples stay as they came. What is
merely suspicious is not judged here but by the screen, which sees the whole table.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from fewmark.core.columns import METRIC_COLUMNS

if TYPE_CHECKING:
    from fewmark.core.samples import Sample
    from fewmark.core.values import Measurement

MAX_SECONDS: Final = 1e8  # three years
MAX_RATE: Final = 1e16  # tokens or requests a second, or watts
MAX_TOKENS: Final = 2**53  # beyond it a float no longer tells neighbouring numbers apart
_NUMBERS: Final = (*METRIC_COLUMNS, "output_tokens")
SLACK: Final = 1e-6  # of a time: clocks are read one after the other
SLACK_S: Final = 1e-6


def is_absurd(name: str, value: float) -> bool:
    """Whether a metric of this name cannot have the value: negative, not finite, or beyond all measure."""
    is_time = name.endswith("_s") and not name.endswith(("_tok_s", "_req_s"))
    return not 0 <= value <= (MAX_SECONDS if is_time else MAX_RATE)


def reason_invalid(measurement: Measurement) -> str | None:
    """Why a measurement that claims to be ok cannot be; None where nothing speaks against it."""
    work, ran = measurement.case.workload, measurement.provenance != "imported"
    for number, sample in enumerate(measurement.samples, 1):
        # What was imported stands as it was found, for the screen; its times may come from different repeats.
        if (reason := reason_unlike(sample) if ran else reason_absurd(sample)) is not None:
            return f"sample {number}: {reason}"
        produced = sample.output_tokens
        whole = measurement.provenance == "measured" and work.batch_size is not None
        if whole and produced is not None and produced < work.output_tokens:
            return (
                f"sample {number}: {produced:g} output tokens a sequence, where {work.output_tokens:g} were asked for"
            )
    if (held := measurement.projection) is not None:
        for value in (*held.e2e_latency_s, held.low_s, held.high_s):
            if value is not None and is_absurd("e2e_latency_s", value):
                return f"a projected latency cannot be {value:g}"
    return None


def reason_unlike(sample: Sample) -> str | None:
    """Why no run can have given this sample; None where nothing speaks against it."""
    return reason_absurd(sample) or _contradiction(sample)


def reason_absurd(sample: Sample) -> str | None:
    """Which of its numbers cannot be; None where all can."""
    stated = itertools.chain(((name, getattr(sample, name)) for name in _NUMBERS), sample.statistics.items())
    for name, value in itertools.chain(stated, (("token_times_s", moment) for moment in sample.token_times_s)):
        if value is not None and is_absurd(name, value):
            return f"{name} cannot be {value:g}"
    return None


def _contradiction(sample: Sample) -> str | None:
    end, times = sample.e2e_latency_s, sample.token_times_s
    latest = None if end is None else end * (1 + SLACK) + SLACK_S
    if end is not None and end <= 0:
        return f"no run takes {end:g} s"
    if latest is not None and sample.ttft_s is not None and sample.ttft_s > latest:
        return f"the first token came after {sample.ttft_s:g} s, the last one after {end:g} s"
    if any(after < before for before, after in itertools.pairwise(times)):
        return "the times of its tokens do not ascend"
    if latest is not None and times and times[-1] > latest:
        return f"a token came after {times[-1]:g} s, the end after {end:g} s"
    return None
