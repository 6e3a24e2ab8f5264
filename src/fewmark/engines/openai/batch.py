"""A static batch on a server: all requests at once, the clock read until the last of them ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewmark.core import Sample, Status, Workload
from fewmark.engines.base import CaseFailure
from fewmark.engines.openai.asking import root_url
from fewmark.engines.openai.failures import failure_of
from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import RequestPlan, RequestRecord, RequestStatus
from fewmark.load.settings import LoadSettings, Transport
from fewmark.load.steady_state import ended_at


def run_batch(workload: Workload, plans: Sequence[RequestPlan], endpoint: Endpoint, transport: Transport) -> Sample:
    """One run of a batch. Raises `CaseFailure` where a request fails or is answered short."""
    settings = LoadSettings(workload.sequences, workers=0, keep_chunks=True, transport=transport)
    result = run_load(plans, endpoint, settings)
    if (failure := failure_of(result.records, root_url(endpoint))) is not None:
        raise failure
    if bad := [record for record in result.records if record.status is not RequestStatus.OK]:
        said = f": {bad[0].error}" if bad[0].error else ""
        raise CaseFailure(Status.INVALID, f"{len(bad)} of {len(plans)} requests ended as {bad[0].status}{said}")
    counts = {record.completion_tokens for record in result.records}
    if len(counts) != 1 or None in counts:
        raise CaseFailure(Status.INVALID, "the server's usage is missing, or answers are of unlike lengths")
    tokens = int(next(iter(counts)) or 0)
    began = min(record.send_s or result.started_s for record in result.records)
    ends = [ended_at(record) or result.ended_s for record in result.records]
    first = [record.first_chunk_s for record in result.records if record.first_chunk_s is not None]
    steps = _steps(result.records, result.chunks, tokens, began)
    return Sample(
        e2e_latency_s=steps[-1] if steps else max(ends) - began,
        ttft_s=steps[0] if steps else max(first) - began if len(first) == len(ends) else None,
        output_tokens=tokens,
        token_times_s=steps,
    )


def _steps(
    records: Sequence[RequestRecord], chunks: Mapping[int, tuple[tuple[float, str], ...]], tokens: int, began: float
) -> tuple[float, ...]:
    """When each token had come in all sequences; empty where tokens did not come one by one."""
    if any(record.n_chunks != tokens or record.n_coalesced for record in records):
        return ()
    times = [[at - began for at, _ in chunks.get(record.index, ())] for record in records]
    if any(len(moments) != tokens for moments in times):
        return ()
    return tuple(max(step) for step in zip(*times, strict=True))
