"""The reproduction: its rules, and the whole of it run small from data to page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewmark.cli import main
from fewmark.core.errors import InputError
from fewmark.datasets import load
from fewmark.evaluation.reproduction import deployments, effectiveness, uncertainty
from fewmark.evaluation.reproduction.claims import judge, resample
from fewmark.evaluation.reproduction.training_sets import DESIGNS
from fewmark.verbs import reproduce as verb


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (1.0, "confirmed"),
        (0.95, "confirmed"),
        (0.94, "cannot be told"),
        (0.06, "cannot be told"),
        (0.0, "not confirmed"),
    ],
)
def test_verdicts_follow_the_share_in_which_a_claim_holds(share, verdict):
    assert judge("claim", "found", share).verdict == verdict


def test_resampling_draws_units_with_replacement():
    rng = np.random.default_rng(0)
    assert resample([1, 2, 3], lambda units: sum(units) > 0, rng) == 1.0
    share = resample([0, 1], lambda units: sum(units) == 1, rng)
    assert 0.4 < share < 0.6


def test_designs_train_on_as_many_cells_and_differ_only_in_where():
    pair, batch = (axis.ravel() for axis in np.meshgrid(np.arange(5), np.arange(4)))
    for design in DESIGNS.values():
        assert design(pair, batch, np.random.default_rng(1)).sum() == 12


@pytest.mark.slow
def test_the_whole_reproduction_small(tmp_path, monkeypatch):
    whole = load("llm-inference-bench", screened=True)
    few = ["Meta-Llama-3-8B", "Llama-2-7b", "Mistral-7B", "Qwen2-7B"]
    kept = whole["model"].str.contains("|".join(few)) & (whole["accelerator_count"] == 1) & (whole["engine"] == "vLLM")
    table = whole[kept]
    table.attrs = whole.attrs
    monkeypatch.setattr("fewmark.datasets.load", lambda name, screened: table)
    monkeypatch.setattr(effectiveness, "_SUBSETS", 2)
    monkeypatch.setattr(effectiveness, "_LONG", 3)
    monkeypatch.setattr(uncertainty, "_SEEDS", 1)
    questions = verb.reproduce("ala", tmp_path / "out", jobs=1)
    assert [question.name for question in questions] == ["rq1", "rq2", "rq3", "rq4"]
    page = (tmp_path / "out" / "ala.md").read_text(encoding="utf-8")
    for name in ("rq1", "rq2", "rq3", "rq4"):
        assert f"(ala-{name}.svg)" in page
        assert (tmp_path / "out" / f"ala-{name}.svg").stat().st_size > 5000
        assert (tmp_path / "out" / f"ala-{name}.png").stat().st_size > 5000
    written = json.loads((tmp_path / "out" / "ala.json").read_text(encoding="utf-8"))
    claims = [claim for question in written for claim in question["claims"]]
    assert all(f"**{claim['verdict']}**" in page and claim["found"] in page for claim in claims)


def test_families_go_by_name():
    names = ["meta-llama/Meta-Llama-3-8B", "mistralai/Mixtral-8x7B", "Qwen/Qwen2-72B", "bigscience/bloom-7b1"]
    assert [deployments.family(name) for name in names] == ["Llama", "Mixtral", "Qwen", "other"]


def test_an_unknown_paper_or_a_table_without_grids_is_refused(tmp_path, capsys):
    assert main(["reproduce", "vidur", "--out", str(tmp_path)]) == 2
    assert "ala" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such paper"):
        verb.reproduce("vidur", tmp_path)
    with pytest.raises(InputError, match="16 cells"):
        deployments.read_deployments(load("llm-inference-bench").head(10))
