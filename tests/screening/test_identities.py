"""A row that contradicts itself is found however many rows do so alike, and the slip is named and undone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fewmark.interop.table.frame import build_frame
from fewmark.screening import Finding, apply, screen

Change = Callable[[pd.DataFrame], None]
METRICS = ("e2e_latency_s", "ttft_s", "tpot_s", "throughput_tok_s")


def table(n: int, *, load: str = "batch_size", noise: float = 0.0, drop: tuple[str, ...] = ()) -> pd.DataFrame:
    """A 70B model on eight accelerators: n cells that agree with themselves by every definition."""
    cells = [(ii, oo, bb) for ii in (128, 512, 2048) for oo in (128, 256) for bb in (1, 4, 16, 64)][:n]
    rng = np.random.default_rng(0)
    rows: dict[str, list[object]] = {}
    for ii, oo, bb in cells:
        ttft = 0.05 + 0.00002 * ii * bb
        tpot = 0.0185 + 0.00008 * bb
        e2e = ttft + (oo - 1) * tpot
        rate = bb * oo / e2e * float(np.exp(rng.normal(0, noise)))
        row = {
            "engine": "vllm", "model": "org/m-70b", "accelerator": "H100", "accelerator_count": 8,
            "tensor_parallel_size": 8, "input_tokens": ii, "output_tokens": oo, load: bb,
            "e2e_latency_s": e2e, "ttft_s": ttft, "tpot_s": tpot, "throughput_tok_s": rate,
        }  # fmt: skip
        for name, value in row.items():
            rows.setdefault(name, []).append(value if name not in drop else None)
    return build_frame(rows)


def scale(name: str, factor: float | Callable[[pd.DataFrame], pd.Series]) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame[name] *= factor if isinstance(factor, float) else factor(frame)

    return change


def together(*changes: Change) -> Change:
    def change(frame: pd.DataFrame) -> None:
        for one in changes:
            one(frame)

    return change


def input_share(frame: pd.DataFrame) -> pd.Series:
    return (frame["input_tokens"] + frame["output_tokens"]) / frame["output_tokens"]


def load_of(frame: pd.DataFrame) -> pd.Series:
    return frame["batch_size"].fillna(frame["concurrency"])


SLIPS: dict[str, tuple[Change, str]] = {
    "per accelerator": (scale("throughput_tok_s", 1 / 8), "throughput_tok_s is that of one accelerator"),
    "total for output": (scale("throughput_tok_s", input_share), "throughput_tok_s counts input tokens, too"),
    "thousands": (scale("throughput_tok_s", 1e-3), "throughput_tok_s is in thousands"),
    "e2e in ms": (scale("e2e_latency_s", 1e3), "e2e_latency_s is in milliseconds"),
    "tpot in ms": (scale("tpot_s", 1e3), "tpot_s is in milliseconds"),
    "ttft in ms": (scale("ttft_s", 1e3), "ttft_s is in milliseconds"),
    "both parts in ms": (
        together(scale("ttft_s", 1e3), scale("tpot_s", 1e3)), "ttft_s and tpot_s are in milliseconds",
    ),
    "all in ms": (
        together(*(scale(name, 1e3) for name in METRICS[:3])),
        "e2e_latency_s and ttft_s and tpot_s are in milliseconds",
    ),
}  # fmt: skip


def check(frame: pd.DataFrame, truth: pd.DataFrame, words: str, rows: list[int]) -> list[Finding]:
    findings = screen(frame)
    assert {f.row - 1 for f in findings} == set(rows)
    assert {f.action for f in findings} == {"correct"}
    assert all(words in f.reason for f in findings), findings[0].reason
    seen = apply(frame, findings)
    pd.testing.assert_frame_equal(seen[[*METRICS]], truth[[*METRICS]], rtol=1e-9)
    return findings


@pytest.mark.parametrize(("n", "load"), [(1, "batch_size"), (24, "batch_size"), (6, "concurrency")])
@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_every_row_is_named_and_undone(slip: str, n: int, load: str) -> None:
    truth = table(n, load=load)
    frame = truth.copy()
    change, words = SLIPS[slip]
    change(frame)
    findings = check(frame, truth, words, list(range(n)))
    if n > 1:
        assert f"so in {n} of {n} rows" in findings[0].reason


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_half_of_the_rows_does_not_widen_what_is_lawful(slip: str) -> None:
    truth = table(24)
    frame, half = truth.copy(), truth.iloc[::2].copy()
    change, words = SLIPS[slip]
    change(half)
    frame.loc[half.index, [*METRICS]] = half[[*METRICS]]
    check(frame, truth, words, half.index.tolist())


def test_a_batch_that_was_left_out_is_found_in_loops_too() -> None:
    truth = table(8, load="concurrency")
    frame = truth.copy()
    frame["throughput_tok_s"] /= load_of(frame)
    check(frame, truth, "that of one sequence", truth.index[load_of(truth) > 1].tolist())


def test_throughput_per_accelerator_shows_without_an_end_to_end_latency() -> None:
    for drop in (("e2e_latency_s",), ("e2e_latency_s", "ttft_s")):
        truth = table(4, load="concurrency", drop=drop)
        assert not screen(truth)
        frame = truth.copy()
        frame["throughput_tok_s"] /= 8
        check(frame, truth, "throughput_tok_s is that of one accelerator", [0, 1, 2, 3])


@pytest.mark.parametrize("n", [1, 4, 24])
def test_generations_that_ended_early_are_excluded_with_their_length(n: int) -> None:
    frame = table(n, load="concurrency")
    frame["output_tokens"] *= 4
    findings = screen(frame)
    assert {f.row for f in findings if f.action == "exclude"} == set(range(1, n + 1))
    assert "the generation ended early, after about 128 of 512 tokens" in findings[0].reason


def test_early_ends_by_the_rate_of_requests() -> None:
    frame = table(6, load="request_rate", drop=("e2e_latency_s", "ttft_s", "tpot_s"))
    frame["request_throughput_req_s"] = frame["request_rate"] * 0.98
    frame["throughput_tok_s"] = frame["request_throughput_req_s"] * 30
    findings = screen(frame)
    assert len({f.row for f in findings if f.action == "exclude"}) == 6
    assert "after about 30 of 128 tokens" in findings[0].reason


def test_a_time_per_token_that_is_a_gap_between_chunks() -> None:
    truth = table(24)
    frame = truth.copy()
    frame["tpot_s"] *= 2.7
    findings = screen(frame)  # whether the rate counts what was asked or what came, nobody can tell
    assert {f.action for f in findings} == {"exclude"}
    assert len(findings) == 24
    assert "tpot_s is the gap between chunks of 2.7 tokens" in findings[0].reason
    frame["itl_s"] = frame["tpot_s"]  # but where the gaps have their own column, it is them
    check(frame, truth, "tpot_s is the gap between chunks (itl_s)", list(range(24)))


def test_more_than_the_requests_that_were_sent() -> None:
    truth = table(4, load="request_rate", drop=("e2e_latency_s", "ttft_s", "tpot_s"))
    truth["throughput_tok_s"] = 0.97 * truth["request_rate"] * truth["output_tokens"]
    assert not screen(truth)
    frame = truth.copy()
    frame["throughput_tok_s"] *= input_share(frame)
    findings = screen(frame)
    assert len({f.row for f in findings}) == 4
    assert "throughput_tok_s counts input tokens, too" in findings[0].reason


def test_a_load_that_is_that_of_one_accelerator_is_another_cell() -> None:
    frame = table(24)
    frame["request_throughput_req_s"] = frame["throughput_tok_s"] / frame["output_tokens"]
    frame["batch_size"] /= 8
    findings = screen(frame)
    assert {f.action for f in findings} == {"exclude"}
    assert "the load is that of one accelerator" in findings[0].reason


@pytest.mark.parametrize("n", [1, 3, 24])
def test_a_throughput_that_nothing_explains_is_excluded_in_every_row(n: int) -> None:
    frame = table(n)
    frame["throughput_tok_s"] *= 1.61
    findings = screen(frame)
    assert {(f.row, f.action) for f in findings} == {(row, "exclude") for row in range(1, n + 1)}


def test_loads_that_were_not_held_are_no_slip() -> None:
    """A client that ramps up, or ends before its queue is empty, holds less than its limit; nothing holds more."""
    frame = table(24, load="concurrency")
    share = 1 - 0.3 * np.minimum(1.0, frame["concurrency"] / 4)
    frame["throughput_tok_s"] *= share * np.exp(np.random.default_rng(1).normal(0, 0.05, 24))
    assert not screen(frame)
    frame.loc[15, "throughput_tok_s"] *= 0.5
    (finding,) = screen(frame)
    assert (finding.row, finding.action) == (16, "warn")
    assert "requests in flight, not 64" in finding.reason
    frame.loc[15, "throughput_tok_s"] *= 6
    (finding,) = screen(frame)
    assert (finding.row, finding.action) == (16, "exclude")


@pytest.mark.parametrize("load", ["batch_size", "concurrency"])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_tables_that_agree_but_for_noise_pass(noise: float, load: str) -> None:
    assert not screen(table(24, load=load, noise=noise))


def test_throughput_per_accelerator_in_half_of_the_rows_of_a_closed_loop() -> None:
    truth = table(8, load="concurrency", drop=("total_throughput_tok_s",))
    off = truth.copy()
    off.loc[off.index % 2 == 0, "throughput_tok_s"] /= off["accelerator_count"]
    check(off, truth, "that of one accelerator", [0, 2, 4, 6])


def test_throughput_per_accelerator_in_open_loops() -> None:
    rates = pd.Series([0.2, 0.4, 0.8, 1.2])
    truth = (
        table(4)
        .drop(columns=["batch_size", "total_throughput_tok_s"])
        .assign(
            request_rate=rates,
            throughput_tok_s=rates * 128 * 0.99,
            ttft_s=0.1,
            tpot_s=0.02,
            e2e_latency_s=0.1 + 127 * 0.02,
        )
    )
    assert not screen(truth)
    check(
        truth.assign(throughput_tok_s=truth["throughput_tok_s"] / truth["accelerator_count"]),
        truth,
        "that of one accelerator",
        [0, 1, 2, 3],
    )
    overloaded = truth.assign(throughput_tok_s=[25.0, 50.0, 50.0, 50.0])
    assert not [finding for finding in screen(overloaded) if finding.action == "correct"]


def test_medians_over_requests_need_not_add_up() -> None:
    frame = table(24, load="concurrency", drop=("throughput_tok_s",))
    frame["e2e_latency_s"] *= np.exp(np.random.default_rng(1).uniform(-0.03, 0.08, len(frame)))
    assert not [finding for finding in screen(frame) if finding.rule == "contradicting-times"]
    frame.loc[3, "e2e_latency_s"] *= 1.5
    assert [finding.row for finding in screen(frame) if finding.rule == "contradicting-times"] == [4]


def interchange(one: str, other: str) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame[one], frame[other] = frame[other].copy(), frame[one].copy()

    return change


def set_throughput(rate: Callable[[pd.DataFrame], pd.Series]) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame["throughput_tok_s"] = rate(frame)

    return change


def decoding(frame: pd.DataFrame) -> pd.Series:
    return load_of(frame) * (frame["output_tokens"] - 1) / (frame["e2e_latency_s"] - frame["ttft_s"])


UNLIKE_COLUMNS: dict[str, tuple[Change, str]] = {
    "input tokens": (scale("throughput_tok_s", lambda f: f["input_tokens"] / f["output_tokens"]), "not output tokens"),
    "requests a second": (scale("throughput_tok_s", lambda f: 1 / f["output_tokens"]), "is requests a second"),
    "requests a minute": (scale("throughput_tok_s", lambda f: 60 / f["output_tokens"]), "is requests a minute"),
    "tokens a minute": (scale("throughput_tok_s", 60.0), "is by the minute"),
    "1 / tpot": (set_throughput(lambda f: 1 / f["tpot_s"]), "that of one sequence after its first token"),
    "decoding": (set_throughput(decoding), "leaves the first token's time out"),
    "minutes": (scale("e2e_latency_s", 1 / 60), "e2e_latency_s is in minutes"),
    "tokens a second and user": (scale("tpot_s", lambda f: f["tpot_s"] ** -2), "is tokens a second"),
    "ttft and tpot": (interchange("ttft_s", "tpot_s"), "ttft_s and tpot_s are interchanged"),
    "ttft and e2e": (interchange("ttft_s", "e2e_latency_s"), "ttft_s and e2e_latency_s are interchanged"),
}


@pytest.mark.parametrize("load", ["batch_size", "concurrency"])
@pytest.mark.parametrize("slip", UNLIKE_COLUMNS)
def test_a_column_that_holds_something_else_is_named_and_undone(slip: str, load: str) -> None:
    truth = table(24, load=load)
    truth = truth[(truth["input_tokens"] != truth["output_tokens"]) & (load_of(truth) > 1)].reset_index(drop=True)
    frame = truth.copy()
    change, words = UNLIKE_COLUMNS[slip]
    change(frame)
    findings = screen(frame)
    assert {f.action for f in findings} == {"correct"}
    assert all(words in f.reason for f in findings)
    found = apply(frame, findings)
    assert len(found) == len(truth)
    for name in METRICS:
        # a rate that leaves the first token out hardly differs where that comes soon
        assert found[name].to_numpy() == pytest.approx(truth[name].to_numpy(), rel=0.03 if slip == "decoding" else 1e-6)


@pytest.mark.parametrize(("factor", "words"), [(4.0, "not output tokens"), (1 / 128, "is requests a second")])
def test_throughputs_of_open_loops_that_count_something_else(factor: float, words: str) -> None:
    frame = table(12, load="request_rate", drop=("e2e_latency_s", "ttft_s", "tpot_s")).iloc[8:].reset_index(drop=True)
    frame = frame.assign(input_tokens=512.0, output_tokens=128.0)
    truth = frame["request_rate"] * 128
    frame["throughput_tok_s"] = truth * factor
    findings = screen(frame)
    assert all(words in f.reason for f in findings)
    assert apply(frame, findings)["throughput_tok_s"].to_numpy() == pytest.approx(truth.to_numpy())


def test_request_rates_by_the_minute_are_other_cells() -> None:
    frame = table(4, load="request_rate", drop=("e2e_latency_s", "ttft_s", "tpot_s"))
    frame["throughput_tok_s"] = frame["request_rate"] * frame["output_tokens"]
    frame["request_rate"] *= 60
    findings = screen(frame)
    assert {(f.row, f.action) for f in findings} == {(row, "exclude") for row in range(1, 5)}
    assert "request_rate is by the minute" in findings[0].reason


def loop(
    oo: float, loads: list[float], made: list[float], *, ii: float = 1000.0, load: str = "concurrency"
) -> pd.DataFrame:
    """A loop of 2 s a request whose throughput is what `made` tokens of each request make."""
    rows = [(ii, oo, n, 2.0, n * tokens / 2.0) for n, tokens in zip(loads, made, strict=True)]
    names = ("input_tokens", "output_tokens", load, "e2e_latency_s", "throughput_tok_s")
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return build_frame({"engine": ["vllm"] * len(rows), "model": ["m"] * len(rows), **columns})


def sent(ii: float, oo: float, rates: list[float], made: list[float]) -> pd.DataFrame:
    """An open loop: requests a second that were sent, and the tokens a second that came of them."""
    n = len(rates)
    columns = {"input_tokens": [ii] * n, "output_tokens": [oo] * n, "request_rate": rates, "throughput_tok_s": made}
    return build_frame({"engine": ["vllm"] * n, "model": ["m"] * n, **columns})


LOW: dict[str, tuple[pd.DataFrame, set[str]]] = {
    "190 of 640 in flight": (
        loop(200, [640], [190 / 640 * 200]).assign(ttft_s=0.2, tpot_s=1.8 / 199), {"warn"},
    ),
    "a quarter held, by 60": (loop(256, [64], [0.24 * 256], ii=1024), {"warn"}),
    "a quarter held, by the input": (loop(256, [64, 128], [0.24 * 256, 0.25 * 256], ii=64), {"warn"}),
    "60 of 256 tokens": (loop(256, [4, 8], [60] * 2), {"warn"}),
    "60 of 128 tokens": (loop(128, [4, 8, 16], [60] * 3), {"warn"}),
    "60 of 128 tokens, with requests a second": (
        loop(128, [4, 8, 16], [60] * 3).assign(request_throughput_req_s=[2.0, 4.0, 8.0]), {"exclude"},
    ),
    "60 of 128 tokens, batches": (loop(128, [4, 8, 16], [60] * 3, load="batch_size"), {"exclude"}),
    "290 of 1024 tokens": (loop(1024, [4, 8], [290] * 2, ii=300), {"warn"}),
    "half, as many as input": (loop(256, [4, 8, 16], [128] * 3, ii=128), set()),
    "an eighth held, 8 tokens": (loop(8, [64], [1.0]), {"warn"}),
    "all sent at once": (sent(100, 300, [1000], [5000.0]), set()),
    "saturated, by the input": (sent(100, 400, [100], [10000.0]), set()),
    "saturated at the last rates": (sent(100, 400, [1, 10, 30, 100], [400.0, 4000.0, 9800.0, 10000.0]), set()),
}  # fmt: skip


@pytest.mark.parametrize("why", LOW)
def test_a_load_that_was_not_held_is_no_slip_of_that_factor(why: str) -> None:
    frame, actions = LOW[why]
    assert {f.action for f in screen(frame)} == actions


def test_rates_equal_by_chance_to_that_of_decoding_are_no_slip() -> None:
    frame = pd.concat([table(24, load="concurrency", noise=0.04)] * 2, ignore_index=True)
    frame["model"] = [f"m{row // 24}" for row in range(48)]
    rows = load_of(frame).eq(64).to_numpy().nonzero()[0][:4]
    frame.loc[rows, "throughput_tok_s"] = decoding(frame)[rows]
    assert not [f for f in screen(frame) if "leaves the first token's time out" in f.reason]


@pytest.mark.parametrize("tpot", [0.01448, None])
def test_a_first_token_a_little_after_the_last_is_not_taken_for_the_last(tpot: float | None) -> None:
    frame = loop(32, [64], [20.0]).assign(e2e_latency_s=3.612, ttft_s=4.06, tpot_s=tpot, throughput_tok_s=None)
    assert not [f for f in screen(frame) if f.action == "correct"]
