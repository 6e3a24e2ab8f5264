"""No value of a hidden cell reaches a model: poisoned or missing, they change no prediction."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewmark.evaluation import PROTOCOLS
from fewmark.evaluation.protocols import turns
from fewmark.evaluation.run import _play
from fewmark.models.registry import make_model
from fewmark.tables.cells import read_cells
from fewmark.tables.repeats import target_cells

TARGET = "throughput_tok_s"


@pytest.fixture(scope="module")
def prepared(small_table):
    X, y = target_cells(small_table, TARGET)
    accelerators = X["accelerator"].astype(object).where(X["accelerator"].notna(), None).to_numpy()
    return X, y, read_cells(X), accelerators


def played(turn, X, y, cells, name):
    frame, _, _ = _play(make_model(name, target=TARGET), turn, X, y, cells)
    return frame.drop(columns="measured")


@settings(max_examples=20, deadline=None)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    which=st.integers(0, 10**6),
    poison=st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e-12, 1e12]),
    name=st.sampled_from(["linear", "loglog", "mechanistic", "xgboost"]),
)
@pytest.mark.slow
def test_hidden_values_change_nothing(prepared, protocol, which, poison, name):
    X, y, cells, accelerators = prepared
    rounds = list(turns(protocol, cells, accelerators, 0))
    turn = rounds[which % len(rounds)]
    clean = played(turn, X, y, cells, name)
    hidden = turn.hidden.copy()
    # Cells that the design chose are measured and so may be known; they are among the hidden but not among the scored.
    hidden[np.setdiff1d(np.flatnonzero(turn.scored), clean["row"])] = False
    assert hidden.any()
    poisoned = played(turn, X, np.where(hidden, poison, y), cells, name)
    pd.testing.assert_frame_equal(poisoned, clean)


@pytest.mark.parametrize("name", ["auto", "ala", "gradient-boosting"])
@pytest.mark.slow
def test_hidden_values_change_nothing_for_the_slow_models_either(prepared, name):
    X, y, cells, accelerators = prepared
    turn = next(turns("transfer-2", cells, accelerators, 0))
    clean = played(turn, X, y, cells, name)
    hidden = turn.hidden.copy()
    hidden[np.setdiff1d(np.flatnonzero(turn.scored), clean["row"])] = False
    pd.testing.assert_frame_equal(played(turn, X, np.where(hidden, np.nan, y), cells, name), clean)


def test_a_value_that_may_be_known_does_change_predictions(prepared):
    X, y, cells, accelerators = prepared
    turn = next(turns("interpolate-length", cells, accelerators, 0))
    clean = played(turn, X, y, cells, "loglog")
    seen = played(turn, X, np.where(turn.hidden, y, 3 * y), cells, "loglog")
    np.testing.assert_allclose(seen["value"], 3 * clean["value"])
