"""What public measurements teach: used where little is measured, never where it knows the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewmark import datasets
from fewmark.core import InputError
from fewmark.facts.facts import load_facts
from fewmark.models.auto.covariance import components
from fewmark.models.auto.model import AutoModel
from fewmark.models.auto.prior_joining import prior_for
from fewmark.models.auto.public_prior import PACKAGED, VERSION, measured_in_public, packaged_prior
from fewmark.tables.identity import cell_columns
from fewmark.tables.repeats import target_cells
from fewmark.verbs.evaluate import evaluate
from fewmark.verbs.predict import predict


def mine(factor: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """A deployment like a public one, on a machine of one's own: other values, other spellings."""
    public = datasets.load("llm-inference-bench")
    chosen = public.model.eq("meta-llama/Llama-2-7b-hf") & public.accelerator.eq("Nvidia A100 GPU")
    X, y = target_cells(public[chosen & public.engine.eq("vLLM") & public.accelerator_count.eq(1)], "throughput_tok_s")
    return X[cell_columns(X)].assign(accelerator="A100-SXM4-40GB", model="Llama 2 7B"), y * factor


def test_the_packaged_file_is_small_and_of_this_version() -> None:
    assert PACKAGED.stat().st_size < 3_000_000
    document = json.loads(PACKAGED.read_text(encoding="utf-8"))
    hint = "run python tools/build_prior.py"
    assert document["version"] == VERSION and document["components"] == [
        component.name for component in components()
    ], hint
    assert {source["name"] for source in document["sources"]} == set(datasets.names())
    assert all(source["licence"] and source["citation"] for source in document["sources"])
    for latency in ("ttft_s", "tpot_s", "e2e_latency_s"):
        assert packaged_prior(latency) is not None


def test_two_measurements_say_more_with_it() -> None:
    X, y = mine(0.83)
    known = np.array([0, len(X) - 1])
    asked = np.setdiff1d(np.arange(len(X)), known)
    error = {}
    for prior in (False, True):
        model = AutoModel(prior=prior).fit(X.iloc[known], y[known])
        value = model.predict(X.iloc[asked])
        error[prior] = np.median(np.abs(value / y[asked] - 1))
        low, high = model.predict_interval(X.iloc[asked]).T
        assert np.mean((low <= y[asked]) & (y[asked] <= high)) >= 0.7
    assert error[True] < 0.6 * error[False]


def test_public_cells_take_over_a_users_name_of_the_same_weights_only() -> None:
    prior = packaged_prior("e2e_latency_s")
    assert prior is not None
    asked, _ = mine(0.83)
    for name, taken in (("Llama 2 7B", True), ("TheBloke/Llama-2-7B-AWQ", False)):
        cells, _ = prior.related(asked.assign(model=name), load_facts())
        assert (name in set(cells["model"])) == taken
        assert ("meta-llama/Llama-2-7b-hf" in set(cells["model"])) != taken
        assert "A100-SXM4-40GB" in set(cells["accelerator"])


def test_packaged_values_are_recognised_whatever_they_are_called() -> None:
    X, y = mine()
    assert measured_in_public(X.head(4), y[:4], "throughput_tok_s")
    load = X.batch_size.to_numpy(float) * X.output_tokens.to_numpy(float)
    assert measured_in_public(X, load / y, "e2e_latency_s")
    other, values = mine(0.83)
    assert not measured_in_public(other, values, "throughput_tok_s")
    with_prior = AutoModel(prior=True).fit(X, y)
    without = AutoModel().fit(X, y)
    assert np.array_equal(with_prior.predict(X), without.predict(X))


def test_evaluation_with_the_prior_refuses_packaged_data() -> None:
    X, y = mine()
    table = X.assign(throughput_tok_s=y, status="ok")
    with pytest.raises(InputError, match="would know its hidden cells"):
        evaluate(table, protocol="sparse-25", model=["loglog"], prior=True)


def test_a_table_of_many_cells_speaks_for_itself() -> None:
    X, y = mine(0.83)
    many = pd.concat([X.assign(model=f"{m}-7b") for m in "abcdefghijklmnopqr"], ignore_index=True)
    assert prior_for(True, "throughput_tok_s", many, np.tile(y, 18)) is None
    assert prior_for(True, "throughput_tok_s", X, y) is not None


@pytest.mark.slow
def test_prediction_from_a_small_table_says_whether_public_cells_joined(tmp_path: Path) -> None:
    X, y = mine(0.83)
    mine_path, public_path = tmp_path / "mine.csv", tmp_path / "public.csv"
    X.head(2).assign(throughput_tok_s=y[:2]).to_csv(mine_path, index=False)
    public, values = mine()
    public.head(2).assign(throughput_tok_s=values[:2]).to_csv(public_path, index=False)
    asked = X.iloc[3:6]
    assert predict(asked, data=mine_path).attrs["public_cells"] > 100
    assert predict(asked, data=mine_path, prior=False).attrs["public_cells"] == 0
    assert predict(asked, data=public_path).attrs["public_cells"] == 0


@pytest.mark.slow
def test_where_nothing_was_measured_public_measurements_answer(tmp_path: Path) -> None:
    X, y = mine()
    nothing = tmp_path / "nothing.csv"
    X.head(0).assign(throughput_tok_s=[]).to_csv(nothing, index=False)
    predicted = predict(X.head(3), data=nothing)
    assert predicted.attrs["published"] and predicted.attrs["public_cells"] > 100
    assert any("nothing was measured" in note for note in predicted.attrs["notes"])
    assert (predicted.provenance == "transferred").all()
    assert np.abs(np.log(predicted.value / y[:3])).max() < 0.3
    with pytest.raises(InputError, match="no rows"):
        predict(X.head(3), data=nothing, prior=False)
    with pytest.raises(InputError, match="nothing public"):
        predict(X.head(3).assign(accelerator="FooChip"), data=nothing)
