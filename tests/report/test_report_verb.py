"""`fewmark report` from a file or a store to a file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewmark.cli import main
from fewmark.core import Case, Deployment, Measurement, Prediction, Sample, Workload
from fewmark.models.base import Answers
from fewmark.models.registry import make_model
from fewmark.store import open_store
from fewmark.verbs import prediction_cards
from fewmark.verbs import report as verb

HOSTILE = "<script>alert(1)</script>"
CELLS = [(i, o, b) for i in (64, 256, 1024) for o in (32, 128) for b in (1, 4, 16, 64)]


def latency(ii: float, oo: float, bb: float) -> float:
    return 0.01 + oo * (0.002 + 0.0001 * bb) + 1e-6 * ii * bb


def case(cell: tuple[int, int, int], model: str = HOSTILE) -> Case:
    return Case(Deployment("vllm", model), Workload(cell[0], cell[1], batch_size=cell[2]))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = []
    for model, factor in ((HOSTILE, 1.0), ("plain", 2.0)):
        for cell in CELLS:
            work = dict(zip(("input_tokens", "output_tokens", "batch_size"), cell, strict=True))
            e2e = latency(*cell) * factor
            metrics = {"e2e_latency_s": e2e, "throughput_tok_s": cell[1] * cell[2] / e2e}
            rows.append({"engine": "vllm", "model": model, "accelerator": "A100"} | work | metrics)
    path = tmp_path / "data.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in which some cells were predicted before they were measured."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    first, later = CELLS[::2], CELLS[1::2]

    def measured(cell: tuple[int, int, int]) -> Measurement:
        samples = tuple(Sample(e2e_latency_s=latency(*cell) * f) for f in (0.99, 1.0, 1.02))
        return Measurement(case(cell), samples=samples, environment={"host": HOSTILE})  # type: ignore[arg-type]

    def predicted(cell: tuple[int, int, int]) -> Prediction:
        value = cell[1] * cell[2] / latency(*cell) * 1.1
        return Prediction(case(cell), "throughput_tok_s", value, 0.5 * value, 2 * value, 0.8, "interpolated")

    with open_store(url) as opened:
        opened.add(map(measured, first))
        opened.add_predictions(map(predicted, [*first, *later]))
        opened.add(map(measured, later))
    return url


def read(path: Path) -> dict[str, Any]:
    return {card["kind"]: card for card in json.loads(path.read_text())["cards"]}


@pytest.mark.slow
def test_a_report_on_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("html", "json"):
        assert main(["report", str(tmp_path / f"out.{suffix}"), "--data", str(data), "--model", "mechanistic"]) == 0
    assert capsys.readouterr().out == ""
    html = (tmp_path / "out.html").read_text()
    assert "plotly" in html
    assert HOSTILE not in html
    cards = read(tmp_path / "out.json")
    assert list(cards) == ["summary", "decision", "curves", "accuracy", "cost", "faults", "environment"]
    assert dict(cards["summary"]["figures"])["cells"] == str(2 * len(CELLS))
    assert dict(cards["accuracy"]["figures"])["cells checked"] == str(2 * len(CELLS))
    assert len(cards["curves"]["charts"]) == 4  # two deployments, two metrics
    assert {dict(chart["facets"])["Metric"] for chart in cards["curves"]["charts"]} == {
        "Throughput", "End-to-end latency"
    }  # fmt: skip
    assert "What would change it" in [table["title"] for table in cards["decision"]["tables"]]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_a_report_on_a_store_checks_what_was_predicted_before_it_was_measured(store: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["report", str(out), "--store", store, "--target", "throughput_tok_s"]) == 0
    accuracy = read(out)["accuracy"]
    assert "before its cell was measured" in accuracy["text"]
    figures = dict(accuracy["figures"])
    assert figures["cells checked"] == str(len(CELLS) // 2)  # the others were measured first
    assert figures["median APE"] == "10.0%"
    assert figures["80% intervals that held"] == "100.0%"
    assert read(out)["environment"]["tables"][0]["rows"] == [["host", HOSTILE]]


def test_in_cross_validation_no_model_sees_what_it_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("engine", "model", "concurrency", "input_tokens", "output_tokens", "batch_size", "y")
    rows = [("e", model, np.nan, *cell, latency(*cell)) for model in "ab" for cell in CELLS]
    cells = pd.DataFrame(rows, columns=names)

    class Spy:
        def fit(self, X: pd.DataFrame, y: np.ndarray) -> Spy:
            self.seen = set(X.itertuples(index=False, name=None))
            return self

        def answer(self, X: pd.DataFrame, confidence_level: float) -> Answers:
            keys = [tuple("nan" if v != v else v for v in row) for row in X.itertuples(index=False, name=None)]
            seen = {tuple("nan" if v != v else v for v in row) for row in self.seen}
            assert not seen & set(keys)
            assert len(seen) + len(keys) == len(cells)
            one = np.ones(len(X))
            return Answers(one, one, one, np.full(len(X), "interpolated"), one, [""] * len(X))

    monkeypatch.setattr(prediction_cards, "make_model", lambda name, **settings: Spy())
    told = prediction_cards.cross_validate(cells, "y", "spy", random_state=1)
    assert sorted(told["y"]) == sorted(cells["y"])
    again = prediction_cards.cross_validate(cells, "y", "spy", random_state=1)
    assert told["y"].tolist() == again["y"].tolist()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["out.pdf", "--data", "DATA"], "one of .html, .md, .json, .csv"),
        (["nowhere/out.html", "--data", "DATA"], "a folder that exists"),
        (["out.html", "--data", "DATA", "--target", "speed"], "unknown target"),
        (["out.html", "--data", "DATA", "--target", "ttft_s"], "there are values of: throughput_tok_s, e2e_latency_s"),
        (["out.html", "--data", "DATA", "--model", "crystal-ball"], "crystal-ball"),
        (["out.html", "--data", "gone.csv"], "gone.csv"),
        (["out.html", "--data", "DATA", "--store", "sqlite:///x.db"], "not both"),
        (["out.html", "--store", "sqlite:///gone.db"], "gone.db"),
        (["out.html", "--data", "DATA", "--confidence-level", "1"], "fraction"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_written(
    arguments: list[str],
    expected: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(data) if part == "DATA" else part for part in arguments)]) == 2
    assert expected in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv"]


def test_an_empty_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    open_store(url).close()
    assert main(["report", str(tmp_path / "out.html"), "--store", url]) == 2
    assert "no measurements" in capsys.readouterr().err


def test_data_that_nothing_can_be_learned_from_still_make_a_report(tmp_path: Path) -> None:
    path, out = tmp_path / "one.csv", tmp_path / "out.json"
    path.write_text("engine,model,input_tokens,output_tokens,batch_size,throughput_tok_s\nvllm,m,8,8,1,5.0\n")
    assert main(["report", str(out), "--data", str(path)]) == 0
    cards = read(out)
    assert cards["summary"]["figures"]
    assert "curves" in cards


@pytest.mark.slow
def test_public_measurements_join_a_small_table_and_the_report_says_so(tmp_path: Path) -> None:
    rows = []
    for length, batch in ((128, 1), (128, 16), (1024, 1), (1024, 16)):
        e2e = 0.9 * length * (0.012 + 0.0002 * batch)
        work = {"input_tokens": length, "output_tokens": length, "batch_size": batch, "e2e_latency_s": e2e}
        own = {"engine": "vllm", "model": "meta-llama/Llama-2-7b-hf", "accelerator": "A100", "accelerator_count": 1}
        rows.append(own | work | {"throughput_tok_s": length * batch / e2e})
    path = tmp_path / "small.csv"
    pd.DataFrame(rows).to_csv(path, index=False)

    def told(*options: str) -> bool:
        out = tmp_path / "out.md"
        assert main(["report", str(out), "--data", str(path), "--model", "auto", *options]) == 0
        return "public measurements were added" in out.read_text(encoding="utf-8")

    assert told()
    assert not told("--no-prior")


@pytest.mark.slow
def test_the_default_model_is_the_one_of_all_verbs_or_the_report_says_why_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def made(name: str, **parameters: Any) -> Any:
        asked.append(name)
        return make_model("mechanistic", **{**parameters, "prior": False})

    for module in (verb, prediction_cards):
        monkeypatch.setattr(module, "make_model", made)
    assert main(["report", str(tmp_path / "few.json"), "--data", str(data)]) == 0
    assert set(asked) == {"auto"}
    assert "quick-model" not in json.dumps(read(tmp_path / "few.json")["curves"])
    asked.clear()
    monkeypatch.setattr(verb, "MAX_DEFAULT_CELLS", 2 * len(CELLS) - 1)
    assert main(["report", str(tmp_path / "many.json"), "--data", str(data)]) == 0
    assert set(asked) == {"mechanistic"}
    told = json.dumps(read(tmp_path / "many.json")["curves"])
    assert "not 'auto' as elsewhere" in told
    assert "--model auto" in told
