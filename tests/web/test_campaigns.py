"""Campaigns that are started from the app: who may, what they show, and that a killed server loses nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("fastapi")

from fewmark.store import open_store

if TYPE_CHECKING:
    from starlette.testclient import TestClient

PATIENCE_S = 120.0
# each cell takes so long that the campaign still runs when a server has started on a busy machine
SUITE = """
title: Forty cells of a dummy
deployments: [{engine: dummy, model: toy, engine_options: {pause_s: 4.0}}]
cells: [{grid: {input_tokens: [8, 16], output_tokens: [2, 4, 8, 16, 32], batch_size: [1, 2, 4, 8]}}]
settings: {max_repeats: 1, warmup: 0}
"""


def n_stored(folder: Path) -> int:
    with open_store(f"sqlite:///{folder / 's.db'}") as store:
        return store.count()


def test_nothing_is_started_without_permission(serve: Any, tmp_path: Path, shown: TestClient) -> None:
    form = {"suite": "demo", "budget": "10s", "target": "throughput_tok_s"}
    store = f"sqlite:///{tmp_path / 'a.db'}"
    plain, allowed = serve(store=store), serve(store=store, allow_runs=True)
    for client in (plain, shown):
        assert client.post("/campaigns", data=form).status_code == 400
        assert "Start a suite" not in client.get("/plan").text
    assert "Start a suite" in allowed.get("/plan").text
    assert allowed.post("/campaigns", data=form, headers={"origin": "http://evil.example"}).status_code == 403
    token = serve(store=store, allow_runs=True, read_token="r" * 20, write_token="w" * 20)
    assert token.post("/campaigns", data=form, headers={"authorization": f"Bearer {'r' * 20}"}).status_code == 401
    assert not (tmp_path / "a.db.serve" / "campaigns").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budget": ""}, "needs a budget or an error"),
        ({"budget": "soon"}, "positive duration"),
        ({"suite": "../../etc/passwd"}, "not one of those offered"),
        ({"target": "speed"}, "Unknown metric"),
        ({"price_per_h": "-1"}, "Price per h must be a positive number"),
        ({"target_error": "200"}, "below 100%"),
        ({"suite": ""}, "A plan needs deployments"),
    ],
)
def test_wrong_requests_are_told(stored_with_runs: TestClient, changed: dict[str, str], said: str) -> None:
    form = {"suite": "demo", "budget": "10s", "target": "throughput_tok_s", **changed}
    assert said in stored_with_runs.post("/campaigns", data=form).text


@pytest.fixture(scope="module")
def stored_with_runs(serve: Any, tmp_path_factory: pytest.TempPathFactory, table: Path) -> TestClient:
    """A server on a store of imported rows, that may start campaigns."""
    from fewmark.verbs.import_files import import_files

    store = f"sqlite:///{tmp_path_factory.mktemp('runs') / 'a.db'}"
    import_files([table], store=store)
    client: TestClient = serve(store=store, allow_runs=True)
    return client


@pytest.mark.slow
def test_what_was_only_imported_is_not_started(stored_with_runs: TestClient, until: Any) -> None:
    # a row of a file may name any program as an option of its engine
    key = stored_with_runs.get("/v1/deployments").json()[0]["key"]
    form = {"d": key, "lengths": "8-8", "loads": "1,2", "budget": "10s", "target": "throughput_tok_s"}
    assert "Only what was run into this store before" in stored_with_runs.post("/campaigns", data=form).text
    page = until(
        lambda: text if "The whole space as a suite" in (text := planned(stored_with_runs, key)) else None, "planned"
    )
    assert "engine: vllm" in page
    assert "Only what was run into this store before" in page
    assert 'action="/campaigns"' not in page.split("<h2>Measure it</h2>")[1].split("<details")[0]


def planned(client: TestClient, key: str) -> str:
    return client.get(f"/plan?d={key}&ask=2&lengths=256-128&loads=1,6,12").text


@pytest.mark.parametrize("name", ["..", "20260101-000000-abcd", "a/../../etc", "%2e%2e%2fx"])
def test_no_folder_but_a_campaigns_is_looked_at(stored_with_runs: TestClient, name: str) -> None:
    assert stored_with_runs.get(f"/campaigns/{name}/log").status_code in (400, 404)
    assert stored_with_runs.get("/live", params={"campaign": name}).status_code == 400


@pytest.mark.slow
def test_a_campaign_outlives_a_killed_server_and_its_own_kill(start: Any, until: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE)
    first = start("--allow-runs", "--suite", "mine.yaml")
    form = {"suite": "mine", "budget": "1h", "target": "throughput_tok_s", "price_per_h": "3600"}
    address, page = first.post("/campaigns", urlencode(form).encode())
    assert "/live?campaign=" in address
    assert "Forty cells of a dummy" in page
    name = address.rpartition("=")[2]
    until(lambda: n_stored(tmp_path) >= 2, "two cells")
    first.kill()
    before = n_stored(tmp_path)
    until(lambda: n_stored(tmp_path) > before, "a cell that was measured while no server ran")

    second = start("--allow-runs", "--suite", "mine.yaml")
    page = second.get("/live")
    assert "It is running." in page
    assert ">Stop</button>" in page
    assert "Money spent" in page
    with pytest.raises(OSError, match="400"):
        second.post("/campaigns", urlencode(form).encode())  # one at a time
    folder = tmp_path / "s.db.serve" / "campaigns" / name
    os.kill(int((folder / "process.txt").read_text().split()[-2]), signal.SIGKILL)
    page = until(lambda: text if "It was killed" in (text := second.get("/live")) else None, "killed")
    kept = n_stored(tmp_path)
    assert f"{kept} of 40" in page
    second.post(f"/campaigns/{name}/continue", b"")
    until(lambda: n_stored(tmp_path) > kept, "a further cell")
    second.post(f"/campaigns/{name}/stop", b"")
    page = until(lambda: text if "Go on</button>" in (text := second.get("/live")) else None, "stopped")
    assert "it was stopped" in page or "It has ended" in page
    with open_store(f"sqlite:///{tmp_path / 's.db'}") as store:
        cells = [one.case.case_id for one in store.measurements()]
    assert len(cells) == len(set(cells)), "nothing is measured twice"
    assert "forecast median error" in second.get(f"/campaigns/{name}/log")


@pytest.mark.slow
def test_a_campaign_ends_by_itself_and_a_plan_of_it_goes_on(start: Any, until: Any, tmp_path: Path) -> None:
    small = SUITE.replace("[8, 16], output_tokens: [2, 4, 8, 16, 32]", "8, output_tokens: [2, 4]").replace("4.0", "0.1")
    (tmp_path / "mine.yaml").write_text(small)
    server = start("--allow-runs", "--suite", "mine.yaml")
    form = {"suite": "mine", "budget": "1h", "target": "throughput_tok_s"}
    server.post("/campaigns", urlencode(form).encode())
    page = until(lambda: text if "It has ended" in (text := server.get("/live")) else None, "the end")
    assert "every cell is measured" in page
    assert "8 of 8" in page
    assert page.count('class="number cell ok"') == 8
    key = json.loads(server.get("/v1/deployments"))[0]["key"]
    form = {"d": key, "lengths": "8-64", "loads": "1,3", "budget": "1h", "target": "throughput_tok_s"}
    address, _ = server.post("/campaigns", urlencode(form).encode())
    page = until(lambda: text if "It has ended" in (text := server.get(address[len(server.url) :])) else None, "end")
    assert "2 of 2" in page
    assert n_stored(tmp_path) == 10


@pytest.mark.slow
def test_an_import_outlives_a_killed_server(
    start: Any, until: Any, tmp_path: Path, measured: list[dict[str, Any]]
) -> None:
    n_files = 400
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(n_files):
            row = {**measured[0], "input_tokens": 100 + number}
            archive.writestr(f"{number}.csv", "\n".join([",".join(row), ",".join(map(str, row.values()))]))
    mark = b"x" * 30
    body = b"\r\n".join([
        b"--" + mark, b'Content-Disposition: form-data; name="files"; filename="all.zip"', b"",
        packed.getvalue(), b"--" + mark + b"--", b"",
    ])  # fmt: skip
    first = start()

    def send() -> None:
        with suppress(OSError):
            first.post("/data", body, f"multipart/form-data; boundary={mark.decode()}")

    sending = threading.Thread(target=send)
    sending.start()
    uploads = tmp_path / "s.db.serve" / "uploads"
    until(lambda: any(uploads.glob("upload-*")) or n_stored(tmp_path), "an upload that has arrived")
    first.kill()
    sending.join(PATIENCE_S)
    second = start()
    until(lambda: "An upload that a stop of the server cut off" in second.get("/data"), "the import's end")
    assert f"{n_files} rows" in second.get("/data")
    assert n_stored(tmp_path) == n_files
    assert not any(uploads.iterdir())
