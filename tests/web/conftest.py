"""A small table of two deployments, servers on it, and names that hold markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from fewmark.web.settings import Settings

HOSTILE = "<script>alert(1)</script>\"'&"
MODELS = ("small-7b", HOSTILE)
Serve = Callable[..., "TestClient"]


def rows() -> list[dict[str, Any]]:
    """Saturating throughput over batch sizes, for two models and three pairs of lengths."""
    out = []
    for number, model in enumerate(MODELS):
        for input_tokens, output_tokens in ((128, 128), (512, 128), (512, 512)):
            for batch_size in (1, 2, 4, 8, 16, 32):
                rate = (400 - 150 * number) * batch_size / (8 + batch_size) * (1 - 0.0002 * input_tokens)
                out.append(
                    {
                        "engine": "vllm", "model": model, "accelerator": "A100-80GB" if number else "H100",
                        "accelerator_count": 1, "input_tokens": input_tokens, "output_tokens": output_tokens,
                        "batch_size": batch_size, "ttft_s": 0.02 + 1e-5 * input_tokens * batch_size,
                        "throughput_tok_s": rate, "n_repeats": 3, "status": "ok",
                    }
                )  # fmt: skip
    return out


@pytest.fixture
def measured() -> list[dict[str, Any]]:
    """The table's rows."""
    return rows()


@pytest.fixture(scope="session")
def hostile() -> str:
    """A name that holds markup."""
    return HOSTILE


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as a file."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pd.DataFrame(rows()).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def case() -> dict[str, Any]:
    """A cell that was not measured."""
    return {
        "engine": "vllm", "model": "small-7b", "accelerator": "H100", "accelerator_count": 1,
        "input_tokens": 256, "output_tokens": 128, "batch_size": 12,
    }  # fmt: skip


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Starts applications for tests to ask; a cheap model predicts."""
    from starlette.testclient import TestClient

    from fewmark.web.app import create_app
    from fewmark.web.settings import Settings

    with ExitStack() as stack:

        def start(**options: Any) -> TestClient:
            settings: Settings = Settings(**{"model": "loglog", "prior": False, **options})
            client = TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def shown(serve: Serve, table: Path) -> TestClient:
    """A server on the file."""
    return serve(data=str(table))


@pytest.fixture
def stored(serve: Serve, tmp_path: Path) -> TestClient:
    """A server on an empty store."""
    return serve(store=f"sqlite:///{tmp_path / 'web.db'}")
