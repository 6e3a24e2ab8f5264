"""What is retracted is marked with the reason, taught to no model, measured again, and never deleted."""

import pandas as pd
import pytest

from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Workload
from fewmark.interop import from_measurements
from fewmark.store import open_store
from fewmark.verbs.retract import retract
from fewmark.verbs.source import read_source


@pytest.fixture
def url(tmp_path):
    cases = [Case(Deployment("e", "m"), Workload(8, 4, batch_size=b)) for b in (1, 2, 4)]
    with open_store(tmp_path / "store.db") as store:
        store.add(Measurement(case, samples=(Sample(e2e_latency_s=1.0 + n),)) for n, case in enumerate(cases))
    return str(tmp_path / "store.db"), cases


def test_a_retracted_case_is_kept_and_not_believed(url):
    url, cases = url
    done = retract(cases[1].case_id[:8], why="the fan was broken", store=url)
    assert (len(done.measurement_ids), done.n_new) == (1, 1)
    assert retract(cases[1].case_id, why="the fan was broken", store=url).n_new == 0
    assert retract(cases[1].case_id, why="the fan was loud", store=url).n_new == 0  # retracted it was already
    assert retract(cases[0].case_id, store=url, undo=True).n_new == 0  # and this one never
    table = read_source(store=url)
    assert sorted(table["batch_size"]) == [1, 4]
    with open_store(url) as store:
        assert store.count() == 3
        assert store.case_ids() == {cases[0].case_id, cases[2].case_id}  # the next run measures it again
        assert [m.case for m in store.measurements(withdrawn=False)] == [cases[0], cases[2]]
        flags = from_measurements(store.measurements(), store.withdrawn()).set_index("batch_size")["flag"]
        assert flags[2] == "retracted" and pd.isna(flags[1])
        assert [a.reason for a in store.annotations() if a.rule == "retracted"] == ["the fan was loud"]


def test_a_newer_mark_believes_it_again(url):
    url, cases = url
    measurement_id = retract(cases[0].case_id, why="wrong", store=url).measurement_ids[0]
    assert retract(measurement_id, store=url, undo=True).n_new == 1
    assert retract(measurement_id, store=url, undo=True).n_new == 0
    assert len(read_source(store=url)) == 3
    with open_store(url) as store:
        assert store.withdrawn() == {} and len(store.annotations(history=True)) == 2


@pytest.mark.parametrize(("case", "why"), [("abc", "x"), ("%", "x"), ("0" * 24, "x"), ("zzzzzzzz", "x")])
def test_what_cannot_be_retracted(url, case, why):
    with pytest.raises(InputError) as error:
        retract(case, why=why, store=url[0])
    assert "fewmark show" in error.value.hint
    with pytest.raises(InputError, match="say why"):
        retract(url[1][0].case_id, why=" ", store=url[0])
