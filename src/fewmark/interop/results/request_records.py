"""Statistics over the single requests of a run, by fewmark's own definitions.

Notation: of n requests that succeeded, e_i seconds to the last token, f_i to the first, o_i output tokens, and gaps
between consecutive events of a stream. Percentiles are order statistics, x_(⌈p·n/100⌉): no value is made up between
two measured ones. Of fewer than 100 / (100 − p) requests that is their maximum, which only bounds it from below.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise

import numpy as np
import numpy.typing as npt

from fewmark.interop.results.run_rows import PERCENTS, number

LONGEST_S = 1e6  # of a gap between two events; nobody waits longer
_UNKNOWN = float("nan")
FloatArray = npt.NDArray[np.float64]


def _doubles() -> array[float]:
    return array("d")


def _singles() -> array[float]:
    return array("f")


@dataclass
class RequestRecords:
    """The requests that succeeded, in compact columns; NaN is unknown. Seconds and tokens.

    `gaps_s` holds the gaps of all streams (float32: a gigabyte of records has tens of millions), and `n_events` how
    many events streams had, to tell whether an event is a token.
    """

    e2e_s: array[float] = field(default_factory=_doubles)
    ttft_s: array[float] = field(default_factory=_doubles)
    input_tokens: array[float] = field(default_factory=_doubles)
    output_tokens: array[float] = field(default_factory=_doubles)
    start_s: array[float] = field(default_factory=_doubles)
    gaps_s: array[float] = field(default_factory=_singles)

    def add(
        self,
        e2e_s: float | None,
        ttft_s: float | None,
        input_tokens: float | None,
        output_tokens: float | None,
        start_s: float | None = None,
    ) -> None:
        """One request that succeeded; None is unknown."""
        columns = (self.e2e_s, self.ttft_s, self.input_tokens, self.output_tokens, self.start_s)
        for column, value in zip(columns, (e2e_s, ttft_s, input_tokens, output_tokens, start_s), strict=True):
            column.append(float("nan") if value is None else value)

    def add_columns(
        self,
        e2e_s: Sequence[float | None],
        ttft_s: Sequence[float | None],
        input_tokens: Sequence[float | None],
        output_tokens: Sequence[float | None],
    ) -> None:
        """Several requests that succeeded, without their starts; None is unknown."""
        columns = (self.e2e_s, self.ttft_s, self.input_tokens, self.output_tokens, self.start_s)
        unknown = [None] * len(e2e_s)
        for column, values in zip(columns, (e2e_s, ttft_s, input_tokens, output_tokens, unknown), strict=True):
            column.extend([_UNKNOWN if value is None else value for value in values])

    def add_streams(self, gaps_s: Sequence[object]) -> list[float]:
        """As `add_gaps` for each of several streams, at once where they hold nothing but gaps."""
        flat = _flat(gaps_s, 1.0)
        if flat is None:
            return [self.add_gaps(gaps) for gaps in gaps_s]
        self.gaps_s.frombytes(flat.astype(np.float32).tobytes())
        streams = [gaps for gaps in gaps_s if isinstance(gaps, list)]
        ends = list(accumulate(map(len, streams), initial=0))
        return [float(np.add.reduce(flat[start:end])) for start, end in pairwise(ends)]

    def keep_gaps(self, gaps_s: Sequence[object], scale: float = 1.0) -> None:
        """As `add_streams`, in units of `scale` seconds, without their sums."""
        flat = _flat(gaps_s, scale)
        if flat is not None:
            self.gaps_s.frombytes((flat * scale).astype(np.float32).tobytes())
            return
        for gaps in gaps_s:
            self.add_gaps(gaps, scale)

    def add_gaps(self, gaps_s: object, scale: float = 1.0) -> float:
        """Keep the gaps of one stream, a JSON list; what is no gap is left out. Returns their sum, in seconds."""
        if not isinstance(gaps_s, list) or not gaps_s:
            return 0.0
        try:
            gaps = np.asarray(gaps_s, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            found = [number(gap) for gap in gaps_s]
            gaps = np.asarray([gap for gap in found if gap is not None], dtype=np.float64)
        if gaps.ndim != 1:
            return 0.0
        gaps = gaps[(gaps >= 0) & (gaps < LONGEST_S / scale)] * scale
        self.gaps_s.frombytes(gaps.astype(np.float32).tobytes())
        return float(gaps.sum())

    def __len__(self) -> int:
        return len(self.e2e_s)

    def statistics(self, duration_s: float | None = None) -> dict[str, float]:
        """Means and percentiles by the canonical metrics' names, and rates where the window's length is known.

        ``itl_s`` is there only if an event is a token (see `tokens_an_event`).
        """
        e2e, ttft = _known(self.e2e_s), _known(self.ttft_s)
        out: dict[str, float] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            tokens = np.asarray(self.output_tokens)
            each = (np.asarray(self.e2e_s) - np.asarray(self.ttft_s)) / (tokens - 1)
            each = each[np.isfinite(each) & (tokens > 1) & (each > 0)]
        for name, values in (("ttft", ttft), ("tpot", each), ("e2e_latency", e2e)):
            out |= _described(name, np.sort(values))
        if self.gaps_s and _is_one(self.tokens_an_event()):
            gaps = self._gaps()
            gaps.sort()
            out |= _described("itl", gaps)
        for name, column in (("input_tokens", self.input_tokens), ("output_tokens", self.output_tokens)):
            values = _known(column)
            if len(values) == len(self) and len(values):
                with np.errstate(over="ignore"):
                    out[name] = float(values.mean())
        if duration_s is not None and duration_s > 0 and len(self):
            out["request_throughput_req_s"] = len(self) / duration_s
            if "output_tokens" in out:
                out["throughput_tok_s"] = out["output_tokens"] * len(self) / duration_s
                if "input_tokens" in out:
                    out["total_throughput_tok_s"] = (
                        (out["input_tokens"] + out["output_tokens"]) * len(self) / duration_s
                    )
        return {name: value for name, value in out.items() if 0 < value < math.inf}

    def mean_gap_s(self) -> float | None:
        """The mean over the gaps between events, be they tokens or not; None without gaps."""
        gaps = self._gaps()
        return float(gaps.mean(dtype=np.float64)) if len(gaps) else None

    def _gaps(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(self.gaps_s, dtype=np.float32).copy()

    def tokens_an_event(self) -> float | None:
        """Output tokens after the first event for each gap; None without both. Above 1, events are bundles."""
        tokens = _known(self.output_tokens)
        if not self.gaps_s or len(tokens) != len(self):
            return None
        return float((tokens - 1).sum() / len(self.gaps_s))

    def bounds(self) -> str:
        """A note on the percentiles for which there are too few requests; empty if for none."""
        few = [f"p{percent}" for percent in PERCENTS[1:] if len(self) < -(-100 // (100 - percent))]
        return f"{', '.join(few)} of {len(self)} requests are their maximum, a lower bound" if few and len(self) else ""


def _flat(streams: Sequence[object], scale: float) -> FloatArray | None:
    """The gaps of all streams where they are lists of nothing but gaps; None where each needs a look."""
    lists = [gaps for gaps in streams if isinstance(gaps, list)]
    try:
        flat = np.frombuffer(array("d", chain.from_iterable(lists)))
    except (TypeError, OverflowError):
        return None
    plain = len(lists) == len(streams) and len(flat) and flat.min() >= 0 and flat.max() < LONGEST_S / scale
    return flat if plain else None


def _known(column: array[float]) -> FloatArray:
    values = np.asarray(column, dtype=np.float64)
    return values[np.isfinite(values) & (values > 0)]


def _described(name: str, ordered: npt.NDArray[np.floating]) -> dict[str, float]:
    if not len(ordered):
        return {}
    with np.errstate(over="ignore"):
        out = {f"{name}_s": float(ordered.mean(dtype=np.float64))}
    for percent in PERCENTS:
        out[f"{name}_p{percent}_s"] = float(ordered[max(0, -(-percent * len(ordered) // 100) - 1)])
    return out


def _is_one(ratio: float | None) -> bool:
    return ratio is not None and abs(ratio - 1) <= 0.05
