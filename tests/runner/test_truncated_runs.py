"""Generations cut short, projected, validated, resumed and measured in full, as a person meets them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import InputError, Measurement
from fewmark.interop import from_measurements
from fewmark.interop.table.measurements import to_measurements
from fewmark.screening import apply, screen
from fewmark.store import open_store
from fewmark.verbs.run import run, truncation

SUITE = """
deployments: [{engine: dummy, model: toy, engine_options: {growth: 0.001, journal: JOURNAL}}]
cells: [{grid: {input_tokens: [64, 256, 1024], output_tokens: [16, 512], batch_size: [1, 2, 4]}}]
settings: {min_repeats: 3, max_repeats: 3, warmup: 0, truncate: {output_tokens: 32, validate_cells: 3}}
"""


@pytest.fixture
def suite(tmp_path, monkeypatch, plugin):
    monkeypatch.chdir(tmp_path)
    path = Path("suite.yaml")
    path.write_text(SUITE.replace("JOURNAL", str(tmp_path / "journal")))
    return path


def stored() -> list[Measurement]:
    with open_store("s.db") as store:
        return list(store.measurements())


def latest_of(measurements: list[Measurement]) -> list[Measurement]:
    """What holds of each case and kind, without checks for drift."""
    return list({(m.case.case_id, m.provenance): m for m in measurements if "drift-check" not in m.flags}.values())


def test_long_generations_are_cut_short_projected_and_validated_by_a_few_full_ones(suite, capsys):
    assert main(["run", str(suite), "--store", "s.db"]) == 0
    assert "projected against full measurements of 3 cells: median error" in capsys.readouterr().err
    runs = [int(line.split()[1]) for line in Path("journal").read_text().splitlines() if line.startswith("run")]
    assert sorted(set(runs)) == [16, 32, 512] and runs.count(512) == 3 * 3
    projected = [m for m in latest_of(stored()) if m.provenance == "projected"]
    assert len(projected) == 9 and all(m.case.workload.output_tokens == 512 for m in projected)
    for measurement in projected:
        ii, load = measurement.case.workload.input_tokens, measurement.case.workload.load
        whole = sum(0.001 * load * (1 + 0.001 * (ii + i)) for i in range(512))
        low, high = measurement.interval("e2e_latency_s")
        assert measurement.median("e2e_latency_s") == pytest.approx(whole, rel=0.03) and low < whole < high
        assert measurement.median("throughput_tok_s") == pytest.approx(load * 512 / whole, rel=0.03)
        assert measurement.samples[0].output_tokens == 32


@pytest.mark.slow
def test_the_table_tells_what_was_projected_and_a_full_measurement_takes_its_place(suite):
    run(suite, store="s.db", drift_check=False, quiet=True)
    with open_store("s.db") as store:
        table = pd.DataFrame(store.table())
    projected = table[table["provenance"] == "projected"]
    assert set(projected["generated_tokens"]) == {32.0} and set(projected["projection_rule"]) == {"growth"}
    assert (projected["e2e_latency_s_low"] < projected["e2e_latency_s"]).all()
    assert projected["throughput_tok_s"].notna().all()
    seen = apply(table, screen(table))
    assert len(table) >= 21 and len(seen) == 18 and (seen["provenance"] == "projected").sum() == 6


@pytest.mark.slow
def test_what_was_projected_early_is_projected_anew_when_all_is_known(suite):
    report = run(suite, store="s.db", drift_check=False, quiet=True)
    latest, first = {}, {}
    for measurement in stored():
        if measurement.provenance == "projected":
            first.setdefault(measurement.case.case_id, measurement)
            latest[measurement.case.case_id] = measurement
    anew = [key for key in latest if "projected-anew" in latest[key].flags]
    assert anew
    for key in anew:
        assert latest[key].samples == first[key].samples and latest[key].cost.wall_s is None
    pairs = {m.case.case_id for m in stored() if m.provenance == "measured"} & set(first)
    spent_s = sum(first[key].cost.wall_s for key in pairs)  # also where it was projected again, at no further cost
    assert report.validation.projected_s == pytest.approx(spent_s) and spent_s > 0
    with open_store("s.db") as store:
        table = pd.DataFrame(store.table())
    seen = apply(table, screen(table))
    seen = seen[seen["provenance"] == "projected"].set_index("case_id")
    assert seen.index.is_unique
    for key, row in seen.iterrows():
        assert row["e2e_latency_s"] == latest[key].median("e2e_latency_s")


@pytest.mark.slow
def test_projections_survive_store_and_table(suite):
    run(suite, store="s.db", quiet=True)
    before = stored()
    with open_store("copy.db") as copy:
        copy.add(before)
        assert list(copy.measurements()) == before
    table = from_measurements(before)
    back = list(to_measurements(table))
    for old, new in zip(before, back, strict=True):
        assert (new.provenance, new.case) == (old.provenance, old.case)
        assert new.interval("throughput_tok_s") == pytest.approx(old.interval("throughput_tok_s"))
        assert new.median("throughput_tok_s") == pytest.approx(old.median("throughput_tok_s"))


def test_what_is_projected_is_done_until_it_is_asked_for_in_full(suite, capsys):
    assert run(suite, store="s.db", quiet=True).n_left == 0
    assert not run(suite, store="s.db", quiet=True).measurements
    report = run(suite, store="s.db", full=True, quiet=True)
    assert len(report.measurements) == 6 and {m.provenance for m in report.measurements} == {"measured"}
    assert report.validation.n_pairs == 9 and report.validation.coverage == 1
    assert report.validation.median_error < 0.01
    assert not run(suite, store="s.db", full=True, quiet=True).measurements


@pytest.mark.slow
def test_auto_generates_as_few_tokens_as_the_error_allows(suite):
    run(suite, store="s.db", truncate="auto", quiet=True)
    lengths = {m.samples[0].output_tokens for m in stored() if m.provenance == "projected"}
    assert lengths and max(lengths) < 512


def test_the_published_rule_is_there_and_knows_no_error(suite):
    suite.write_text(suite.read_text().replace("validate_cells: 3", "validate_cells: 1, rule: flexllmgen"))
    report = run(suite, store="s.db", quiet=True)
    assert report.validation.n_pairs == 1 and report.validation.coverage is None
    assert report.validation.median_error > 0.05  # a step grows, which the rule does not know
    assert json.dumps(report.to_dict())


def test_only_the_cells_that_a_condition_names(suite):
    suite.write_text(suite.read_text().replace("validate_cells: 3", "validate_cells: 0, only: [{batch_size: {gt: 1}}]"))
    run(suite, store="s.db", quiet=True)
    assert {m.case.workload.batch_size for m in stored() if m.provenance == "projected"} == {2, 4}


def test_wrong_lengths_are_refused(suite, capsys):
    for wrong in ("1", "some", "0.5", "-3"):
        assert main(["run", str(suite), "--store", "s.db", "--truncate", wrong]) == 2
        assert "error" in capsys.readouterr().err.lower()
    with pytest.raises(InputError):
        run(suite, store="s.db", truncate="1", quiet=True)
    suite.write_text(suite.read_text().replace("output_tokens: 32", "output_tokens: 1"))
    assert main(["run", str(suite), "--store", "s.db"]) == 2


def test_a_suite_without_it_is_measured_whole():
    from fewmark.suites import load_suite

    assert truncation(load_suite("fmwork-tiny")) is None
    held = truncation(load_suite("flexllmgen"))
    assert held is not None and held.output_tokens == 5 and held.only is not None


def test_checks_in_full_never_cost_more_than_they_save(suite):
    few = suite.read_text().replace("[64, 256, 1024]", "[64, 256]").replace("[16, 512]", "512")
    suite.write_text(few.replace("batch_size: [1, 2, 4]", "batch_size: 1"))
    run(suite, store="s.db", drift_check=False, quiet=True)
    assert [m.provenance for m in latest_of(stored())] == ["projected", "projected"]
    assert all(m.interval("e2e_latency_s") is not None for m in stored())
