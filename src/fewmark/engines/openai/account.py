"""From a load's records to what is kept of it: a sample, and the facts that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from fewmark.core import FrozenMap, Sample
from fewmark.core.columns import SERVING_COLUMNS
from fewmark.core.json_types import Json
from fewmark.core.requests import Requests
from fewmark.engines.base import Remedy
from fewmark.load.estimates import Estimate
from fewmark.load.records import FINISHED, LoadResult, RequestRecord, RequestStatus
from fewmark.load.request_metrics import e2e_latency_s, output_tokens, ttft_s
from fewmark.load.server_metrics import ServerReport
from fewmark.load.statistics import SINGLE_TOKEN_SHARE, RunStatistics
from fewmark.load.steady_state import SteadyWindow, ended_at
from fewmark.load.validity import Action, Verdict

REMEDIES: Final[Mapping[Action, Remedy]] = {
    Action.MORE_WORKERS: Remedy.MORE_WORKERS,
    Action.LONGER: Remedy.LONGER,
    Action.REPEAT: Remedy.REPEAT,
}
DIGITS: Final = 7


def make_sample(result: LoadResult, statistics: RunStatistics) -> Sample | None:
    """The window as one sample: means, percentiles, rates and the requests themselves; None without a steady one."""
    window = statistics.window
    if window is None:
        return None
    ended = sorted((r for r in result.records if window.holds(ended_at(r))), key=lambda r: r.send_s or 0.0)
    finished = [record for record in ended if record.status in FINISHED]
    known = {name: e.value for name, e in statistics.estimates.items() if e.value is not None}
    stated = {name: known[name] for name in SERVING_COLUMNS if name in known}
    if statistics.attainments and (goodput := statistics.attainments[0].goodput_req_s.value) is not None:
        stated["goodput_req_s"] = goodput
    stated |= {"n_requests": float(len(finished)), "n_failed": float(len(ended) - len(finished))}
    tokens = [n for record in finished if (n := output_tokens(record)) is not None]
    whole = len(tokens) == len(finished) > 0
    return Sample(
        e2e_latency_s=known.get("e2e_latency_s"),
        ttft_s=known.get("ttft_s"),
        tpot_s=known.get("tpot_s"),
        throughput_tok_s=known.get("throughput_tok_s"),
        total_throughput_tok_s=known.get("total_throughput_tok_s"),
        output_tokens=math.fsum(tokens) / len(tokens) if whole else None,
        statistics=FrozenMap(stated),
        requests=_requests(ended, window),
    )


def _requests(ended: Sequence[RequestRecord], window: SteadyWindow) -> Requests:
    good = [record.status in FINISHED for record in ended]
    columns: dict[str, list[float | None]] = {
        "e2e_latency_s": [_kept(e2e_latency_s(r)) if ok else None for r, ok in zip(ended, good, strict=True)],
        "ttft_s": [_kept(ttft_s(record)) for record in ended],
        "sent_s": [_kept((record.send_s or window.start_s) - window.start_s) for record in ended],
        "input_tokens": [record.prompt_tokens for record in ended],
        "output_tokens": [output_tokens(record) for record in ended],
    }
    known = {
        name: values
        for name, values in columns.items()
        if name == "e2e_latency_s" or any(value is not None for value in values)
    }
    finished = [record for record, ok in zip(ended, good, strict=True) if ok]
    pairs = [(record.n_chunks, n) for record in finished if (n := output_tokens(record)) is not None and n > 1]
    alone = sum(chunks == n for chunks, n in pairs)
    single = bool(pairs) and alone >= SINGLE_TOKEN_SHARE * len(pairs)
    return Requests.thinned(known, [gap for record in finished for gap in record.chunk_gaps_s] if single else ())


def remedies(verdict: Verdict) -> tuple[Remedy, ...]:
    """What may help an invalid window; nothing where the server or what is asked of it is at fault."""
    actions = verdict.actions
    return tuple(REMEDIES[action] for action in actions) if all(action in REMEDIES for action in actions) else ()


def make_facts(
    result: LoadResult,
    statistics: RunStatistics,
    verdict: Verdict,
    report: ServerReport | None,
    stands_in: str | None = None,
) -> dict[str, Json]:
    """Everything that is told of a window beside its sample: JSON values; `stands_in` of another model than asked."""
    window, counts = statistics.window, statistics.counts
    estimates = {name: _estimate(e) for name, e in statistics.estimates.items()}
    levels = {e.confidence_level for e in statistics.estimates.values()}
    facts: dict[str, Json] = {
        "valid": verdict.is_valid,
        "reasons": [
            *({"code": reason.code, "message": reason.message} for reason in verdict.reasons),
            *([{"code": "other_model", "message": stands_in}] if stands_in else []),
        ],
        "estimates": {name: told for name, told in estimates.items() if told},
        "confidence_level": levels.pop() if len(levels) == 1 else None,
        "window_s": None if window is None else _kept(window.duration_s),
        "requests": {
            "ok": counts.ok, "short": counts.short, "failed": counts.failed, "unfinished": counts.unfinished,
            "unsent": counts.unsent, "in_window": counts.in_window,
        },
        "oversaturated": statistics.saturation.oversaturated,
        "attainment": [
            {
                "limits": dict(one.tier.limits),
                "share": _estimate(one.share),
                "goodput_req_s": _estimate(one.goodput_req_s),
            }
            for one in statistics.attainments
        ],
        "client": _client(result, statistics),
        "server": _server(report),
    }  # fmt: skip
    failed = [r.error for r in result.records if r.error and r.status is not RequestStatus.CANCELLED]
    if failed:
        facts["errors"] = list(dict.fromkeys(failed))[:3]
    return {name: value for name, value in facts.items() if value is not None and value != []}


def _estimate(estimate: Estimate) -> dict[str, Json]:
    told = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n_effective": estimate.n_effective}
    out: dict[str, Json] = {name: _kept(value) for name, value in told.items() if value is not None}
    if estimate.n:
        out["n"] = estimate.n
    return out if out.keys() - {"n"} else {}


def _client(result: LoadResult, statistics: RunStatistics) -> dict[str, Json]:
    lateness = sorted(result.lateness_s)
    chunks = sum(record.n_chunks for record in result.records)
    busiest = [use.cpu_s / (use.ended_s - use.started_s) for use in result.workers if use.ended_s > use.started_s]
    facts = {
        "workers": len(result.workers),
        "cpu_s": _kept(result.client_cpu_s),
        "busiest_worker": _kept(max(busiest, default=0.0)),
        "lateness_p99_s": _kept(lateness[max(math.ceil(0.99 * len(lateness)) - 1, 0)]) if lateness else None,
        "idle_gap_s": _kept(statistics.idle_gap_s),
        "idle_share": _kept(statistics.idle_share),
        "tokens_per_chunk": _kept(statistics.tokens_per_chunk),
        "coalesced_share": _kept(sum(r.n_coalesced for r in result.records) / chunks) if chunks else None,
        "kernel_stamps": any(r.kernel_stamps for r in result.records),
        "connections_reused": sum(record.reused for record in result.records),
        "transport": result.transport,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _server(report: ServerReport | None) -> dict[str, Json] | None:
    if report is None or report.server is None:
        return None
    compared = {
        c.metric: {"client": _kept(c.client), "server": _kept(c.server), "flagged": c.flagged}
        | ({"note": c.note} if c.note else {})
        for c in report.comparisons
    }
    facts = {
        "name": report.server,
        "beside_the_client": compared,
        "queue_s": _kept(report.queue_s),
        "cached_tokens": report.cached_tokens,
        "preemptions": report.preemptions,
        "notes": list(report.notes),
    }
    return {name: value for name, value in facts.items() if value is not None and value != []}


def _kept(value: float | None) -> float | None:
    """The number as it is kept: to seven digits, which is finer than any clock."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
