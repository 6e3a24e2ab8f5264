"""fit, predict and evaluate from the command line: what they write, and requests that are wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.evaluation import evaluate
from fewmark.models.registry import make_model
from fewmark.tables.identity import cell_columns

ANSWERS = ["value", "low", "high", "provenance", "similarity", "abstained"]


@pytest.fixture
def data(tmp_path, make_table):
    path = tmp_path / "measured.csv"
    make_table(5, repeats=False).to_csv(path, index=False)
    return path


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(
        "note,model,engine,accelerator,batch_size,input_tokens,output_tokens\n"
        'first,model-0,vllm,a,8,256,256\n"two, with a comma",model-1,sglang,b,4,512,64\n,unheard,vllm,a,8,128,128\n'
    )
    return path


def test_predict_adds_its_columns_to_those_of_the_cases(data, cases, tmp_path, capsys):
    out = tmp_path / "out.csv"
    # One case is of a deployment that nobody measured: 1, something fell short.
    assert main(["predict", "--data", str(data), "--cases", str(cases), "--model", "loglog", "--out", str(out)]) == 1
    asked, told = pd.read_csv(cases), pd.read_csv(out)
    assert list(told) == [*asked, *ANSWERS]
    pd.testing.assert_frame_equal(told[list(asked)], asked)
    assert told["provenance"].tolist() == ["interpolated", "measured", "abstained"]
    assert told["abstained"].isna().tolist() == [True, True, False]
    assert told["value"].isna().tolist() == [False, False, True]
    assert (told["low"][:2] < told["value"][:2]).all() and (told["value"][:2] < told["high"][:2]).all()
    assert "abstained on 1 of 3" in capsys.readouterr().err


def test_predict_writes_parquet_and_prints_csv(data, cases, tmp_path, capsys):
    common = ["predict", "--data", str(data), "--cases", str(cases), "--model", "linear", "--target", "e2e_latency_s"]
    assert main([*common, "--out", str(tmp_path / "out.parquet")]) == 0
    assert main(common) == 0
    printed = tmp_path / "printed.csv"
    printed.write_text(capsys.readouterr().out)
    told, shown = pd.read_parquet(tmp_path / "out.parquet"), pd.read_csv(printed)
    assert list(told) == list(shown)
    np.testing.assert_array_equal(told["value"], shown["value"])


@pytest.mark.slow
def test_a_fitted_model_predicts_the_same_without_its_data(data, cases, tmp_path):
    model, direct, again = tmp_path / "model.fewmark", tmp_path / "direct.csv", tmp_path / "again.csv"
    assert main(["fit", "--data", str(data), "--model", "xgboost", "--out", str(model)]) == 0
    assert main(["predict", "--model-file", str(model), "--cases", str(cases), "--out", str(again)]) == 0
    ask = ["predict", "--data", str(data), "--model", "xgboost", "--cases", str(cases), "--out", str(direct)]
    assert main(ask) == 0
    assert again.read_text() == direct.read_text()


@pytest.mark.slow
def test_a_higher_level_gives_wider_intervals(data, cases, tmp_path):
    widths = []
    for level in ("0.5", "0.9"):
        out = tmp_path / f"{level}.csv"
        ask = ["predict", "--data", str(data), "--model", "linear", "--cases", str(cases), "--out", str(out)]
        assert main([*ask, "--confidence-level", level]) == 0
        told = pd.read_csv(out)
        widths.append(told["high"] - told["low"])
    assert (widths[0] < widths[1]).all()


def test_one_deployment_lends_its_columns_to_a_list_of_workloads(tmp_path, make_table):
    table = make_table(1, repeats=False)
    table.to_csv(tmp_path / "one.csv", index=False)
    (tmp_path / "cases.csv").write_text("input_tokens,output_tokens,batch_size\n256,256,8\n")
    out = tmp_path / "out.csv"
    ask = ["predict", "--data", str(tmp_path / "one.csv"), "--cases", str(tmp_path / "cases.csv"), "--model", "loglog"]
    assert main([*ask, "--out", str(out)]) == 0
    told = pd.read_csv(out)
    assert list(told) == ["input_tokens", "output_tokens", "batch_size", *ANSWERS]
    known = make_model("loglog").fit(table[cell_columns(table)], table["throughput_tok_s"].to_numpy())
    asked = table.iloc[[0]].assign(input_tokens=256.0, output_tokens=256.0, batch_size=8.0)
    np.testing.assert_allclose(told["value"], known.predict(asked))


@pytest.mark.slow
def test_evaluate_writes_what_the_function_returns(data, tmp_path, capsys):
    out, hidden = tmp_path / "out.json", tmp_path / "hidden.csv"
    ask = ["evaluate", "--data", str(data), "--protocol", "extrapolate-batch", "--model", "loglog", "--seed", "2"]
    assert main([*ask, "--no-screen", "--json", str(out), "--predictions", str(hidden)]) == 0
    found = json.loads(out.read_text())
    assert found.pop("notes") == []
    expected = evaluate(pd.read_csv(data), "extrapolate-batch", ["loglog"], random_state=2)
    for document in (found, expected.summary):
        for name in ("fit_s", "predict_s"):
            assert document["models"]["loglog"].pop(name) >= 0
    assert found == expected.summary
    assert len(pd.read_csv(hidden)) == found["models"]["loglog"]["n"]
    assert "loglog" in capsys.readouterr().out


@pytest.mark.slow
def test_several_protocols_and_models_come_in_one_file(data, tmp_path):
    out = tmp_path / "out.json"
    ask = ["evaluate", "--data", str(data), "--protocol", "sparse-25,extrapolate-batch", "--json", str(out)]
    assert main([*ask, "--model", "loglog", "--model", "mechanistic"]) == 0
    documents = json.loads(out.read_text())["evaluations"]
    assert [document["protocol"] for document in documents] == ["sparse-25", "extrapolate-batch"]
    assert all(list(document["models"]) == ["loglog", "mechanistic"] for document in documents)


@pytest.mark.slow
def test_the_share_inside_is_shown_of_accelerators_that_have_enough_hidden_cells(make_table, tmp_path, capsys):
    table = make_table(12, repeats=False)
    table["accelerator"] = np.where(table["model"] == "model-0", "rare", "common")
    table.to_csv(tmp_path / "data.csv", index=False)
    ask = ["evaluate", "--data", str(tmp_path / "data.csv"), "--protocol", "sparse-25", "--model", "loglog"]
    assert main([*ask, "--no-screen", "--json", str(tmp_path / "out.json")]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "in 90%:" in line)
    parts = json.loads((tmp_path / "out.json").read_text())["models"]["loglog"]["by_accelerator"]
    assert 0 < parts["rare"]["n"] < 100 <= parts["common"]["n"]
    assert line.strip() == f"in 90%: common {parts['common']['picp_90']:.0%} of {parts['common']['n']}"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["evaluate", "--data", "none.csv"], "none.csv"),
        (["evaluate", "--data", "DATA", "--protocol", "guess"], "guess"),
        (["evaluate", "--data", "DATA", "--model", "guess"], "guess"),
        (["evaluate", "--data", "DATA", "--target", "guess"], "guess"),
        (["evaluate", "--data", "DATA", "--target", "ttft_s", "--model", "loglog"], "ttft_s"),
        (["evaluate", "--data", "CASES", "--model", "loglog"], "throughput_tok_s"),
        (["evaluate", "--data", "DATA", "--seed", "-1"], "seed"),
        (["evaluate", "--data", "DATA", "--jobs", "0"], "jobs"),
        (["evaluate", "--data", "DATA", "--store", "sqlite:///x.db", "--model", "loglog"], "not both"),
        (["fit", "--data", "DATA", "--model", "guess", "--out", "m"], "guess"),
        (["fit", "--data", "DATA", "--model", "loglog", "--out", "no/such/folder/m"], "written"),
        (["fit", "--data", "DATA", "--model", "loglog"], "--out"),
        (["predict", "--data", "DATA", "--cases", "none.csv"], "none.csv"),
        (["predict", "--data", "DATA", "--cases", "CASES", "--confidence-level", "1.5"], "1.5"),
        (["predict", "--data", "DATA", "--cases", "CASES", "--confidence-level", "nan"], "nan"),
        (["predict", "--data", "DATA", "--model-file", "m", "--cases", "CASES"], "no data"),
        (["predict", "--model-file", "none", "--cases", "CASES"], "none"),
        (["predict", "--model-file", "CASES", "--cases", "CASES"], "model"),
        (["predict", "--data", "DATA", "--model", "loglog", "--cases", "CASES", "--out", "out.txt"], "out.txt"),
        (["predict", "--data", "DATA", "--model", "loglog", "--cases", "EMPTY"], "empty"),
        (["predict", "--data", "DATA", "--model", "loglog", "--cases", "HEADER"], "row"),
        (["predict", "--data", "DATA", "--model", "loglog", "--cases", "UNCELL"], "input_tokens"),
        (["predict", "--data", "DATA", "--model", "loglog", "--cases", "UNLOAD"], "batch_size"),
    ],
)
@pytest.mark.slow
def test_wrong_requests_get_one_error_and_exit_with_2(data, cases, tmp_path, capsys, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    files = {"DATA": data, "CASES": cases}
    for name, text in {
        "EMPTY": "",
        "HEADER": "input_tokens,output_tokens,batch_size\n",
        "UNCELL": "model,batch_size,output_tokens\nm,1,1\n",
        "UNLOAD": "model,input_tokens,output_tokens,batch_size\nm,1,1,\n",
    }.items():
        files[name] = tmp_path / f"{name}.csv"
        files[name].write_text(text)
    assert main([str(files.get(argument, argument)) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert word in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
