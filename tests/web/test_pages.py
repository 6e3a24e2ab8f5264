"""The pages: what they show, that their state is in their address, and what uploads become."""

from __future__ import annotations

import html
import io
import json
import re
import time
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

pytest.importorskip("fastapi")

import fewmark.web
from fewmark.web.pages.rendering import sentence

if TYPE_CHECKING:
    from starlette.testclient import TestClient

HTMX = {"hx-request": "true"}
VENDORED = Path(fewmark.web.__file__).parent / "static" / "vendor"


def page(client: TestClient, address: str, until: str, **options: Any) -> str:
    """A page once it is no longer waiting for a model."""
    for _ in range(200):
        text = client.get(address, **options).text
        if until in text:
            return str(text)
        time.sleep(0.1)
    raise AssertionError(f"{address} never showed {until}: {text[-2000:]}")


def chart_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="[^"]*">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_explore_draws_points_and_curves_with_bands(shown: TestClient) -> None:
    text = page(shown, "/explore", '"interpolated"')
    chart = chart_of(text)
    assert len(chart["series"]) == 2
    for series in chart["series"]:
        line = series["line"]
        assert len(series["points"]["x"]) == 6
        assert line["x"] == sorted(line["x"])
        assert max(line["x"]) == 64  # a doubling beyond
        assert all(
            low <= value <= high for low, value, high in zip(line["low"], line["value"], line["high"], strict=True)
        )
    assert len(text) < 300_000


def test_the_address_holds_the_state(shown: TestClient) -> None:
    key = shown.get("/v1/deployments").json()[1]["key"]
    text = page(shown, f"/explore?y=ttft_s&x=input_tokens&d={key}&level=0.5", '"interpolated"')
    chart = chart_of(text)
    assert [series["key"] for series in chart["series"]] == [key]
    assert chart["y"]["label"] == "TTFT (ms)"
    assert chart["x"]["label"] == "Input tokens"
    assert chart["level"] == 0.5
    part = shown.get(f"/explore?d={key}", headers=HTMX).text
    assert "<html" not in part
    assert 'hx-swap-oob="true"' in part


def test_kinds_of_load_have_axes_of_their_own(serve: Any, measured: list[dict[str, Any]], tmp_path: Path) -> None:
    loops = [{**row, "concurrency": row["batch_size"], "batch_size": None} for row in measured[:4]]
    pd.DataFrame(measured + loops).to_csv(tmp_path / "mixed.csv", index=False)
    client = serve(data=str(tmp_path / "mixed.csv"))
    batches = page(client, "/explore", '"interpolated"')
    assert chart_of(batches)["x"]["label"] == "Batch size"
    assert '<option value="concurrency">' in batches
    chart = chart_of(page(client, "/explore?x=concurrency", '"interpolated"'))
    assert chart["x"]["label"] == "Concurrency (requests in flight)"
    assert [len(series["points"]["x"]) for series in chart["series"]] == [4]
    batches_alone = next(key for key in re.findall(r'"key": ?"(\w+)"', batches) if key != chart["series"][0]["key"])
    answer = client.get(f"/explore?x=concurrency&d={batches_alone}")
    assert answer.status_code == 200 and chart_of(answer.text)["series"][0]["line"]["x"] == []


def test_the_example_for_programs_can_be_asked(shown: TestClient) -> None:
    text = html.unescape(shown.get("/programs").text)
    example = json.loads(re.search(r"-d '(\{.*?\})'", text, re.DOTALL)[1])  # type: ignore[index]
    assert shown.post("/v1/predict", json=example).json()["predictions"][0]["value"] > 0


def test_compare_gives_a_verdict(shown: TestClient) -> None:
    text = shown.get("/compare?metric=throughput_tok_s&a.accelerator=H100&b.accelerator=A100-80GB&threshold=0.05").text
    assert re.search(r'class="verdict (PASS|FAIL|INCONCLUSIVE)"', text) or "no cell in common" in text


@pytest.mark.slow
def test_what_is_compared_first_has_the_metric(serve: Any, measured: list[dict[str, Any]], tmp_path: Path) -> None:
    without = [{**row, "ttft_s": None} for row in measured[:6]]
    others = [{**row, "accelerator": name} for row in measured[:6] for name in ("A100-80GB", "L40S")]
    pd.DataFrame(without + others).to_csv(tmp_path / "three.csv", index=False)
    client = serve(data=str(tmp_path / "three.csv"))
    for address in ("/compare", "/compare?metric=ttft_s"):
        assert 'class="verdict ' in client.get(address).text


def test_decide_ranks_and_says_what_would_change_the_answer(shown: TestClient) -> None:
    text = page(shown, "/decide?slo.ttft_s=0.2&price.H100=3&price.A100-80GB=2", "Deploy ")
    assert "rules this choice out" in text
    assert "per million" in text or "million tokens" in text
    assert 'class="chosen"' in text
    assert "must be a positive number" in shown.get("/decide?slo.ttft_s=-1").text
    text = page(shown, "/decide?accelerator=A100-80GB", "Deploy ")
    assert "vllm on H100" not in text.split("Candidates, best first")[1]


def test_plan_orders_cells_and_gives_them_as_a_table(shown: TestClient) -> None:
    key = shown.get("/v1/deployments").json()[0]["key"]
    text = page(shown, f"/plan?d={key}&ask=3&lengths=256-128&loads=1,6,12,24", "best first")
    assert text.count('<th scope="row">') == 3
    assert "input_tokens" in text.split('id="plan-csv"')[1]
    assert "The space is too large" in shown.get(f"/plan?d={key}&loads={','.join(map(str, range(1, 100)))}").text


def test_files_are_taken_in_and_what_each_was_taken_for_is_told(stored: TestClient, table: Path, hostile: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(table, "runs/table.csv")
        archive.writestr("runs/readme.txt", "nothing")
    files = [
        ("files", ("../../etc/evil.zip", packed.getvalue())),
        ("files", (f"{hostile}.csv", table.read_bytes())),
        ("files", ("note.txt", b"no result")),
    ]
    text = stored.post("/data", files=files, headers=HTMX).text
    assert "36 new measurements" in text
    assert "passed over" in text
    assert "<script>alert" not in text
    assert "/tmp/" not in text
    assert "36 rows" in stored.get("/data").text
    assert stored.get("/v1/measurements").json()["n_rows"] == 36


def test_a_server_on_a_file_takes_nothing_in(shown: TestClient, table: Path) -> None:
    text = shown.post("/data", files={"files": ("a.csv", table.read_bytes())}, headers=HTMX).text
    assert "takes nothing in" in text


@pytest.mark.slow
def test_predictions_on_record_are_scored(
    serve: Any, tmp_path: Path, table: Path, case: dict[str, Any], measured: list[dict[str, Any]]
) -> None:
    from fewmark.verbs.import_files import import_files
    from fewmark.verbs.predict import predict

    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    import_files([table], store=store)
    predict([case], store=store, model="loglog", prior=False)
    client = serve(store=store)
    client.post("/v1/measurements", json={"measurements": [{**measured[0], **case, "throughput_tok_s": 230.0}]})
    text = client.get("/accuracy").text
    assert "By LLM and accelerator" in text
    assert "loglog" in text


def test_an_empty_store_says_what_to_do(stored: TestClient) -> None:
    for name in ("explore", "compare", "decide", "plan"):
        assert "Nothing is measured yet" in stored.get(f"/{name}").text
    assert stored.get("/data").status_code == 200


def test_what_is_vendored_is_what_its_list_says() -> None:
    listed = [line.split(maxsplit=1) for line in (VENDORED / "SHA256SUMS").read_text().splitlines() if line]
    assert {name for _, name in listed} == {
        str(path.relative_to(VENDORED)) for path in VENDORED.rglob("*") if path.is_file() and path.parent != VENDORED
    }
    for digest, name in listed:
        assert sha256((VENDORED / name).read_bytes()).hexdigest() == digest


@pytest.mark.slow
def test_what_is_measured_is_followed_from_the_store_alone(
    serve: Any, tmp_path: Path, case: dict[str, Any], measured: list[dict[str, Any]]
) -> None:
    from fewmark.core import Case, Cost, Deployment, Measurement, Prediction, Sample, Workload
    from fewmark.store import open_store

    store = f"sqlite:///{tmp_path / 'live.db'}"
    cells = [Case(Deployment("vllm", "m"), Workload(8, 8, batch_size=n)) for n in (1, 2, 4)]
    client = serve(store=store)
    assert "Nothing was run into this store yet" in client.get("/live").text
    with open_store(store) as opened:
        opened.add_predictions(
            Prediction(one, "throughput_tok_s", 10.0, 5.0, 20.0, 0.9, "interpolated") for one in cells
        )
        opened.add(Measurement(one, samples=(Sample(e2e_latency_s=1.0),), cost=Cost(wall_s=4.0)) for one in cells)
    client = serve(store=store)  # as after a restart
    text = client.get("/live").text
    assert "Cells run</dt><dd>3" in text
    assert "Time spent (s)</dt><dd>12" in text
    assert "Forecasts checked</dt><dd>3" in text
    assert "<html" not in client.get("/live", headers={"HX-Request": "true"}).text


@pytest.mark.slow
def test_objectives_have_sliders_over_what_was_measured(shown: TestClient) -> None:
    text = shown.get("/decide?slo.ttft_s=0.05").text
    assert 'data-slides="slo-ttft_s"' in text
    assert 'value="-1.3"' in text


@pytest.mark.slow
def test_uploads_are_compared_as_the_command_does(stored: TestClient, table: Path, tmp_path: Path) -> None:
    import pandas as pd

    from fewmark.verbs.compare import compare
    from fewmark.web.pages.rendering import label

    slower = pd.read_csv(table)
    slower["throughput_tok_s"] *= 0.5 + 0.01 * (slower.index % 3)
    slower.to_csv(tmp_path / "slower.csv", index=False)
    expected = compare(str(table), str(tmp_path / "slower.csv"), metric="throughput_tok_s")
    assert expected.verdict == "FAIL"
    words = expected.words.replace("throughput_tok_s", label("throughput_tok_s"))
    sides = [
        ("a.files", ("a.csv", table.read_bytes())),
        ("b.files", ("../b.csv", (tmp_path / "slower.csv").read_bytes())),
    ]
    answer = stored.post("/compare", files=sides, follow_redirects=False)
    address = f"{answer.headers['location']}&metric=throughput_tok_s"
    assert words in stored.get(address).text
    assert stored.get("/v1/measurements").json()["n_rows"] == 0, "nothing is stored"
    stored.post("/data", files=[("files", ("a.csv", table.read_bytes()))])
    one = stored.post("/compare", files=sides[1:], follow_redirects=False)
    assert words in stored.get(f"{one.headers['location']}&metric=throughput_tok_s").text
    assert "That upload is gone" in stored.get(f"/compare?a.upload={'0' * 20}").text
    assert "That upload is gone" in stored.get("/compare?a.upload=../uploads").text
    assert "nothing to compare" in stored.post("/compare", data={"a.upload": ""}).text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("that is not a table", "That is not a table."),
        ("ttft_s must be positive", "ttft_s must be positive."),
        ("runs.csv: no row has a value", "runs.csv: no row has a value."),
        ("2 rows left out; fewmark screen says why", "2 rows left out; the page Data says why."),
    ],
)
def test_a_message_is_shown_as_a_sentence_with_names_as_they_are(message: str, shown: str) -> None:
    assert sentence(message) == shown
