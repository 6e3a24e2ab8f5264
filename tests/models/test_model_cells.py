"""What makes a cell and a deployment, repeats, and tables that are refused."""

import numpy as np
import pandas as pd
import pytest

from fewmark.core import ModelError
from fewmark.tables.cells import check_target, read_cells
from fewmark.tables.repeats import median_of_repeats

WORKLOAD = {"input_tokens": 128.0, "output_tokens": 64.0, "batch_size": 4.0, "concurrency": np.nan}


def table(*rows):
    return pd.DataFrame([{"engine": "e", "model": "m", **WORKLOAD, **row} for row in rows])


def test_unknown_equals_unknown_and_differs_from_known():
    cells = read_cells(table({"precision": None}, {"precision": np.nan}, {"precision": "fp8"}))
    assert cells.deployment.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("column", "deployments", "cells"),
    [("option.kv_cache", 2, 2), ("workload.rate", 1, 2), ("note", 1, 1), ("source", 1, 1)],
)
def test_options_make_deployments_and_workload_axes_make_cells(column, deployments, cells):
    read = read_cells(table({column: "a"}, {column: "b"}))
    assert len(set(read.deployment)) == deployments
    assert len(set(read.cell)) == cells


def test_repeats_are_reduced_to_their_median_in_first_order():
    X = table({"batch_size": 8.0}, {}, {"batch_size": 8.0}, {"batch_size": 8.0}, {})
    reduced, y = median_of_repeats(X, [1.0, 10.0, 100.0, 3.0, 20.0])
    assert reduced["batch_size"].tolist() == [8.0, 4.0]
    assert y.tolist() == [3.0, 15.0]


def test_a_batch_and_as_many_users_are_different_loads():
    read = read_cells(table({}, {"batch_size": np.nan, "concurrency": 4.0}))
    assert read.load.tolist() == [4.0, 4.0]
    assert read.online.tolist() == [False, True]
    assert len(set(read.cell)) == 2


def test_pairs_are_ordered_by_their_sum():
    read = read_cells(table({"input_tokens": 512.0}, {"output_tokens": 256.0}, {}))
    assert read.pair.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"input_tokens": 0.0}, "input_tokens"),
        ({"output_tokens": np.inf}, "output_tokens"),
        ({"batch_size": -1.0}, "load"),
        ({"batch_size": np.nan}, "batch_size"),
        ({"concurrency": 2.0}, "concurrency"),
        ({"batch_size": "many"}, "batch_size"),
    ],
)
def test_cells_that_are_none_are_refused_by_row(row, word):
    with pytest.raises(ModelError, match=word):
        read_cells(table({}, row) if not isinstance(row.get("batch_size"), str) else table(row))


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [1.0, 0.0], [1.0, -2.0], [1.0, np.inf]])
def test_targets_that_are_none_are_refused(values):
    with pytest.raises(ModelError):
        check_target(values, 2)
