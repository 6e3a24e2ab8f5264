"""What the serving clients of vLLM and SGLang have in common: statistics in milliseconds, lists of single requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fewmark.core.json_types import JsonObject
from fewmark.interop.results.request_records import RequestRecords
from fewmark.interop.results.run_rows import PERCENTS, RunRow, positive, positives

BUNDLED: Final = 1.2  # mean gap over mean TPOT from which events must hold several tokens
ALL_AT_END: Final = 0.98  # TTFT over the whole latency from which
NO_TIME_S: Final = 1e-4  # together with a TPOT below this, nothing was streamed


def put_statistics(row: RunRow, result: JsonObject, metrics: Sequence[tuple[str, str]]) -> None:
    """Means and percentiles, by pairs of the client's name and ours; a median stands for the 50th percentile.

    Gaps far above TPOT are gaps between events of several tokens, which keep the tool's own name.
    """
    for theirs, ours in metrics:
        row.put(f"{ours}_s", result.get(f"mean_{theirs}_ms"), 1e-3)
        for percent in PERCENTS:
            value = result.get(f"p{percent}_{theirs}_ms")
            if value is None and percent == 50:
                value = result.get(f"median_{theirs}_ms")
            row.put(f"{ours}_p{percent}_s", value, 1e-3)
    itl, tpot = row.known("itl_s"), row.known("tpot_s")
    if itl and tpot and itl / tpot > BUNDLED:
        keep_events_apart(row, f"events hold about {itl / tpot:.1f} tokens")


def keep_events_apart(row: RunRow, why: str) -> None:
    """Give the gaps between events the tool's own name."""
    for name in [name for name in row.cells if name == "itl_s" or name.startswith("itl_p")]:
        row.cells[f"{row.tool}.{name}"] = row.cells.pop(name)
    row.note(f"{why}, so gaps between events are kept as {row.tool}.itl_s")


def drop_unstreamed(row: RunRow) -> None:
    """Forget times of tokens where nothing was streamed, so that the first token seems to come at the end."""
    cells = row.cells
    for end in ("_s", "_p50_s"):
        ttft, e2e, tpot = (row.known(f"{name}{end}") for name in ("ttft", "e2e_latency", "tpot"))
        if (
            ttft
            and e2e
            and (row.known("output_tokens") or 0) > 1
            and ttft > ALL_AT_END * e2e
            and (tpot or 0) < NO_TIME_S
        ):
            row.drop(*[name for name in cells if name.startswith(("ttft_", "tpot_", "itl_"))])
            row.note("answers were not streamed: TTFT is the whole latency, so no times of tokens are known")
            return


def put_requests(row: RunRow, result: JsonObject, done: int, duration: float | None) -> None:
    """Make the statistics anew from lists of single requests, in seconds, where they are there and agree in number."""
    lists = {key: result.get(key) for key in ("ttfts", "itls", "output_lens", "input_lens", "errors", "latencies")}
    found = {key: value for key, value in lists.items() if isinstance(value, list) and value}
    if "latencies" in found and "e2e_latency_s" not in row.cells and "ttfts" not in found:
        # Kept even without --save-detailed; a failed request's is 0.0.
        records = RequestRecords()
        for latency in found["latencies"]:
            if positive(latency) is not None:
                records.add(positive(latency), None, None, None)
        if len(records) == done:
            row.cells |= {k: v for k, v in records.statistics().items() if k.startswith("e2e_latency")}
            row.note("e2e latency made from the latencies of single requests")
            row.note(records.bounds())
    if not {"ttfts", "output_lens"} <= set(found) or not ("itls" in found or "latencies" in found):
        return
    n = len(found["ttfts"])
    if any(len(value) != n for value in found.values()):
        row.note("lists of single requests differ in length and are not used")
        return
    records = RequestRecords()
    told = {
        key: positives(found[key]) if key in found else [None] * n
        for key in ("ttfts", "output_lens", "input_lens", "latencies")
    }
    succeeded = [i for i in range(n) if not ("errors" in found and found["errors"][i])]
    kept = [i for i in succeeded if told["ttfts"][i] is not None and told["output_lens"][i] is not None]
    empty = len(succeeded) - len(kept)
    ttfts, outputs, inputs, latencies = ([values[i] for i in kept] for values in told.values())
    decodes = records.add_streams([found["itls"][i] for i in kept]) if "itls" in found else [0.0] * len(kept)
    if "latencies" not in found:
        latencies = [(ttft or 0.0) + decode for ttft, decode in zip(ttfts, decodes, strict=True)]
    records.add_columns(latencies, ttfts, inputs, outputs)
    if empty and len(records) and len(records) + empty == done:
        row.note(f"{empty} requests counted as completed brought no token, with a TTFT of 0.0; taken as failed")
        row.counts(len(records), empty + int(row.known("n_failed") or 0))
    elif len(records) != done:
        row.note(f"{len(records)} single requests are told to have succeeded, {done} in all; they are not used")
        return
    recomputed = records.statistics(duration)
    said = {name: value for name, value in row.cells.items() if name in recomputed and isinstance(value, float)}
    bundle = records.tokens_an_event()
    row.compare(recomputed, said)
    row.cells["detail"] = "requests"
    row.note(records.bounds())
    if bundle is not None and "itl_s" in row.cells and "itl_s" not in recomputed:
        keep_events_apart(row, f"events hold {bundle:.2f} tokens")
