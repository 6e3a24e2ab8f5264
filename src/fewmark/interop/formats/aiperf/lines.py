"""One line of ``profile_export.jsonl`` as what is wanted of it, decoded straight into that; needs msgspec.

What a line holds in any other shape than AIPerf writes is refused here, and read by the slower way.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Metric(msgspec.Struct):
    """A metric of one request."""

    value: float | list[float] | None = None
    unit: str | None = None


class Metadata(msgspec.Struct):
    """When and in which phase the request was made."""

    phase_kind: str | None = None
    benchmark_phase: str | None = None
    was_cancelled: bool | None = None
    request_start_ns: float | None = None
    request_end_ns: float | None = None


class Metrics(msgspec.Struct):
    """The metrics that are read."""

    request_latency: Metric | None = None
    time_to_first_token: Metric | None = None
    usage_completion_tokens: Metric | None = None
    output_sequence_length: Metric | None = None
    usage_prompt_tokens: Metric | None = None
    input_sequence_length: Metric | None = None
    inter_chunk_latency: Metric | None = None


class Line(msgspec.Struct):
    """One request; `error` is whatever JSON stands there."""

    metadata: Metadata
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    error: object = None


decode_line: Final = msgspec.json.Decoder(Line).decode
