"""Who may ask what: hosts, origins, tokens, sizes, rates; and names that hold markup are only text."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")

from fewmark.core.errors import InputError
from fewmark.web.settings import Limits, Settings, check_exposure

if TYPE_CHECKING:
    from starlette.testclient import TestClient

READ, WRITE = "r" * 20, "w" * 20
PAGES = ("explore", "compare", "decide", "plan", "data", "accuracy", "programs")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "[", "localhost@x"])
def test_a_server_is_not_called_by_other_names(shown: TestClient, host: str) -> None:
    assert shown.get("/v1/health", headers={"host": host}).status_code == 421


def test_pages_of_other_sites_cannot_post(stored: TestClient, measured: list[dict[str, Any]]) -> None:
    body = {"measurements": measured}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert stored.post("/v1/measurements", json=body, headers=headers).status_code == 403
    assert stored.post("/v1/measurements", json=body, headers={"origin": "http://localhost"}).status_code == 201


def test_tokens_for_reading_and_for_writing(serve: Any, tmp_path: Path, measured: list[dict[str, Any]]) -> None:
    client = serve(store=f"sqlite:///{tmp_path / 'a.db'}", read_token=READ, write_token=WRITE)
    body = {"measurements": measured}
    assert client.get("/v1/deployments").status_code == 401
    assert client.get("/v1/health").status_code == 200
    reader, writer = ({"authorization": f"Bearer {token}"} for token in (READ, WRITE))
    assert client.get("/v1/deployments", headers=reader).status_code == 200
    assert client.post("/v1/measurements", json=body, headers=reader).status_code == 401
    assert client.post("/v1/measurements", json=body, headers=writer).status_code == 201
    assert client.post("/data", files={"files": ("a.csv", b"x")}, headers=reader).status_code == 401
    turned = client.get(f"/explore?token={READ}&x=load", follow_redirects=False)
    assert turned.status_code == 303
    assert turned.headers["location"] == "/explore?x=load"
    assert "httponly" in turned.headers["set-cookie"].lower()
    assert client.get("/data").status_code == 200  # the cookie
    assert (
        client.get(f"http://localhost//evil.example/?token={READ}", follow_redirects=False).headers["location"]
        == "/evil.example/"
    )


def test_without_a_write_token_nothing_is_taken_in(serve: Any, tmp_path: Path) -> None:
    client = serve(store=f"sqlite:///{tmp_path / 'a.db'}", read_token=READ)
    answer = client.post("/v1/measurements", json={}, headers={"authorization": f"Bearer {READ}"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("host", "read", "wrong"),
    [("0.0.0.0", None, True), ("192.0.2.1", None, True), ("127.0.0.1", None, False), ("::1", None, False),
     ("0.0.0.0", "short", True), ("0.0.0.0", READ, False)],
)  # fmt: skip
def test_beyond_this_machine_a_token_is_needed(host: str, read: str | None, wrong: bool) -> None:
    settings = Settings(store="sqlite:///x.db", read_token=read)
    if not wrong:
        check_exposure(host, settings)
        return
    with pytest.raises(InputError, match="token"):
        check_exposure(host, settings)


def test_sizes_and_rates_are_bounded(serve: Any, table: Path) -> None:
    client = serve(data=str(table), limits=Limits(body_bytes=1000, requests_per_s=0.001, burst=4000))
    large = {"cases": [{"model": "x" * 2000}]}
    assert client.post("/v1/predict", json=large).status_code == 413

    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 100

    assert client.post("/v1/predict", content=chunks()).status_code == 413
    statuses = [client.get("/v1/health").status_code for _ in range(4)]
    assert statuses[-1] == 429


def test_every_answer_has_the_policy_and_no_page_needs_more(shown: TestClient) -> None:
    for page in PAGES:
        answer = shown.get(f"/{page}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<[^>]+\son\w+=|<[^>]+\sstyle=|javascript:", answer.text)
        inline = [tag for tag in re.findall(r"<script[^>]*>", answer.text) if "src=" not in tag]
        assert all('type="application/json"' in tag for tag in inline)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', answer.text)


def test_names_with_markup_are_only_text(shown: TestClient, hostile: str) -> None:
    for page in ("explore", "compare", "decide", "plan", "data"):
        text = shown.get(f"/{page}").text
        assert "<script>alert" not in text
    assert html.escape(hostile, quote=False).split('"')[0] in shown.get("/explore").text
    for page in PAGES:
        told = shown.get(f"/{page}", params={"q": hostile, "metric": hostile, "slo.ttft_s": hostile, "rule": hostile})
        assert "<script>alert" not in told.text
    assert "<script>alert" not in shown.get(f"/{hostile}").text


@pytest.mark.parametrize(
    "path", ["/static/../settings.py", "/static/%2e%2e/settings.py", "/static//etc/passwd", "/static/vendor"]
)
def test_no_path_leaves_the_static_folder(shown: TestClient, path: str) -> None:
    assert shown.get(path).status_code == 404
