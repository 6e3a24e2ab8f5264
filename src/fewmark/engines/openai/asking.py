"""Small questions to a server beside the load: is it there, what does it serve, what has it counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from fewmark.core.errors import MALFORMED, FewmarkError, FormatError
from fewmark.core.json_types import Json
from fewmark.core.text import without_secrets
from fewmark.engines.checkpoints.source import unsupported
from fewmark.load.endpoint import Endpoint, Mask
from fewmark.load.server_metrics import MAX_CHARS, parse_exposition

TIMEOUT_S: Final = 10.0
MAX_VERSION: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the text behind it; None where there was no answer at all."""

    status: int | None
    text: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it is a 200."""
        return self.status == 200

    def value(self) -> Json:
        """The JSON behind it; None where there is none."""
        try:
            return json.loads(self.text) if self.is_ok else None
        except MALFORMED:
            return None


def root_url(endpoint: Endpoint) -> str:
    """The server's URL without the ``/v1`` of the routes."""
    parts = urlsplit(endpoint.url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/v1"), "", ""))


def authorization(endpoint: Endpoint) -> dict[str, str]:
    """The headers of a request, the key's among them. Raises `InputError` where the key is missing."""
    key = endpoint.read_key()
    return {**endpoint.headers, **({} if key is None else {"Authorization": f"Bearer {key}"})}


def ask(endpoint: Endpoint, route: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET a route of the server, straight and without following redirects. Never raises for what the server does.

    The time limit is that of the whole answer: a server may say a byte now and then without end.
    """
    parts = urlsplit(root_url(endpoint))
    context = endpoint.tls_context()
    if context is None:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)
    else:
        connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s, context=context)
    expired = threading.Event()

    def end() -> None:
        expired.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    try:
        connection.connect()
        timer.start()
        connection.request("GET", parts.path + route, headers={**authorization(endpoint), "Connection": "close"})
        response = connection.getresponse()
        text = response.read(MAX_CHARS).decode("utf-8", "replace") if response.status == 200 else ""
    except (OSError, ValueError, http.client.HTTPException):
        return Answer(None)
    finally:
        timer.cancel()
        connection.close()
    return Answer(None) if expired.is_set() else Answer(response.status, text)


def served_models(endpoint: Endpoint) -> list[str]:
    """The names of the models that a server lists; empty where it lists none."""
    value = ask(endpoint, "/v1/models").value()
    listed = value.get("data") if isinstance(value, Mapping) else None
    if not isinstance(listed, list):
        return []
    return [item["id"] for item in listed if isinstance(item, Mapping) and isinstance(item.get("id"), str)]


def context_length(endpoint: Endpoint, model: str) -> int | None:
    """The most tokens, prompt and answer together, that a server says it has room for; None where it says nothing.

    vLLM and SGLang say it of each model, llama-server of each of its slots, TGI of itself. What does not fit they cut
    short with a 200, so it has to be known beforehand.
    """
    listed = _mapping(ask(endpoint, "/v1/models").value()).get("data")
    cards = [card for card in listed if isinstance(card, Mapping)] if isinstance(listed, list) else []
    told: list[Json] = [card.get("max_model_len") for card in cards if card.get("id") == model]
    if not any(map(_is_count, told)):
        told.append(_mapping(_mapping(ask(endpoint, "/props").value()).get("default_generation_settings")).get("n_ctx"))
        told.append(_mapping(ask(endpoint, "/info").value()).get("max_total_tokens"))
    return min((value for value in told if isinstance(value, int) and _is_count(value)), default=None)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def server_version(endpoint: Endpoint) -> str | None:
    """What vLLM, TGI or llama-server say of their version; None where nothing is said."""
    for route, name in (("/version", "version"), ("/info", "version"), ("/props", "build_info")):
        value = ask(endpoint, route).value()
        if isinstance(value, Mapping) and isinstance(value.get(name), str):
            return str(value[name])[:MAX_VERSION]
    return None


def counters(endpoint: Endpoint, route: str) -> dict[str, float] | None:
    """What the server has counted so far; None where it does not tell."""
    answer = ask(endpoint, route)
    try:
        return parse_exposition(answer.text) if answer.is_ok else None
    except FormatError:
        return None


def read_key(endpoint: Endpoint) -> tuple[str | None, Callable[[str], str]]:
    """The key, and what masks it in a server's log. Raises `CaseFailure` where it is missing."""
    try:
        key = endpoint.read_key()
    except FewmarkError as error:
        raise unsupported(" ".join(str(error).split())) from None
    mask = Mask(key)
    return key, lambda text: without_secrets(mask(text) or "")
