"""How many users an engine serves at once: a limit of sequences, of tokens, of the engine's or of each deployment."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.facts.facts import load_facts
from fewmark.models.analytic.closed_loop import Saturation, log2_users, reach_of_few
from fewmark.models.auto.latency_gp import LatencyGP

ACCELERATORS = ("A100-80GB", "H100-80GB", "L40S-48GB")
MODELS = ("llama-2-7b", "mistral-7b", "llama-3-8b")
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def served(
    sequences: Any, tokens: Any = lambda row: 1e9, lengths: tuple[tuple[float, float], ...] = ((500.0, 100.0),),
    engines: tuple[str, ...] = ("e",), noise: float = 0.02,
) -> pd.DataFrame:  # fmt: skip
    """A closed loop by the book: at most min(S, K / (ii + oo)) users decode at once, the others queue."""
    rng = np.random.default_rng(0)
    rows = []
    for engine, model, accelerator, (ii, oo), u in product(engines, MODELS, ACCELERATORS, lengths, USERS):
        row = {"engine": engine, "model": model, "accelerator": accelerator, "accelerator_count": 1.0,
               "input_tokens": ii, "output_tokens": oo, "concurrency": float(u)}  # fmt: skip
        most = min(sequences(row), tokens(row) / (ii + oo))
        busy = min(u, most)
        tpot = 0.01 * (1 + 0.03 * busy)
        unloaded = (1.5 + 0.004 * ii) * tpot
        ttft = unloaded + (u / busy - 1) * (unloaded + (oo - 1) * tpot)
        row |= {"tpot_s": tpot * np.exp(noise * rng.standard_normal()), "most": np.log2(most)}
        rows.append(row | {"ttft_s": ttft * np.exp(noise * rng.standard_normal())})
    return pd.DataFrame(rows)


def learned(X: pd.DataFrame) -> Saturation:
    found = Saturation.learn(X, load_facts())
    assert found is not None
    return found


def estimates(found: Saturation, X: pd.DataFrame) -> np.ndarray:
    return log2_users(found.reach_at(X, load_facts()))


def test_the_limit_of_an_engine_holds_for_deployments_of_it_that_never_queued() -> None:
    limit = {"small": 16.0, "large": 128.0}
    X = served(lambda row: limit[row["engine"]], engines=tuple(limit))
    unloaded = (X.model == "mistral-7b") & (X.accelerator == "H100-80GB") & (X.concurrency > 2)
    unseen = (X.model == "llama-3-8b") & (X.accelerator == "L40S-48GB")
    found = learned(X[~unloaded & ~unseen])
    assert found.by_engine
    for hidden in (unloaded, unseen):
        assert estimates(found, X[hidden]) == pytest.approx(X.most[hidden], abs=0.6)


def test_limits_that_go_by_deployment_are_not_taken_for_the_engines() -> None:
    limit = {("llama-2-7b", "A100-80GB"): 64.0, ("mistral-7b", "H100-80GB"): 3.0, ("llama-3-8b", "L40S-48GB"): 20.0}
    X = served(lambda row: limit.get((row["model"], row["accelerator"]), 8.0))
    found = learned(X)
    assert not found.by_engine
    assert estimates(found, X) == pytest.approx(X.most, abs=0.4)


def test_longer_requests_fill_a_cache_of_tokens_sooner() -> None:
    short, long = (400.0, 100.0), (3500.0, 500.0)
    room = {"llama-2-7b": 32e3, "mistral-7b": 128e3, "llama-3-8b": 128e3}  # a quarter of the heads: four times
    X = served(lambda row: 2048.0, lambda row: room[row["model"]], lengths=(short, long))
    hidden = (X.model == "mistral-7b") & (X.input_tokens == long[0])
    found = learned(X[~hidden])
    assert found.by_tokens
    assert estimates(found, X[hidden]) == pytest.approx(X.most[hidden], abs=1.0)
    full = ~hidden & (X.most < 7)
    assert estimates(found, X[full]) == pytest.approx(X.most[full], abs=0.6)


def test_a_limit_of_sequences_is_the_same_for_all_lengths() -> None:
    X = served(lambda row: 32.0, lengths=((100.0, 50.0), (1500.0, 500.0)))
    found = learned(X)
    assert not found.by_tokens
    assert estimates(found, X) == pytest.approx(X.most, abs=0.3)


def test_long_prompts_of_few_tokens_are_no_queue() -> None:
    """A first token that takes most of the time of a short answer says nothing of a limit."""
    X = served(lambda row: 1e4, lengths=((8000.0, 8.0), (200.0, 400.0)))
    seen = X[X.concurrency <= 64]
    assert (estimates(learned(seen), seen) > 6.0).all()


def test_a_limit_is_not_known_from_cells_that_are_hidden() -> None:
    X = served(lambda row: 8.0 if row["accelerator"] == "H100-80GB" else 200.0)
    found = learned(X)
    own = (X.accelerator.eq("H100-80GB") & X.model.eq("llama-2-7b")).to_numpy()
    told, users = found.told(X)[own], X.concurrency.to_numpy()[own]
    length = np.log2(X.input_tokens + X.output_tokens).to_numpy()[own]
    everything = log2_users(reach_of_few(told, users, length))
    assert everything == pytest.approx(estimates(found, X[own]), abs=1e-9)
    told[users > 4, 0] = np.nan
    assert (np.abs(log2_users(reach_of_few(told, users, length)) - everything) > 0.05).all()


def test_few_cells_tell_and_relatives_lend() -> None:
    X = served(lambda row: {"A100-80GB": 200.0, "H100-80GB": 8.0, "L40S-48GB": 8.0}[row["accelerator"]], noise=0.05)
    seen = X[X.concurrency.isin([1, 64]) & ~((X.accelerator == "H100-80GB") & (X.model == "mistral-7b"))]
    found = learned(seen)
    most = pd.Series(estimates(found, X), X.index).groupby([X.accelerator, X.model]).first()
    assert most["H100-80GB", "llama-2-7b"] == pytest.approx(3.0, abs=0.5)
    assert most["L40S-48GB", "mistral-7b"] == pytest.approx(3.0, abs=0.5)
    assert (most["A100-80GB"] > 5.5).all()
    assert most["H100-80GB", "mistral-7b"] < most["A100-80GB", "mistral-7b"] - 1
    assert Saturation.learn(X.drop(columns="ttft_s"), load_facts()) is None
    assert Saturation.learn(X.assign(input_tokens=np.nan), load_facts()) is None


def test_what_was_learned_survives_being_written() -> None:
    X = served(lambda row: 32.0, lambda row: 64e3, engines=("a", "b"))
    found = learned(X[X.model != "llama-3-8b"])
    again = Saturation.from_state(*found.to_state())
    assert (estimates(again, X) == estimates(found, X)).all()
    np.testing.assert_array_equal(again.told(X), found.told(X))


def test_intervals_that_nothing_bounds_are_numbers() -> None:
    X = served(lambda row: 32.0)
    model = LatencyGP(target="tpot_s").fit(X, X.tpot_s.to_numpy())
    model.own_noise_ = 1e6
    assert np.isnan(model.predict_interval(X)).all()  # no answer
    found = model.calibrated(model.estimate(X))
    low, high = found.silent_where(np.zeros(len(X), dtype=bool)).intervals(model.scored(found.features), 0.9).T
    assert (low > 0).all() and np.isfinite(high).all()
