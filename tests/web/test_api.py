"""`/v1` answers what the verbs answer, and says what is wrong with a request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fewmark.verbs.plan import plan
from fewmark.verbs.predict import predict
from fewmark.verbs.recommend import recommend

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytest.importorskip("fastapi")
ENDS = ("value", "low", "high", "similarity")


def test_predictions_equal_those_of_the_verb_to_the_digit(shown: TestClient, table: Path, case: dict[str, Any]) -> None:
    cases = [{**case, "batch_size": load} for load in (1, 3, 12, 48)]
    answer = shown.post("/v1/predict", json={"cases": cases, "confidence_level": 0.8}).json()
    expected = predict(cases, data=str(table), model="loglog", prior=False, confidence_level=0.8, cache=False)
    for name in ENDS:
        assert [one[name] for one in answer["predictions"]] == expected[name].tolist()
    assert [one["provenance"] for one in answer["predictions"]] == expected["provenance"].tolist()
    assert answer["predictions"][2]["batch_size"] == 12
    assert answer["model"] == "loglog"


def test_the_same_question_is_answered_from_memory_with_the_same_bytes(shown: TestClient, case: dict[str, Any]) -> None:
    question = {"cases": [{**case, "batch_size": 5}]}
    shown.post("/v1/predict", json=question)  # one that is asked while the data are still read is not remembered
    first = shown.post("/v1/predict", json=question)
    again = shown.post("/v1/predict", json=question)
    assert again.content == first.content
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert "fewmark_remembered_predictions_total 0.0" not in shown.get("/metrics").text


@pytest.mark.slow
def test_recommend_and_plan_equal_the_verbs(shown: TestClient, table: Path, case: dict[str, Any]) -> None:
    answer = shown.post("/v1/recommend", json={"slo": {"ttft_s": 0.1}}).json()
    expected = recommend(["ttft_s=0.1"], data=str(table), model="loglog", prior=False, cache=False).to_dict()
    assert answer["chosen"] == expected["chosen"]
    assert answer["candidates"][0]["probability"] == expected["candidates"][0]["probability"]
    space = [{**case, "batch_size": load} for load in (1, 4, 24, 64)]
    found = shown.post("/v1/plan", json={"space": space, "ask": 2}).json()
    cells, _ = plan(space, data=str(table), model="loglog", ask=2, prior=False, cache=False)
    assert [cell["batch_size"] for cell in found["cells"]] == cells["batch_size"].tolist()
    assert found["n_space"] == 4


def test_an_explanation_names_the_nearest_measurements(shown: TestClient, case: dict[str, Any]) -> None:
    answer = shown.post("/v1/explain", json={"case": case}).json()
    assert answer["deployment_cells"] == 18
    assert answer["nearest"][0]["doublings"] <= answer["nearest"][1]["doublings"]
    assert "18 of the 36 cells" in answer["words"]


@pytest.mark.parametrize(
    ("route", "body", "status", "words"),
    [
        ("predict", {"cases": []}, 422, "cases"),
        ("predict", {"cases": [{"input_tokens": 1, "output_tokens": 1}]}, 422, "exactly one of"),
        ("predict", {"cases": [{"input_tokens": 1, "output_tokens": 1, "batch_size": 1, "path": "/etc"}]}, 422, "path"),
        ("predict", {"cases": "/etc/passwd"}, 422, "cases"),
        (
            "predict",
            {"cases": [{"input_tokens": 1, "output_tokens": 1, "batch_size": 1}], "target": "x"},
            422,
            "metric",
        ),
        ("recommend", {"slo": {"nonsense_s": 1}}, 400, "an SLO is a metric"),
        ("recommend", {"slo": {"itl_s": 1}}, 400, "never measured"),
        ("plan", {"space": [], "ask": 1}, 422, "space"),
        ("measurements", {"measurements": [{"input_tokens": 1}]}, 400, "shows a file"),
    ],
)
def test_wrong_requests_are_told_what_got_and_hint(
    shown: TestClient, route: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = shown.post(f"/v1/{route}", json=body)
    assert answer.status_code == status
    problem = answer.json()["error"]
    assert set(problem) == {"what", "got", "hint"}
    assert words in f"{problem['what']} {problem['got']}"


@pytest.mark.slow
def test_measurements_are_stored_once_and_change_the_answers(
    stored: TestClient, case: dict[str, Any], measured: list[dict[str, Any]]
) -> None:
    nothing = stored.post("/v1/predict", json={"cases": [case]})
    assert nothing.status_code == 400
    assert "nothing is measured yet" in nothing.json()["error"]["what"]
    added = stored.post("/v1/measurements", json={"measurements": measured})
    assert added.status_code == 201, added.text
    assert added.json()["n_added"] == 36
    assert stored.post("/v1/measurements", json={"measurements": measured}).json()["n_added"] == 0
    assert stored.get("/v1/measurements?limit=5").json()["n_rows"] == 36
    assert len(stored.get("/v1/deployments").json()) == 2
    first = stored.post("/v1/predict", json={"cases": [case]}).json()
    faster = [{**row, "batch_size": 12, "input_tokens": 256, "throughput_tok_s": 235.0} for row in measured[:1]]
    assert stored.post("/v1/measurements", json={"measurements": faster}).json()["n_added"] == 1
    second = stored.post("/v1/predict", json={"cases": [case]}).json()
    assert second["n_known"] == first["n_known"] + 1
    assert second["predictions"][0]["value"] != first["predictions"][0]["value"]


def test_health_readiness_and_counters(shown: TestClient) -> None:
    assert shown.get("/v1/health").json()["status"] == "ok"
    shown.get("/v1/deployments")
    assert shown.get("/v1/ready").status_code == 200
    counted = shown.get("/metrics").text
    assert 'fewmark_requests_total{method="GET",route="/v1/deployments",status="200"}' in counted
    assert "fewmark_measurements 36.0" in counted


def test_the_description_names_every_route(shown: TestClient) -> None:
    described = shown.get("/v1/openapi.json").json()
    assert {f"/v1/{name}" for name in ("predict", "recommend", "plan", "explain", "measurements", "health")} <= set(
        described["paths"]
    )
    assert "Case" in described["components"]["schemas"]
