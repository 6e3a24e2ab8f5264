"""What a deployment says of the server that it starts, read from its engine options.

server
    The name of a server that fewmark knows how to start (`fewmark.engines.servers.kinds`).
command
    In its place a command of one's own: a text or a list of words, with ``{model}``, ``{name}``, ``{host}``,
    ``{port}`` and ``{python}``.
python, program
    The interpreter, or the program, that the server runs in, where it is not found by itself.
arg.NAME
    An option of the server: ``--NAME VALUE``; true gives ``--NAME`` alone, false nothing, a list several values. A
    name that begins with a dash stays as it is.
env.NAME
    An environment variable of the server; no place for a key.
ready
    The route that answers 200 when the server is ready; by default the server's own, or ``/v1/models``.
start_timeout_s
    How long it may take until then; by default 900 s.
config, weights
    As for the other engines (`fewmark.engines.checkpoints.source`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import is_secret_name
from fewmark.engines.checkpoints.source import unsupported
from fewmark.engines.servers.kinds import SERVERS, ServerKind

ARGUMENT: Final = "arg."
VARIABLE: Final = "env."
NAMES: Final = frozenset({"server", "command", "python", "program", "ready", "start_timeout_s", "config", "weights"})
START_TIMEOUT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A server to be started."""

    kind: ServerKind
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    program: str | None = None
    start_timeout_s: float = START_TIMEOUT_S


def is_managed(options: JsonObject) -> bool:
    """Whether a deployment starts its own server."""
    return "server" in options or "command" in options


def read_server_options(options: JsonObject) -> ServerOptions:
    """The server behind a deployment's options. Raises `CaseFailure` (``unsupported``) where they are wrong."""
    kind = _kind(options)
    timeout_s = options.get("start_timeout_s", START_TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
        raise unsupported(f"start_timeout_s must be a positive number of seconds, not {timeout_s!r}")
    environment = {}
    for name, value in _named(options, VARIABLE):
        if is_secret_name(name):
            raise unsupported(f"env.{name} would be kept with the results: set it where fewmark runs, it is passed on")
        environment[name] = _word(value)
    return ServerOptions(
        kind,
        tuple(word for name, value in _named(options, ARGUMENT) for word in _argument(name, value)),
        environment,
        _text(options, "python"),
        _text(options, "program"),
        float(timeout_s),
    )


def is_server_option(name: str) -> bool:
    """Whether an engine option belongs to the server that is started."""
    return name in NAMES or name.startswith((ARGUMENT, VARIABLE))


def _kind(options: JsonObject) -> ServerKind:
    name, command = options.get("server"), options.get("command")
    ready = _text(options, "ready")
    if command is not None:
        if name is not None and name in SERVERS:
            raise unsupported("give a server or a command of your own, not both")
        try:
            words = shlex.split(command) if isinstance(command, str) else _words(command)
        except (TypeError, ValueError) as error:
            raise unsupported(f"the server's command cannot be split into words: {error}") from None
        if not words:
            raise unsupported("the server's command is empty")
        return ServerKind(str(name or "command"), tuple(words), ready=ready or "/v1/models")
    if not isinstance(name, str) or name not in SERVERS:
        raise unsupported(f"no server {name!r} is known: {', '.join(SERVERS)}, or a command of your own")
    kind = SERVERS[name]
    if ready is None:
        return kind
    return replace(kind, ready=ready)


def _words(command: Json) -> list[str]:
    if not isinstance(command, (list, tuple)):
        raise TypeError("a text or a list of words")
    return [str(word) for word in command]


def _named(options: JsonObject, prefix: str) -> list[tuple[str, Json]]:
    return [(name.removeprefix(prefix), value) for name, value in options.items() if name.startswith(prefix)]


def _argument(name: str, value: Json) -> list[str]:
    flag = name if name.startswith("-") else f"--{name}"
    if value is True:
        return [flag]
    if value is False or value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [flag, *map(_word, value)]
    return [flag, _word(value)]


def _word(value: Json) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value)


def _text(options: JsonObject, name: str) -> str | None:
    value = options.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise unsupported(f"{name} must be a text, not {value!r}")
    return value
