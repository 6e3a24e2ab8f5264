"""Emptying a server's prefix cache between measurements, where it can be asked to."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

from fewmark.core.errors import InputError

ROUTES: Final[Mapping[str, str]] = {"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"}
MAX_DETAIL: Final = 300


@dataclass(frozen=True, slots=True)
class CacheReset:
    """Whether a cache was emptied, and what the server or the command said."""

    ok: bool
    detail: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key must not follow a redirect to another host."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def reset_by_request(
    base_url: str, server: str, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> CacheReset:
    """POST to the server's own route: vLLM's ``/reset_prefix_cache`` or SGLang's ``/flush_cache``.

    Parameters
    ----------
    base_url : str
        As in ``http://127.0.0.1:8000``; a closing ``/v1`` is left out.
    server : {"vllm", "sglang"}, or a path that begins with a slash
    headers : mapping, optional
        An authorization, if the server wants one.
    timeout_s : float

    Raises
    ------
    InputError
        If the server is unknown or the URL is none.
    """
    path = server if server.startswith("/") else ROUTES.get(server)
    if path is None:
        raise InputError(
            "no route is known that empties this server's cache", got=server, hint=f"{', '.join(ROUTES)}, or a path"
        )
    if not base_url.startswith(("http://", "https://")):
        raise InputError("a server's URL begins with http:// or https://", got=base_url)
    url = base_url.rstrip("/").removesuffix("/v1") + path
    request = urllib.request.Request(url, data=b"", headers=dict(headers or {}), method="POST")
    # straight to the server, as the load itself goes
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return CacheReset(True, f"{path}: HTTP {response.status}")
    except urllib.error.HTTPError as error:
        return CacheReset(False, f"{path}: HTTP {error.code}{_advice(path, error.code)}")
    except (OSError, ValueError, HTTPException) as error:
        return CacheReset(False, f"{path}: {error}"[:MAX_DETAIL])


def reset_by_command(command: str | Sequence[str], timeout_s: float = 60.0) -> CacheReset:
    """Run a command that empties the cache; it is stopped with its children after `timeout_s`.

    Raises `InputError` if the command is empty or cannot be split.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise InputError("the command cannot be split into words", got=f"{command}: {error}") from error
    if not words:
        raise InputError("the command that empties the cache is empty", got=command)
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        return CacheReset(False, f"{words[0]}: {error.strerror}")
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return CacheReset(False, f"{words[0]}: stopped after {timeout_s:g} s")
    said = output.decode(errors="replace").strip()[-MAX_DETAIL:]
    return CacheReset(
        process.returncode == 0, f"{words[0]}: exit code {process.returncode}{': ' if said else ''}{said}"
    )


def _advice(path: str, status: int) -> str:
    if status == 404 and path == ROUTES["vllm"]:
        return " (vLLM offers it only when started with VLLM_SERVER_DEV_MODE=1)"
    if status == 400 and path == ROUTES["sglang"]:
        return " (SGLang refuses while requests are running)"
    return ""
