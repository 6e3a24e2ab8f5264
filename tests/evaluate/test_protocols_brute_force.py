"""The protocols once more, row by row in plain Python from their definitions, against what evaluate does.

What the definitions leave to chance (which fold a deployment falls into, which cells are the random 75%) is read off
the outcome and only checked for being legal; everything else must agree exactly.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from fewmark.core import ModelError
from fewmark.evaluation import PROTOCOLS, evaluate
from fewmark.models.base import Model

DEPLOYMENT = ("engine", "model", "precision", "accelerator")


class Spy(Model):
    """Writes down what it is shown and asked; answers with the geometric mean of what it knows."""

    name = "spy"
    pools_deployments = True

    def __init__(self, log, **parameters):
        super().__init__(**parameters)
        self.log = log

    def fit(self, X, y):
        self.known = dict(zip(keys(X), y, strict=True))
        self.value = float(np.exp(np.log(y).mean()))
        return self

    def predict(self, X):
        self.log.append((self.known, keys(X), dict.fromkeys(keys(X), self.value)))
        return np.full(len(X), self.value)

    def predict_interval(self, X, confidence_level=0.9):
        assert confidence_level == 0.9
        return np.c_[np.full(len(X), self.value / 4), np.full(len(X), self.value * 4)]

    def provenance(self, X):
        return np.full(len(X), "transferred")

    def similarity(self, X):
        return np.zeros(len(X))

    def abstentions(self, X):
        return [""] * len(X)

    def forecast_error(self, X):
        return 0.25

    def design(self, X, n_cells):
        """The first cells of each deployment by length, then load."""
        assert "throughput_tok_s" not in X
        chosen = []
        for deployment in dict.fromkeys(key[0] for key in keys(X)):
            own = [(key[1:], row) for row, key in enumerate(keys(X)) if key[0] == deployment]
            chosen += [row for _, row in sorted(own)[:n_cells]]
        return np.array(chosen, np.intp)

    def to_state(self):
        return {}, {}

    @classmethod
    def from_state(cls, state, arrays):
        raise NotImplementedError


def keys(X):
    """Each row's cell: (deployment, input, output, load)."""
    out = []
    for row in X.to_dict("records"):
        deployment = tuple(None if pd.isna(row[name]) else row[name] for name in DEPLOYMENT)
        out.append((deployment, row["input_tokens"], row["output_tokens"], row["batch_size"]))
    return out


def medians(table):
    values = defaultdict(list)
    for key, value in zip(keys(table), table["throughput_tok_s"], strict=True):
        values[key].append(value)
    return {key: statistics.median(found) for key, found in values.items()}


def eligible(cells):
    out = []
    for deployment in dict.fromkeys(key[0] for key in cells):
        own = [key for key in cells if key[0] == deployment]
        if len(own) >= 16 and len({key[1:3] for key in own}) >= 4 and len({key[3] for key in own}) >= 4:
            out.append(deployment)
    return out


def in_order(pairs):
    return sorted(pairs, key=lambda pair: (pair[0] + pair[1], pair[0]))


def turns_of_a_deployment(protocol, own):
    """The sets of cells that are scored in a deployment, one for each turn that concerns it."""
    pairs = in_order({key[1:3] for key in own})
    if protocol == "interpolate-length":
        return [{key for key in own if key[1:3] == pair} for pair in pairs[1:-1]]
    if protocol == "extrapolate-length":
        return [{key for key in own if key[1:3] == pair} for pair in (pairs[0], pairs[-1])]
    if protocol == "extrapolate-batch":
        largest = max(key[3] for key in own)
        return [{key for key in own if key[3] == largest}]
    k = int(protocol.rsplit("-", 1)[1])
    return [set(own) - set(sorted(own)[:k])]


def run(table, protocol, seed=0):
    log = []
    done = evaluate(table, protocol, ["spy"], random_state=seed, make=lambda name, **parameters: Spy(log, **parameters))
    return done, log


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "sparse-25"])
def test_exactly_the_defined_cells_are_hidden_and_scored(table, protocol):
    cells = medians(table)
    chosen = eligible(cells)
    assert 5 < len(chosen) < len({key[0] for key in cells})
    done, log = run(table, protocol)
    expected = {d: turns_of_a_deployment(protocol, [key for key in cells if key[0] == d]) for d in chosen}
    seen = defaultdict(list)
    for known, asked, _ in log:
        assert len(set(asked)) == len(asked)
        for deployment in {key[0] for key in asked}:
            seen[deployment].append({key for key in asked if key[0] == deployment})
        members = {key[0] for key in asked}
        if protocol.startswith("new-accelerator"):
            accelerators = {deployment[3] for deployment in members}
            assert len(accelerators) == 1
            assert members == {d for d in chosen if d[3] in accelerators}
            strangers = {key for key in cells if key[0][3] in accelerators and key[0] not in chosen}
            assert strangers and not strangers & set(known)
            hidden = set(asked) | strangers
        else:
            hidden = set(asked)
        # Everything else may be used, by its median.
        assert set(known) == set(cells) - hidden
        assert known == {key: pytest.approx(cells[key]) for key in known}
    assert set(seen) == set(chosen)
    for deployment in chosen:
        assert sorted(map(sorted, seen[deployment])) == sorted(map(sorted, expected[deployment]))
    assert done.summary["n_deployments"] == len(chosen)
    assert done.summary["n_cells"] == len(cells)
    assert done.summary["models"]["spy"]["n"] == sum(len(turn) for turns in expected.values() for turn in turns)


def test_sparse_hides_a_random_three_quarters_of_every_deployment(table):
    cells = medians(table)
    _, log = run(table, "sparse-25")
    asked = [key for _, keys_, _ in log for key in keys_]
    assert len(set(asked)) == len(asked)
    for deployment in eligible(cells):
        own = [key for key in cells if key[0] == deployment]
        assert sum(key[0] == deployment for key in asked) == round(0.75 * len(own))
    for known, keys_, _ in log:
        assert set(known) == set(cells) - set(keys_)
    other = {key for _, keys_, _ in run(table, "sparse-25", seed=1)[1] for key in keys_}
    assert other != set(asked)


@pytest.mark.parametrize("protocol", ["extrapolate-batch", "transfer-1"])
def test_deployments_are_dealt_into_five_folds_of_like_size(table, protocol):
    folds = [{key[0] for key in asked} for _, asked, _ in run(table, protocol)[1]]
    sizes = [len(fold) for fold in folds]
    assert len(folds) == 5
    assert max(sizes) - min(sizes) <= 1
    assert len(set().union(*folds)) == sum(sizes)
    assert folds == [{key[0] for key in asked} for _, asked, _ in run(table, protocol)[1]]
    assert folds != [{key[0] for key in asked} for _, asked, _ in run(table, protocol, seed=1)[1]]


@pytest.mark.parametrize("protocol", ["interpolate-length", "sparse-25", "transfer-2", "new-accelerator-4"])
def test_the_scores_are_those_of_the_definitions(table, protocol):
    cells = medians(table)
    done, log = run(table, protocol)
    ape, inside, by_deployment = [], [], defaultdict(list)
    for _, asked, answer in log:
        for key in asked:
            error = abs(answer[key] - cells[key]) / cells[key]
            ape.append(error)
            by_deployment[key[0]].append(error)
            inside.append(answer[key] / 4 <= cells[key] <= answer[key] * 4)
    found = done.summary["models"]["spy"]
    assert found["median_ape"] == pytest.approx(statistics.median(ape))
    assert found["mape"] == pytest.approx(statistics.fmean(ape))
    assert found["p90_ape"] == pytest.approx(np.percentile(ape, 90))
    assert found["picp_90"] == pytest.approx(statistics.fmean(inside))
    assert found["median_relative_width_90"] == pytest.approx(4 - 1 / 4)
    assert found["abstained"] == 0
    gaps = [abs(0.25 - statistics.median(errors)) for errors in by_deployment.values()]
    assert found["forecast_mae"] == pytest.approx(statistics.fmean(gaps))
    shares = found["by_accelerator"]
    assert set(shares) == {"a", "b", "unknown"}
    assert sum(part["n"] for part in shares.values()) == found["n"] == len(ape)
    assert done.summary["protocol"] == protocol
    assert list(done.summary) == ["protocol", "target", "seed", "n_deployments", "n_cells", "models"]


@pytest.mark.parametrize(
    "design", [[0, 0], [0], [0, 10**6], [-1, 1], [0, 1, 2]], ids=["twice", "few", "beyond", "negative", "many"]
)
def test_a_design_that_cheats_is_refused(table, design):
    class Cheat(Spy):
        def design(self, X, n_cells):
            return np.array(design)

    with pytest.raises(ModelError, match="design"):
        evaluate(table, "transfer-2", ["spy"], make=lambda name, **parameters: Cheat([], **parameters))
