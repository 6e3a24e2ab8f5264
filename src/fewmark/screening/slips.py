"""The well-known slips: what may have gone wrong with the columns of a row, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewmark.screening.identities import Values
from fewmark.tables.arrays import FloatArray

EXACT: Final = 0.02  # of a logarithm: how near a single row must come to what a slip makes of it
SAME: Final = 2e-3  # of a logarithm: numbers of four digits that are one
MINUTE: Final = 60.0  # seconds
SHORTER: Final = 0.9  # generations that ended early have at most this share of the length
LEAST_BY_VALUE: Final = 0.02  # of a logarithm: a factor nearer to 1 than this changes nothing
LENGTHS_AGREE: Final = 0.35  # of a logarithm: lengths by throughput and by time per token
TIMES_OF_A_ROW: Final = ("e2e_latency_s", "ttft_s", "tpot_s")
SHORT: Final = 100.0  # tokens: by so much a load that was not held may make a throughput too low
SHARE_BY_VALUE: Final = 0.5  # of the rows that tell: fewer are equal by chance
ALIKE_BY_VALUE: Final = 3  # rows of a deployment, that speak for it where the rest of a table does not
MUCH_LATER: Final = float(np.log(5.0))  # a first token so much after the last one is no noise
CLEAR: Final = float(np.log(2.0))
RATES_OF_A_ROW: Final = ("throughput_tok_s", "total_throughput_tok_s")
_UNITS: Final = ((1e-3, "milliseconds"), (1e-6, "microseconds"), (1e-9, "nanoseconds"))


@dataclass(frozen=True)
class Slip:
    """What may have gone wrong, and what undoes it: factors (n,) by column.

    `other_cell` says that another cell than stated was measured, `by_value` that a value of the row is, to the last
    digit, what the slip makes of the others, `ordinary` up to which factor a load that was not held, or
    generations that ended early, may as well be why a throughput is too low.
    """

    words: str
    undone: Mapping[str, FloatArray]
    other_cell: bool = False
    by_value: bool = False
    ordinary: float = 0.0


def slips_by_value(v: Values, deployments: Callable[[], np.ndarray]) -> list[Slip]:
    """Throughputs that are, to the last digit, what something else than load, tokens and latency makes.

    So in at least half of the rows that tell, of the table or of a deployment (codes from 0, asked for where needed).
    """
    e, f, p, oo, n = v["e2e_latency_s"], v["ttft_s"], v["tpot_s"], v["output_tokens"], v["sequences"]
    x = v["throughput_tok_s"]
    with np.errstate(divide="ignore", invalid="ignore"):
        # without e2e_latency_s, tpot_s may as well be what was made of the throughput
        factor = n * oo / e / x
        wrong = np.abs(np.log(factor)) > LEAST_BY_VALUE
        if not wrong.any():
            return []
        others = (
            ("1 / tpot_s, that of one sequence after its first token", 1 / p),
            ("load / tpot_s, which leaves the first token's time out", n / p),
            (
                "that of decoding, which leaves the first token's time out",
                n * (oo - 1) / np.where(e > f, e - f, np.nan),
            ),
        )
        alike = [
            (
                words,
                wrong & (np.abs(np.log(x / rate)) < SAME),
                np.isfinite(factor) & (np.abs(np.log(factor * x / rate)) > LEAST_BY_VALUE),
            )
            for words, rate in others
        ]
    out = []
    for words, same, tells in alike:
        if not same.any():
            continue
        if same.sum() < SHARE_BY_VALUE * tells.sum():
            codes = deployments()
            many, told = np.bincount(codes, same)[codes], np.bincount(codes, tells)[codes]
            same &= (many >= ALIKE_BY_VALUE) & (many >= SHARE_BY_VALUE * told)
        if same.any():
            undone = {"throughput_tok_s": np.where(same, factor, np.nan)}
            out.append(Slip(f"throughput_tok_s is {words}", undone, by_value=True))
    return out


def slips_of(v: Values) -> Iterator[Slip]:
    """Every slip, likelier ones first."""
    n, count = v["sequences"], v["accelerators"]
    with np.errstate(divide="ignore", invalid="ignore"):
        inputs = v["output_tokens"] / (v["input_tokens"] + v["output_tokens"])
    x, t = RATES_OF_A_ROW
    rates: tuple[tuple[str, ...], ...] = (RATES_OF_A_ROW, (x,), (t,))
    names: tuple[str, ...]
    one = np.ones(len(n))
    yield Slip(f"{x} counts input tokens, too", {x: inputs})
    yield Slip(f"{t} counts output tokens only", {t: 1 / inputs})
    for names in rates:
        told = " and ".join(names) + (" are" if len(names) > 1 else " is")
        yield Slip(f"{told} that of one accelerator", dict.fromkeys(names, count))
        yield Slip(f"{told} that of one sequence: the load was left out", dict.fromkeys(names, n))
    yield Slip(f"{x} is that of one accelerator, and counts input tokens, too", {x: inputs * count})
    yield Slip(
        f"{x} counts input tokens, not output tokens", {x: v["output_tokens"] / v["input_tokens"]}, ordinary=np.inf
    )
    yield Slip(f"{x} is requests a second", {x: v["output_tokens"]}, ordinary=SHORT)
    yield Slip(f"{x} is requests a minute", {x: v["output_tokens"] / MINUTE}, ordinary=np.inf)
    for many in (3, 2, 1):
        for names in _choose(TIMES_OF_A_ROW, many):
            for factor, unit in _UNITS:
                told = " and ".join(names) + (" are" if many > 1 else " is")
                yield Slip(f"{told} in {unit}", dict.fromkeys(names, one * factor))
    for name in TIMES_OF_A_ROW:
        yield Slip(f"{name} was divided by 1,000 once too often", {name: one * 1e3})
    for names in rates:
        told = " and ".join(names) + (" are" if len(names) > 1 else " is")
        yield Slip(f"{told} in thousands", dict.fromkeys(names, one * 1e3))
        yield Slip(f"{told} multiplied by the load once too often", dict.fromkeys(names, 1 / n))
        yield Slip(f"{told} by the minute", dict.fromkeys(names, one / MINUTE))
    yield Slip("request_throughput_req_s is by the minute", {"request_throughput_req_s": one / MINUTE})
    yield Slip("request_rate is by the minute", {"request_rate": one / MINUTE}, other_cell=True)
    yield Slip("e2e_latency_s is in minutes", {"e2e_latency_s": one * MINUTE})
    yield Slip("the load is that of one accelerator", {"sequences": count}, other_cell=True)
    yield Slip("tpot_s is that of all sequences together", {"tpot_s": n})
    e, f, p, oo = v["e2e_latency_s"], v["ttft_s"], v["tpot_s"], v["output_tokens"]
    with np.errstate(divide="ignore", invalid="ignore"):
        decode = (e - f) / (oo - 1) / p
        whole = np.abs(np.log(p * oo / e)) < EXACT
        gaps = np.abs(np.log(p / v["itl_s"])) < 1e-6
        after = (e + f) / e
    yield Slip("tpot_s is tokens a second", {"tpot_s": p**-2})
    for a, b in (("ttft_s", "tpot_s"), ("ttft_s", "e2e_latency_s"), ("tpot_s", "e2e_latency_s")):
        yield _interchanged(v, a, b)
    yield Slip("tpot_s counts the first token's time, too", {"tpot_s": np.where(whole, decode, np.nan)})
    yield Slip("tpot_s is the gap between chunks (itl_s)", {"tpot_s": np.where(gaps, decode, np.nan)})
    yield Slip("e2e_latency_s begins at the first token", {"e2e_latency_s": after})
    yield _ended_early(v)


def _interchanged(v: Values, a: str, b: str) -> Slip:
    """Two columns of times: only where their sum says it, or the first token is much later than the last."""
    swapped = {**v, a: v[b], b: v[a]}
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = (
            np.abs(np.log(w["e2e_latency_s"] / (w["ttft_s"] + (w["output_tokens"] - 1) * w["tpot_s"])))
            for w in (v, swapped)
        )
        clear = (before > CLEAR) & (after < EXACT)
        if {a, b} == {"ttft_s", "e2e_latency_s"}:
            clear |= np.log(v["ttft_s"] / v["e2e_latency_s"]) > MUCH_LATER
        undone = {a: np.where(clear, v[b] / v[a], np.nan), b: np.where(clear, v[a] / v[b], np.nan)}
    return Slip(f"{a} and {b} are interchanged", undone)


def _ended_early(v: Values) -> Slip:
    """Fewer tokens than asked for: by the throughput and by the time per token alike."""
    oo = v["output_tokens"]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_time = (v["e2e_latency_s"] - v["ttft_s"]) / v["tpot_s"] + 1
        by_rate = v["throughput_tok_s"] * v["e2e_latency_s"] / v["sequences"]
        by_requests = v["throughput_tok_s"] / v["request_throughput_req_s"]
        by_rate = np.where(np.isfinite(by_requests), by_requests, by_rate)
        agree = np.abs(np.log(by_time / by_rate)) < LENGTHS_AGREE
        share = np.where(agree & (by_time < SHORTER * oo), by_time / oo, np.nan)
        share = np.where(np.isnan(by_time) & (by_requests < SHORTER * oo), by_requests / oo, share)
    return Slip("the generation ended early", {"output_tokens": share}, other_cell=True)


def _choose(names: tuple[str, ...], many: int) -> list[tuple[str, ...]]:
    if many == len(names):
        return [names]
    return [(name,) for name in names] if many == 1 else [(names[0], names[1]), (names[0], names[2]), names[1:]]
