"""Starts a server and stops it: what is asked when it shall stop is answered first."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import uvicorn

from fewmark.core.errors import InputError
from fewmark.web.app import create_app
from fewmark.web.settings import Settings, check_exposure

GRACE_S: Final = 10


def serve(settings: Settings, host: str, port: int, *, started: Callable[[str], None] = lambda url: None) -> None:
    """Serve until the process is told to stop.

    Parameters
    ----------
    port : 0 for any that is free
    started : is called with the server's address once it listens

    Raises
    ------
    InputError
        If it may not, or cannot, listen there.
    """
    check_exposure(host, settings)
    listening = _listen(host, port)
    name, port = listening.getsockname()[:2]
    shown = f"[{name}]" if ":" in name else name
    started(f"http://{shown}:{port}/")
    config = uvicorn.Config(
        create_app(settings), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S, h11_max_incomplete_event_size=64 << 10,
    )  # fmt: skip
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        hint = "--port 0 takes any that is free"
        raise InputError("cannot listen there", got=f"{host}:{port}: {error}", hint=hint) from None
