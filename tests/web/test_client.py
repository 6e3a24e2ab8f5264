"""The typed client and the tools for assistants, against a real server: started, asked, killed, started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fewmark.core.errors import InputError
from fewmark.web.client import Client, ServerError

TOKEN = "t" * 20


@contextlib.contextmanager
def server(source: str, *options: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own, and its address."""
    run = "from fewmark.cli import main; main()"
    command = [sys.executable, "-c", run, "serve", source, "--port", "0", "--model", "loglog", "--no-prior", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "http://" in said, said
        yield said.split("fewmark is at ")[1].split("  ")[0], process
    finally:
        process.kill()
        process.wait(timeout=60)
        process.stderr.close()


@pytest.mark.slow
def test_nothing_is_lost_when_the_server_is_killed(
    tmp_path: Path, measured: list[dict[str, Any]], case: dict[str, Any]
) -> None:
    store = f"sqlite:///{tmp_path / 'killed.db'}"
    with server(store, FEWMARK_TOKEN=TOKEN, FEWMARK_WRITE_TOKEN=2 * TOKEN) as (url, process):
        with Client(url) as client:
            assert client.health().status == "ok"
            with pytest.raises(InputError, match="a token is needed"):
                client.deployments()
        with Client(url, token=2 * TOKEN) as client:
            assert client.append(measured).n_added == 36
            before = client.predict([case])
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    with Client(url, timeout_s=5) as client, pytest.raises(ServerError, match="no answer"):
        client.health()
    with server(store) as (url, process):
        with Client(url) as client:
            assert client.predict([case]) == before
            assert len(client.deployments()) == 2
            assert client.explain(case).deployment_cells == 18
            with pytest.raises(InputError, match="does not fit its schema"):
                client.predict([{"model": "x"}])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, 143)


@pytest.mark.slow
def test_assistants_may_ask_and_change_nothing(table: Path, case: dict[str, Any]) -> None:
    pytest.importorskip("mcp")
    import anyio

    from fewmark.web.mcp import make_server
    from fewmark.web.settings import Settings

    async def asked() -> tuple[list[Any], Any]:
        made = make_server(Settings(data=str(table), model="loglog", prior=False))
        return list(await made.list_tools()), await made.call_tool("explain", {"case": case})

    tools, answer = anyio.run(asked)
    assert {tool.name for tool in tools} == {"deployments", "predict", "explain", "recommend", "plan"}
    assert all(tool.annotations.read_only_hint for tool in tools)
    assert '"deployment_cells"' in json.dumps(answer, default=lambda value: value.model_dump())
