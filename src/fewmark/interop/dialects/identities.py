"""What the values of a table say about columns whose names leave it open.

Notation: b = batch size or concurrency, i and o = tokens in and out, e = end-to-end latency, f = time to first token,
d = time per output token, all in seconds, r = a throughput. By definition, in a static batch

    r e = b o (output tokens),   r e = b (i + o) (all tokens),   r (e - f) = b o (output tokens while decoding),
    e = f + d (o - 1);

a closed loop keeps at most b requests in flight, so there r e ≤ b o holds instead of the first, nearly an equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TIGHT: Final = 0.03  # how far a median may be from an identity that holds by definition
LOOSE: Final = 0.35  # the same for means over requests, where the loop's ramps blur it
FACTORS: Final = (1.0, 1e-3)  # a time without unit is in seconds or in milliseconds
# Seconds per output token that some system takes, from the fastest chip alone to weights read from a disk.
TOKEN_S: Final = (1e-4, 0.6)
FIRST_TOKEN_S: Final = (1e-3, 120.0)


def unit_of_times(columns: Mapping[str, FloatArray], open_: tuple[str, ...]) -> dict[str, tuple[float, str]]:
    """The factor to seconds of each time whose unit its name leaves open, with the reason; left out if undecided.

    Parameters
    ----------
    columns : canonical names to values, those in `open_` in the unit of the file, unknown NaN
    open_ : canonical names of times without unit
    """
    known = dict(columns)
    out: dict[str, tuple[float, str]] = {}
    for name in sorted(open_, key=_order):
        decided = _by_identity(name, known) or _by_size(name, known)
        if decided is None and len({factor for factor, _ in out.values()}) == 1:
            decided = (next(iter(out.values()))[0], "as the table's other times")
        if decided is None:
            known.pop(name, None)
            continue
        out[name] = decided
        known[name] = known[name] * decided[0]
    return out


def _order(name: str) -> int:
    """The latency first, which most identities are about."""
    return ("e2e_latency_s", "tpot_s", "itl_s", "ttft_s").index(name) if name in _ORDERED else len(_ORDERED)


_ORDERED: Final = ("e2e_latency_s", "tpot_s", "itl_s", "ttft_s")


def _by_identity(name: str, known: Mapping[str, FloatArray]) -> tuple[float, str] | None:
    value, implied = known[name], _implied(name, known)
    ratio = _median(implied / value) if implied is not None else np.nan
    for factor in FACTORS:
        if np.isfinite(ratio) and 1 / 8 < ratio / factor < 8:  # far from 1,000, whatever else blurs it
            unit = "seconds" if factor == 1 else "milliseconds"
            return factor, f"{name.removesuffix('_s')} taken as {unit}: load × output tokens / throughput says so"
    return None


def _implied(name: str, known: Mapping[str, FloatArray]) -> FloatArray | None:
    """What the table's other columns say the time is, roughly, in seconds."""
    load, oo, ii = known.get("load"), known.get("output_tokens"), known.get("input_tokens")
    if load is None or oo is None:
        return None
    if name == "e2e_latency_s":
        for rate, tokens in (
            ("throughput_tok_s", oo),
            ("total_throughput_tok_s", oo + ii if ii is not None else None),
        ):
            if rate in known and tokens is not None:
                return np.asarray(load * tokens / known[rate])
        return None
    e2e = known.get("e2e_latency_s")
    if name in ("tpot_s", "itl_s"):
        if e2e is not None:
            return np.asarray(e2e / oo)
        return np.asarray(load / known["throughput_tok_s"]) if "throughput_tok_s" in known else None
    return None


def _by_size(name: str, known: Mapping[str, FloatArray]) -> tuple[float, str] | None:
    """By what is possible at all, where only one of the units is."""
    value, oo = known[name], known.get("output_tokens")
    low, high = TOKEN_S
    if name.startswith("e2e_latency") and oo is not None:
        value = value / np.maximum(oo, 1)
    elif name.startswith("ttft"):
        e2e = known.get("e2e_latency_s")
        if e2e is not None and _median(value / e2e) > 2:
            return 1e-3, "ttft taken as milliseconds: in seconds it would come after the last token"
        low, high = FIRST_TOKEN_S
    elif not name.startswith(("tpot", "itl")):
        return None
    middle = _median(value)
    if not np.isfinite(middle):
        return None
    possible = [factor for factor in FACTORS if low <= middle * factor <= high]
    if len(possible) != 1:
        return None
    unit = "seconds" if possible[0] == 1 else "milliseconds"
    return possible[0], f"{name.removesuffix('_s')} taken as {unit}: the other unit would be out of all proportion"


def kind_of_throughput(columns: Mapping[str, FloatArray], rate: FloatArray, online: bool) -> tuple[str | None, str]:
    """Which throughput a column is: canonical name, or None where no identity tells; and the reason.

    Parameters
    ----------
    columns : load, input_tokens, output_tokens, and e2e_latency_s, ttft_s in seconds, as far as there are
    rate : the column, tokens per second
    online : whether the load is a concurrency
    """
    load, oo, ii = (columns.get(name) for name in ("load", "output_tokens", "input_tokens"))
    e2e, ttft = columns.get("e2e_latency_s"), columns.get("ttft_s")
    if load is None or oo is None or e2e is None:
        return None, "nothing in the table tells output tokens from all tokens"
    tolerance = LOOSE if online else TIGHT
    candidates = [("throughput_tok_s", load * oo / e2e, "load × output tokens / latency")]
    if ii is not None:
        candidates.append(("total_throughput_tok_s", load * (ii + oo) / e2e, "load × all tokens / latency"))
    if ttft is not None and not online:
        decoding = np.where(e2e > ttft, e2e - ttft, np.nan)
        candidates.append(("decode_throughput_tok_s", load * oo / decoding, "load × output tokens / (latency - TTFT)"))
    offs = [(_spread_of(rate / implied), name, told) for name, implied, told in candidates]
    off, name, told = min(offs, key=lambda item: item[0])
    if off <= tolerance:
        return name, f"it is {told}"
    return None, "no identity between its values and the latency holds"


def _spread_of(ratio: FloatArray) -> float:
    """How far from 1 most of the ratios are: the worse of their median and their 75% quantile, as a logarithm."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(np.log(ratio))
    off = off[np.isfinite(off)]
    return float(np.quantile(off, 0.75)) if off.size else np.inf


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
