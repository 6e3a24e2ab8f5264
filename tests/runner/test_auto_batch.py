"""A batch size left open: the tier, the doubling, the two rules, and what is learnt from running out of memory."""

import json

import pytest

from fewmark.core import Case, Deployment, InputError, Measurement, Sample, Status, Workload
from fewmark.runner.auto_batch import auto_batch
from fewmark.suites import load_suite
from fewmark.verbs.run import run


def machine(holds, peak):
    """A system whose tiers hold so many sequences, and whose throughput rises up to a batch of `peak`."""
    asked = []

    def measure(cases):
        for case in cases:
            asked.append((case.deployment.placement, case.workload.batch_size))
            batch = case.workload.batch_size
            if batch > holds[case.deployment.placement]:
                yield Measurement(case, Status.OUT_OF_MEMORY, error="weights + cache exceed what is free")
            else:
                rate = 100.0 * min(batch, peak)
                latency_s = batch * case.workload.output_tokens / rate
                yield Measurement(case, samples=(Sample(e2e_latency_s=latency_s, output_tokens=8),))

    return measure, asked


def case(placement="auto"):
    return Case(Deployment("e", "m", placement=placement), Workload(64, 8, batch_size=1))


@pytest.mark.parametrize(
    ("holds", "peak", "rule", "chosen"),
    [
        ({"accelerator": 100, "cpu": 999, "disk": 9999}, 8, "throughput", ("accelerator", 8)),
        ({"accelerator": 100, "cpu": 999, "disk": 9999}, 8, "largest", ("accelerator", 64)),
        ({"accelerator": 0, "cpu": 5, "disk": 9999}, 99, "throughput", ("cpu", 4)),
        ({"accelerator": 0, "cpu": 0, "disk": 3}, 1, "largest", ("disk", 2)),
    ],
)
def test_the_lowest_tier_that_holds_one_sequence_and_the_batch_that_the_rule_prefers(holds, peak, rule, chosen):
    measure, _ = machine(holds, peak)
    (found,) = auto_batch([case()], measure, rule=rule)
    won = found.chosen.case
    assert (won.deployment.placement, won.workload.batch_size) == chosen


def test_what_ran_out_of_memory_before_is_not_tried_again_nor_anything_larger():
    measure, asked = machine({"cpu": 4}, 99)
    (first,) = auto_batch([case("cpu")], measure)
    assert [m.case.workload.batch_size for m in first.tried] == [1, 2, 4, 8] and "does not fit" in first.reason
    asked.clear()
    longer = Case(case("cpu").deployment, Workload(65, 8, batch_size=1))
    (again, more) = auto_batch([case("cpu"), longer], measure, first.tried)
    assert again.chosen == first.chosen
    assert asked == [("cpu", 1), ("cpu", 2), ("cpu", 4)] and more.chosen.case.workload.batch_size == 4


def test_one_disturbed_measurement_does_not_end_the_search():
    rates = {1: 100.0, 2: 90.0, 4: 300.0, 8: 301.0, 16: 299.0, 32: 900.0}

    def measure(cases):
        for asked in cases:
            latency_s = asked.workload.batch_size * 8 / rates[asked.workload.batch_size]
            yield Measurement(asked, samples=(Sample(e2e_latency_s=latency_s, output_tokens=8),))

    (found,) = auto_batch([case("cpu")], measure)
    assert found.chosen.case.workload.batch_size == 8 and [m.case.workload.batch_size for m in found.tried][-1] == 16


def test_nothing_fits_anywhere():
    measure, _ = machine({"accelerator": 0, "cpu": 0, "disk": 0}, 1)
    (found,) = auto_batch([case()], measure)
    assert found.chosen is None and "does not fit" in found.reason and len(found.tried) == 3


@pytest.mark.parametrize("wrong", [{"rule": "luck"}, {"max_batch": 0}])
def test_a_wrong_request_is_refused(wrong):
    with pytest.raises(InputError):
        auto_batch([case()], machine({}, 1)[0], **wrong)


def test_a_suite_that_leaves_the_batch_open_is_run_and_every_try_is_stored(plugin, tmp_path, store):
    (tmp_path / "open.yaml").write_text(
        "deployments: [{engine: dummy, model: m}]\n"
        "cells: [{grid: {input_tokens: 4, output_tokens: 4, batch_size: [auto, 2]}}]\n"
        "settings: {min_repeats: 1, max_repeats: 1, auto_batch: {rule: largest, max_batch: 4}}\n"
    )
    suite = load_suite(tmp_path / "open.yaml")
    assert len(suite.cases) == len(suite.auto) == 1
    report = run(suite, store=store.url, quiet=True)
    (found,) = json.loads(json.dumps(report.to_dict()))["auto_batch"]
    assert report.ok and found["batch_size"] == 4 and len(found["tried"]) == 3
    assert sorted(m.case.workload.batch_size for m in store.measurements()) == [1, 2, 4]
