"""Whatever fits, or does not fit, the API's description: it is answered or refused, and never breaks the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow
N_EXAMPLES = 30


@pytest.fixture(scope="module")
def described(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from fewmark.verbs.import_files import import_files
    from fewmark.web.app import create_app
    from fewmark.web.settings import Settings

    store = f"sqlite:///{tmp_path_factory.mktemp('schema') / 'web.db'}"
    import_files([table], store=store)
    app = create_app(Settings(store=store, model="loglog", prior=False, hosts=("localhost", "127.0.0.1", "testserver")))
    return schemathesis.openapi.from_asgi("/v1/openapi.json", app)


ROUTES = ("predict", "explain", "recommend", "plan", "measurements", "deployments", "health", "ready")


@pytest.mark.parametrize("route", ROUTES)
def test_no_request_breaks_the_server(described: Any, route: str) -> None:
    for operation in described[f"/v1/{route}"].values():

        @given(case=operation.as_strategy())
        @settings(
            max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def check(case: Any) -> None:
            answer = case.call()
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400 and answer.headers.get("content-type", [""])[0].startswith("application/json"):
                assert "error" in answer.json()

        check()
