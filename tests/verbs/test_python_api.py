"""The Python API and the command line say the same things by the same names, and results can be read."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pandas as pd
import pytest

import fewmark
from fewmark.cli import main
from fewmark.core import InputError
from fewmark.decide.slo import Objective, parse_objectives


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"engine": "vllm", "model": "llama-3.1-8b", "accelerator": a, "accelerator_count": 1.0,
             "input_tokens": float(n), "output_tokens": 64.0, "batch_size": float(b), "status": "ok",
             "throughput_tok_s": scale * 100 * b / (1 + 0.02 * b + n / 4000)}
            for a, scale in (("H100", 1.0), ("A100", 0.5)) for n in (128, 512, 1024) for b in (1, 4, 16, 64)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in fewmark.__all__ if callable(getattr(fewmark, name))])
def test_parameters_have_one_name_each(name: str) -> None:
    parameters = inspect.signature(getattr(fewmark, name)).parameters
    assert not {"seed", "level", "confidence", "slos"} & set(parameters)


@pytest.mark.parametrize("verb", ["predict", "report", "compare"])
def test_percent_is_told_as_a_fraction(
    verb: str, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "t.csv")
    table.to_csv(path, index=False)
    first = {
        "predict": ["--data", path, "--cases", path],
        "report": [str(tmp_path / "r.html"), "--data", path],
        "compare": [path, path],
    }[verb]
    assert main([verb, *first, "--confidence-level", "90"]) == 2
    assert "0.9 is 90%" in capsys.readouterr().err


def test_objectives_are_texts_or_a_mapping() -> None:
    wanted = [Objective("ttft_s", 0.5), Objective("tpot_s", 0.04)]
    assert parse_objectives({"ttft_s": 0.5, "tpot_s": 0.04}) == wanted
    assert parse_objectives(["ttft_s=0.5", "tpot_s=0.04"]) == wanted
    assert parse_objectives("ttft_s=0.5") == wanted[:1]
    for wrong in ({"ttft": 0.5}, {"ttft_s": -1.0}, {"ttft_s": "soon"}):
        with pytest.raises(InputError):
            parse_objectives(wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_results_can_be_read(table: pd.DataFrame) -> None:
    plan = fewmark.plan(table, data=table.iloc[::3], model="mechanistic", ask=2, prior=False)
    cells, planner = plan
    assert plan.cells is cells and len(cells) == 2
    assert repr(plan).startswith("Plan: 2 cells to measure next") and "24 cells, 8 measured" in repr(planner)
    assert len(json.loads(json.dumps(plan.to_dict()))["cells"]) == 2
    answer = fewmark.recommend({"throughput_tok_s": 200}, data=table, model="mechanistic")
    assert repr(answer).startswith("Answer: llama-3.1-8b · vllm on H100, batch ")
    account = fewmark.assess_plan(table, data=table.iloc[::3], model="none")
    assert repr(account).startswith("PlanAccount: 8 of 24 cells")
    replayed = fewmark.assess_strategies(table, strategies=["random"], model="none")
    assert "random: " in repr(replayed) and "2 deployments" in repr(replayed)
    same = fewmark.compare(table, table.assign(throughput_tok_s=table["throughput_tok_s"] * 1.01))
    assert "PASS" in repr(same) or "INCONCLUSIVE" in repr(same)
    assert repr(fewmark.screen("llm-pilot")).startswith("Screened llm-pilot: ")
    assert all(len(repr(suite)) < 200 and suite.name in repr(suite) for suite in fewmark.list_suites())


@pytest.mark.slow
def test_json_is_printed_and_nothing_else(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = str(tmp_path / "t.csv"), str(tmp_path / "out.json")
    table.to_csv(path, index=False)
    commands = [
        ["predict", "--data", path, "--cases", path, "--model", "mechanistic"],
        ["evaluate", "--data", path, "--protocol", "sparse-25", "--model", "loglog"],
        ["screen", "--data", path],
        ["assess", "--data", path, "--space", path, "--model", "none"],
    ]
    for command in commands:
        assert main([*command, "--json"]) in (0, 1), command
        printed = json.loads(capsys.readouterr().out)
        assert isinstance(printed, (list, dict)), command
        if command[0] in ("screen", "assess"):
            assert main([*command, "--json", out]) == 0
            assert set(json.loads(Path(out).read_text())) == set(printed)
            assert not capsys.readouterr().out.lstrip().startswith("{")


@pytest.mark.slow
def test_screen_and_report_take_rows_and_columns_in_memory(tmp_path: Path) -> None:
    rows = [
        {"engine": "e", "model": "m", "input_tokens": 8, "output_tokens": 4, "batch_size": load, "e2e_latency_s": load}
        for load in (1, 2, 4)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert fewmark.screen(rows).n_rows == fewmark.screen(columns).n_rows == 3
    cards = fewmark.report(tmp_path / "r.md", data=rows, model="loglog")
    assert "the table" in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert cards[0].kind == "summary"
