"""One set of odd tables through every verb: what one takes for a measured cell, every other one does too."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fewmark
from fewmark.core.errors import FewmarkError
from fewmark.core.metrics import derive_metrics
from fewmark.evaluation.meta_metrics import Charges
from fewmark.tables.identity import cell_codes, cell_columns, group_codes
from fewmark.tables.metrics import convert, derive
from fewmark.tables.repeats import measured_cells, target_cells
from fewmark.tables.spellings import filled_from

TARGET = "throughput_tok_s"
BASE = {"engine": "vllm", "model": "llama-3-8b", "precision": "fp16", "accelerator": "H100", "accelerator_count": 1.0}


def grid():
    rows = []
    for ii, oo in ((128, 128), (256, 256), (512, 512), (1024, 512)):
        for bb in (1, 2, 4, 8, 16, 32):
            e2e = 0.05 + oo * (0.008 + 0.0004 * bb) + 2e-5 * bb * ii
            rows.append({**BASE, "input_tokens": ii, "output_tokens": oo, "batch_size": bb, "e2e_latency_s": e2e})
    return pd.DataFrame(rows)


def with_first_tokens(table):
    ttft = 0.05 + 2e-5 * table["batch_size"] * table["input_tokens"]
    tpot = (table["e2e_latency_s"] - ttft) / (table["output_tokens"] - 1)
    return table.drop(columns="e2e_latency_s").assign(ttft_s=ttft, tpot_s=tpot)


def closed_loop(table):
    return table.rename(columns={"batch_size": "concurrency"})


def repeated(table):
    return pd.concat([table, table.assign(e2e_latency_s=table["e2e_latency_s"] * 1.01)], ignore_index=True)


def with_failures(table):
    failed = table.iloc[[5]].assign(batch_size=4096, e2e_latency_s=np.nan, status="out_of_memory")
    return pd.concat([table.assign(status="ok"), failed], ignore_index=True)


def with_holes(table):
    holes = table.copy()
    holes.loc[[2, 9], "e2e_latency_s"] = np.nan
    holes.loc[4, "batch_size"] = np.nan
    return holes


ODD = {
    "as it is": (grid(), 24),
    "first tokens only": (with_first_tokens(grid()), 24),
    "rates only": (grid().assign(throughput_tok_s=lambda t: t.batch_size * t.output_tokens / t.e2e_latency_s)
                   .drop(columns="e2e_latency_s"), 24),
    "closed loop": (closed_loop(grid()), 24),
    "repeats": (repeated(grid()), 24),
    "failures": (with_failures(grid()), 24),
    "holes": (with_holes(grid()), 21),
    "an option that is a list": (grid().assign(**{"option.layers": [[1, 2]] * 24}), 24),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_every_verb_takes_the_same_cells_for_measured(name, tmp_path):
    table, n_cells = ODD[name]
    assert len(measured_cells(table, TARGET)) == n_cells
    X, y = target_cells(table, TARGET)
    assert len(X) == len(y) == n_cells
    cases = X[cell_columns(X)].head(3).assign(output_tokens=200.0)
    answered = fewmark.predict(cases, data=table, model="mechanistic", target=TARGET, screened=False)
    assert (answered["abstained"] == "").all() and np.isfinite(answered["value"]).all()
    _, planner = fewmark.plan(X[cell_columns(X)], data=table, model="mechanistic", screened=False, prior=False)
    assert planner.observed.sum() == n_cells
    (scores,) = fewmark.evaluate(table, protocol="sparse-25", model=["mechanistic"], screened=False)
    assert scores["n_cells"] == n_cells
    found = fewmark.assess_strategies(table, strategies=["random"], model="none", charges=Charges(), screened=False)
    assert found.n_cells == n_cells if hasattr(found, "n_cells") else found
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    assert fewmark.screen(path).n_rows == len(table)


@pytest.mark.parametrize("verb", ["predict", "plan", "evaluate", "assess"])
def test_every_verb_refuses_a_table_without_a_value(verb):
    table = grid().drop(columns="e2e_latency_s")
    asked = {
        "predict": lambda: fewmark.predict(table.head(2), data=table, screened=False),
        "evaluate": lambda: fewmark.evaluate(table, model=["mechanistic"], screened=False),
        "assess": lambda: fewmark.assess_strategies(table, strategies=["random"], screened=False),
        "plan": lambda: fewmark.plan(table, data=table, model="none", screened=False).planner,
    }
    if verb == "plan":  # a plan begins with nothing
        assert not asked[verb]().observed.any()
        return
    with pytest.raises(FewmarkError):
        asked[verb]()


numbers = st.one_of(st.none(), st.floats(1e-3, 1e3))  # s, tok/s


@pytest.mark.slow
@given(known=st.fixed_dictionaries(dict.fromkeys(("e2e_latency_s", "ttft_s", "tpot_s", "throughput_tok_s"), numbers)))
def test_a_table_derives_what_a_single_row_does(known):
    row = pd.DataFrame([{"input_tokens": 100.0, "output_tokens": 50.0, "batch_size": 4.0, **known}])
    alone = derive_metrics(known, input_tokens=100, output_tokens=50, batch_size=4)
    for name in ("e2e_latency_s", "throughput_tok_s", "total_throughput_tok_s", "tpot_s"):
        value = derive(row)[name].iloc[0]
        assert (alone[name] is None) == math.isnan(value)
        assert alone[name] is None or value == pytest.approx(alone[name])


@given(st.sampled_from(["throughput_tok_s", "total_throughput_tok_s", "e2e_latency_s", "tpot_s"]), st.floats(1e-3, 1e3))
def test_converting_there_and_back_changes_nothing(target, value):
    tokens = (np.array([128.0]), np.array([64.0]), np.array([8.0]))
    seconds = convert(target, np.array([value]), *tokens)
    assert convert(target, seconds, *tokens)[0] == pytest.approx(value)


def test_unknown_equals_unknown_and_lists_are_compared_as_written():
    table = pd.DataFrame({"model": ["a", "a", None, np.nan], "option.x": [[1], [1], [2], [2]]})
    assert group_codes(table, ["model", "option.x"])[0].tolist() == [0, 0, 1, 1]
    assert cell_codes(table).tolist() == [0, 0, 1, 1]


def test_one_row_is_a_mapping_and_what_is_no_table_is_refused():
    asked = {**BASE, "input_tokens": 128, "output_tokens": 64, "batch_size": 4}
    answered = fewmark.predict(asked, data=grid(), model="mechanistic", screened=False)
    assert len(answered) == 1 and answered["abstained"].iloc[0] == ""
    with pytest.raises(FewmarkError, match="not a table"):
        fewmark.predict(3, data=grid(), model="mechanistic", screened=False)


def test_a_count_left_out_of_cases_is_filled_in_beside_unknown_numbers() -> None:
    from fewmark.verbs.source import read_cases

    known = pd.DataFrame(
        {"engine": ["e", "e"], "model": ["m", "n"], "accelerator_count": [2.0, 1.0], "input_tokens": [8.0, 8.0],
         "output_tokens": [8.0, 8.0], "batch_size": [1.0, 1.0]}
    )  # fmt: skip
    asked = [{"engine": "e", "model": "m", "accelerator_count": None, "input_tokens": 8, "output_tokens": 8,
              "batch_size": 4}]  # fmt: skip
    for cases in (asked, [{**asked[0], "tensor_parallel_size": 1}]):
        found = read_cases(cases, known)
        assert found["accelerator_count"].tolist() == [2.0]


def test_a_tuple_is_one_value_of_an_option() -> None:
    known = pd.DataFrame({"model": ["m", "n"], "accelerator": ["A", "B"], "option.y": [(1, 2), (1, 3)]})
    cases = pd.DataFrame({"model": ["m"], "option.y": [(1, 2)]})
    assert filled_from(cases, known)["accelerator"].tolist() == ["A"]
    other = pd.DataFrame({"model": ["m"], "option.y": [(1, 3)]})
    assert "accelerator" not in filled_from(other, known)


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (np.array([], np.int64), []),
        (np.array([2**63 + 2, 2**63, 2**63 + 2], np.uint64), [0, 1, 0]),
        (np.array([-5, -7, -5], np.int8), [0, 1, 0]),
    ],
)
def test_whole_numbers_of_any_width_are_told_apart(values: np.ndarray, codes: list[int]) -> None:
    assert group_codes(pd.DataFrame({"a": values}), ["a"])[0].tolist() == codes
