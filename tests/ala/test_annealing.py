"""The annealing: its errors by hand, its acceptance rule, its log, its chains."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from joblib import parallel_backend

from fewmark.core.errors import FewmarkError, InputError, ModelError
from fewmark.models.ala.annealing.log import join
from fewmark.models.ala.annealing.search import Schedule, anneal, modify, neighbours
from fewmark.models.ala.annealing.subsets import SubsetSpace
from fewmark.models.ala.regressor import AlaRegressor

SHORT = Schedule(n_iterations=60)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("subsets", "error", "state_error", "temperature", "accepted", "outcome", "chain")
    )


def test_a_subsets_error_is_what_the_estimator_makes_on_what_is_left_out(table):
    X, y = table
    space, rng = SubsetSpace(X, y), np.random.default_rng(1)
    for _ in range(6):
        subset = rng.random(space.n_values) < 0.7
        parts = [values[part] for values, part in zip(space.values, space.parts(subset), strict=True)]
        found = space.evaluate(subset)
        train = np.all([np.isin(X[:, j], parts[j]) for j in range(3)], axis=0)
        if found.outcome == "ok":
            predicted = AlaRegressor().fit(X[train], y[train]).predict(X[~train])
            assert found.error == pytest.approx(np.median(np.abs(predicted / y[~train] - 1)) * 100, rel=1e-6)
        assert (found.n_train, found.n_left_out) == (train.sum(), (~train).sum())


def test_deployments_are_trained_apart_and_silence_counts_as_wrong(table, grid):
    X, y = table
    other = grid([4096], [128, 512], [1, 8, 16, 32, 64])
    space = SubsetSpace(np.vstack([X, other]), np.concatenate([y, np.full(len(other), 50.0)]), [0] * 45 + [1] * 10)
    subset = space.subset([128, 512, 2048], [128, 512], [1, 8, 32, 64])
    train, predicted = space.predict(subset)
    alone = AlaRegressor().fit(X[train[:45]], y[train[:45]])
    np.testing.assert_allclose(predicted[:45], alone.predict(X), rtol=1e-5)
    assert np.isnan(predicted[45:]).all()
    truth = np.concatenate([y, np.full(10, 50.0)])
    ape = np.abs(np.nan_to_num(predicted) - truth) / truth
    assert space.evaluate(subset).error == pytest.approx(np.median(ape[~train]) * 100)


@pytest.mark.slow
def test_acceptance_follows_the_rule(table):
    log = anneal(*table, schedule=Schedule(n_iterations=400, temperature=5.0, cooling=0.99), random_state=3)
    before = np.concatenate([[np.inf], log.state_error[:-1]])
    lower = log.error < before
    assert log.accepted[lower].all()
    np.testing.assert_allclose(log.temperature, 5.0 * 0.99 ** np.arange(1, 401))
    np.testing.assert_array_equal(log.state_error[1:], np.where(log.accepted, log.error, before)[1:])
    assert not log.accepted[~np.isfinite(log.error)].any()
    worse = ~lower[1:] & np.isfinite(log.error[1:])
    chance = np.exp((before - log.error)[1:][worse] / log.temperature[1:][worse])
    taken = log.accepted[1:][worse]
    assert abs(taken.sum() - chance.sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())


@pytest.mark.slow
def test_cold_annealing_only_goes_down_and_hot_annealing_takes_everything(table):
    cold = anneal(*table, schedule=Schedule(n_iterations=80, temperature=1e-9))
    assert (np.diff(cold.state_error) <= 0).all()
    hot = anneal(*table, schedule=Schedule(n_iterations=80, temperature=1e9, cooling=1.0))
    assert hot.accepted[hot.known].all()


def test_state_best_never_leaves_the_best(table):
    log = anneal(*table, schedule=Schedule(n_iterations=80, temperature=20.0, state="best"))
    assert (np.diff(log.state_error) <= 0).all()
    assert log.state_error[-1] <= log.error.min()
    assert (log.accepted & (log.error > log.state_error)).any()


@pytest.mark.slow
def test_every_step_changes_one_element_and_empties_no_set(table):
    log = anneal(*table, schedule=Schedule(n_iterations=200, temperature=1e9, cooling=1.0))
    known = log.known[:-1]
    assert (np.abs(np.diff(log.subsets.astype(int), axis=0)).sum(axis=1)[known] == 1).all()
    assert all(all(len(part) for part in log.sets(i)) for i in range(len(log)))


def test_neighbours_are_all_that_a_modification_reaches():
    state, bounds = np.array([1, 0, 1, 1, 0, 1], bool), np.array([0, 2, 4, 6])
    rng = np.random.default_rng(0)
    reached = {modify(state, bounds, rng).tobytes() for _ in range(500)}
    assert reached == {n.tobytes() for n in neighbours(state, bounds)}


@pytest.mark.slow
def test_same_seed_same_log_whatever_the_jobs_and_chains(table):
    alone = anneal(*table, schedule=SHORT, n_chains=3, random_state=5)
    assert same(alone, anneal(*table, schedule=SHORT, n_chains=3, random_state=5))
    assert same(alone, anneal(*table, schedule=SHORT, n_chains=3, random_state=5, n_jobs=2, backend="threading"))
    assert same(alone, anneal(*table, schedule=SHORT, n_chains=3, random_state=5, n_jobs=2, backend="loky"))
    first = anneal(*table, schedule=SHORT, n_chains=1, random_state=5)
    np.testing.assert_array_equal(first.error, alone.error[alone.chain == 0])
    assert not np.array_equal(first.error, anneal(*table, schedule=SHORT, random_state=6).error)


@pytest.mark.slow
def test_another_backend_is_passed_through_to_joblib(table, monkeypatch):
    with parallel_backend("threading", n_jobs=2):
        log = anneal(*table, schedule=SHORT, n_chains=2, n_jobs=2, backend="multiprocessing")
    assert same(log, anneal(*table, schedule=SHORT, n_chains=2))
    with pytest.raises(InputError, match="knows no such backend"):
        anneal(*table, schedule=SHORT, n_chains=2, n_jobs=2, backend="nobodys")
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)  # as where Ray is not installed
    with pytest.raises(InputError, match="not installed"):
        anneal(*table, schedule=SHORT, n_chains=2, n_jobs=2, backend="ray")


def test_any_scorer_by_function_or_name(table):
    X, y = table
    space = SubsetSpace(X, y, scoring=lambda truth, value: float(np.max(np.abs(value / truth - 1))))
    subset = space.subset([128, 2048], [128, 512], [1, 16, 64])
    train, predicted = space.predict(subset)
    assert space.evaluate(subset).error == pytest.approx(np.abs(predicted / y - 1)[~train].max())
    named = SubsetSpace(X, y, scoring="neg_mean_absolute_error").evaluate(subset).error
    assert named == pytest.approx(np.abs(predicted - y)[~train].mean())
    with pytest.raises(InputError, match="unknown scoring"):
        SubsetSpace(X, y, scoring="nonsense")


def test_repeated_rows_change_nothing_where_curves_are_determined(table):
    X, y = table
    once, twice = SubsetSpace(X, y), SubsetSpace(np.tile(X, (2, 1)), np.tile(y, 2))
    for bb in ([1, 16, 64], [1, 8, 16, 32], [8, 32, 64]):
        subset = once.subset([128, 2048], [128, 512], bb)
        assert twice.evaluate(subset).error == pytest.approx(once.evaluate(subset).error, rel=1e-6)


def test_an_empty_complement_has_no_error_and_is_never_accepted(table):
    space = SubsetSpace(*table)
    everything = space.evaluate(np.ones(space.n_values, bool))
    assert (everything.error, everything.outcome) == (np.inf, "nothing-left-out")
    with pytest.raises(ModelError, match="nothing-left-out"):
        anneal(*table, initial=space.values)


def test_fits_that_do_not_converge_leave_no_error(grid):
    X = grid([128, 512], [128], [1, 2, 4, 8])
    space = SubsetSpace(X, 10 + X[:, 2] ** 2)
    assert space.evaluate(space.subset([128], [128], [1, 2, 4])).outcome == "no-fit-converged"
    assert space.evaluate(space.subset([128], [128], [1, 2])).outcome == "ok"


def test_one_batch_and_one_pair_cannot_be_annealed(grid):
    X = grid([128], [128], [8])
    with pytest.raises(ModelError, match="two batch sizes or two"):
        anneal(X, np.array([5.0]))


@pytest.mark.parametrize(("ii", "bb"), [([128, 256, 512], [16]), ([128], [1, 8, 16, 64])], ids=["batch", "pair"])
def test_one_batch_or_one_pair_is_enough(grid, curve, ii, bb):
    X = grid(ii, [128], bb)
    log = anneal(X, curve(X), schedule=SHORT)
    assert log.known.any()
    assert len(log) == 60


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": np.zeros(45)}, "above 0"),
        ({"y": np.full(45, np.nan)}, "above 0"),
        ({"X": np.full((45, 3), np.inf)}, "finite"),
        ({"X": np.ones((45, 2))}, "columns ii, oo, bb"),
        ({"deployment": [0, 1]}, "one entry a row"),
        ({"initial": ([128], [128], [999])}, "only values that the data have"),
        ({"n_chains": 0}, "n_chains"),
        ({"fitting": "best"}, "fitting"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(table, change, says):
    X, y = table
    with pytest.raises(FewmarkError, match=says):
        anneal(**({"X": X, "y": y, "schedule": SHORT} | change))


@pytest.mark.parametrize(
    "wrong", [{"n_iterations": 0}, {"temperature": 0.0}, {"cooling": 1.5}, {"state": "x"}, {"n_changes": 0}], ids=str
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError):
        Schedule(**wrong)


@pytest.mark.slow
def test_the_log_reads_as_a_table_and_joins(table, grid, curve):
    log = anneal(*table, schedule=SHORT, n_chains=2)
    frame = log.to_frame()
    assert frame["iteration"].tolist() == [*range(1, 61)] * 2
    ii = [float(v) for v in frame["input_tokens"][log.best].split()]
    assert ii == log.sets(log.best)[0].tolist()
    other = grid([1, 2], [3], [1, 2, 3])
    with pytest.raises(InputError, match="different datasets"):
        join([log, anneal(other, curve(other), schedule=SHORT)])
