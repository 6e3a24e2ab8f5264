"""What a deployment says of the server and of how it is asked, read from its engine options.

url
    The server's base URL, as in ``http://gpu-host:8000``; or, for a server that is started, what
    `fewmark.engines.servers.options` lists.
route
    ``completions`` (default) or ``chat``.
served_model
    What the server calls the model; by default the deployment's model, or the only one that the server lists.
key_env, key_file
    The environment variable, or the file, that holds the key. Nothing else ever holds it.
ca_file, verify, headers
    As `fewmark.load.endpoint.Endpoint` takes them.
prompts
    ``ids`` (default of the completions route) or ``text``.
tokenizer
    A tokenizer.json or a folder that has one, for prompts of an exact length as text.
token_ids
    First and last id that prompts as ids are drawn from; by default 1000 to 9999.
stream, ignore_eos, temperature, max_tokens_field, extra_body
    As `fewmark.load.plans.BodyOptions` takes them.
transport
    ``sockets`` (default) or ``aiohttp``.
metrics
    The route of the server's own counters; by default ``/metrics``.
cache_reset
    Empties the prefix cache before each window: ``vllm``, ``sglang``, a route, or ``false``.
cache_reset_command
    The same by a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from fewmark.core import InputError
from fewmark.core.json_types import Json, JsonObject
from fewmark.core.text import is_secret_name
from fewmark.engines.checkpoints.source import unsupported
from fewmark.engines.servers.options import is_managed, is_server_option
from fewmark.load.endpoint import Endpoint
from fewmark.load.plans import PATHS, BodyOptions
from fewmark.load.prompts import DEFAULT_IDS

NAMES: Final = frozenset(
    {
        *("url", "route", "served_model", "key_env", "key_file", "ca_file", "verify", "headers", "prompts"),
        *("tokenizer", "token_ids", "stream", "ignore_eos", "temperature", "max_tokens_field", "extra_body"),
        *("transport", "metrics", "cache_reset", "cache_reset_command"),
    }
)
Given: TypeAlias = Mapping[str, Any]
"""Options as they were given; whatever takes one checks it."""
ENDPOINT: Final = ("key_env", "key_file", "ca_file", "verify")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a server is asked; what is None follows from the server."""

    given: Given
    url: str | None
    route: Literal["completions", "chat"]
    served_model: str | None
    prompts: Literal["ids", "text"] | None
    tokenizer: str | None
    ids: range | None
    stream: bool
    ignore_eos: bool | None
    temperature: float | None
    max_tokens_field: str
    extra_body: JsonObject
    transport: Literal["sockets", "aiohttp"]
    metrics: str
    cache_reset: str | bool | None
    cache_reset_command: str | Sequence[str] | None
    headers: Mapping[str, str] = field(default_factory=dict)

    def endpoint(self, url: str) -> Endpoint:
        """The server at this address. Raises `CaseFailure` where the options are wrong."""
        kept = {name: self.given[name] for name in ENDPOINT if name in self.given}
        try:
            return Endpoint(url, headers=dict(self.headers), **kept)
        except (InputError, TypeError, AttributeError) as error:
            raise unsupported(_one_line(error)) from None

    def body(self, model: str, ignore_eos: bool, extra_body: JsonObject) -> BodyOptions:
        """What every request says."""
        return BodyOptions(
            model,
            self.route,
            self.stream,
            ignore_eos,
            self.temperature,
            self.max_tokens_field,
            {**extra_body, **self.extra_body},
        )


def read_client_options(given: Given) -> ClientOptions:
    """The client's side of a deployment's options. Raises `CaseFailure` (``unsupported``) where they are wrong."""
    for name in given:
        if is_secret_name(name.rpartition(".")[2]):
            raise unsupported(f"{name} has no place in a deployment: name a variable (key_env) or a file (key_file)")
        if name not in NAMES and not is_server_option(name):
            raise unsupported(f"unknown engine option {name!r}; known: {', '.join(sorted(NAMES))}, and a server's own")
    if is_managed(given) == ("url" in given):
        raise unsupported(
            "give the url of a running server, or a server that is started (server, command): one of them"
        )
    choices = {"route": (*PATHS, None), "prompts": ("ids", "text", None), "transport": ("sockets", "aiohttp", None)}
    for name, known in choices.items():
        if given.get(name) not in known:
            raise unsupported(f"{name} must be {' or '.join(filter(None, known))}, not {given[name]!r}")
    for name in ("stream", "ignore_eos"):
        if not isinstance(given.get(name, True), bool):
            raise unsupported(f"{name} must be true or false, not {given[name]!r}")
    for name in ("url", "served_model", "tokenizer", "max_tokens_field", "metrics"):
        if not isinstance(given.get(name, ""), str):
            raise unsupported(f"{name} must be a text, not {given[name]!r}")
    for name in ("headers", "extra_body"):
        if not isinstance(given.get(name, {}), Mapping):
            raise unsupported(f"{name} must be a mapping, not {given[name]!r}")
    if many := [name for name in ("n", "best_of") if given.get("extra_body", {}).get(name) not in (None, 1)]:
        raise unsupported(
            f"extra_body.{many[0]} asks for several answers to a request, which servers drop in silence or count as "
            f"one: give a batch_size or a concurrency"
        )
    if secret := [name for name in given.get("headers", {}) if is_secret_name(str(name))]:
        raise unsupported(
            f"the header {secret[0]} would be kept with the results: the key comes from key_env or key_file"
        )
    return ClientOptions(
        given,
        given.get("url"),
        given.get("route") or "completions",
        given.get("served_model"),
        given.get("prompts"),
        given.get("tokenizer"),
        _ids(given.get("token_ids")),
        given.get("stream", True),
        given.get("ignore_eos"),
        given.get("temperature", 0.0),
        given.get("max_tokens_field", "max_tokens"),
        given.get("extra_body", {}),
        given.get("transport") or "sockets",
        given.get("metrics", "/metrics"),
        given.get("cache_reset"),
        given.get("cache_reset_command"),
        given.get("headers", {}),
    )


def default_ids(vocabulary: int | None) -> range:
    """Ordinary token ids of a vocabulary of this size: behind control and byte tokens."""
    if vocabulary is None or vocabulary > DEFAULT_IDS.stop:
        return DEFAULT_IDS
    return range(min(300, vocabulary // 4), vocabulary)


def _ids(given: Json) -> range | None:
    if given is None:
        return None
    ends = list(given) if isinstance(given, (list, tuple)) else []
    if len(ends) != 2 or any(not isinstance(end, int) or isinstance(end, bool) for end in ends) or ends[0] >= ends[1]:
        raise unsupported(f"token_ids are the first and the last id, not {given!r}")
    return range(ends[0], ends[1] + 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
