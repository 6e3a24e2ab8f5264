"""Requests as they are sent: the JSON bodies of a mix or a trace, for one route of one server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fewmark.core.errors import InputError
from fewmark.core.json_types import Json, JsonObject
from fewmark.load.mixes import RequestSpec
from fewmark.load.prompts import Prompt, PromptMaker
from fewmark.load.records import RequestPlan

Route = Literal["completions", "chat"]
PATHS: Final[Mapping[Route, str]] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """What every body of a run says besides its prompt and length.

    Parameters
    ----------
    model : str
        The served model's name; a request's own name goes first.
    route : {"completions", "chat"}
    stream : bool
        Whether the answer comes in events. Without, there is no TTFT.
    ignore_eos : bool
        Ask the server not to end before the length that was asked for. vLLM, SGLang and llama-server know it; servers
        that refuse unknown fields need False, and then answers may be short.
    temperature : float or None
        None leaves it to the server.
    max_tokens_field : str
        The name of the limit: ``max_tokens``, or ``max_completion_tokens`` where a chat route insists on it.
    extra_body : mapping
        Put into each body as it is, over everything else; a request's own comes last.
    """

    model: str
    route: Route = "completions"
    stream: bool = True
    ignore_eos: bool = True
    temperature: float | None = 0.0
    max_tokens_field: str = "max_tokens"
    extra_body: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.route not in PATHS:
            raise InputError("unknown route", got=self.route, hint=f"one of {', '.join(PATHS)}")


def make_plans(
    specs: Iterable[RequestSpec],
    prompts: PromptMaker,
    options: BodyOptions,
    send_times: Iterable[float] | None = None,
) -> Iterator[RequestPlan]:
    """The planned requests, one at a time, so that a long load need not be held in memory.

    Parameters
    ----------
    specs : iterable of RequestSpec
    prompts : PromptMaker
    options : BodyOptions
    send_times : iterable of float, optional
        Seconds after the start, rising, one for each request or first turn of a conversation; ends the plans when it
        ends. None keeps the specs' own times (a trace), or none (a closed loop).

    Raises
    ------
    InputError
        If a prompt cannot be made, or is of token ids and the route takes none.
    """
    times = None if send_times is None else iter(send_times)
    session: str | None = None
    for spec in specs:
        is_first = spec.session is None or spec.session != session
        session = spec.session
        planned = spec.time_s if is_first else None
        if times is not None and is_first:
            planned = next(times, None)
            if planned is None:
                return
        yield RequestPlan(
            spec.index,
            encode_body(spec, prompts.make(spec.segments), options),
            path=PATHS[options.route],
            stream=options.stream,
            planned_send_s=planned,
            input_tokens=spec.input_tokens,
            output_tokens=spec.output_tokens,
            session=spec.session,
            think_s=spec.think_s,
            model=spec.model or options.model,
        )


def encode_body(spec: RequestSpec, prompt: Prompt, options: BodyOptions) -> bytes:
    """The JSON body of a request. Raises `InputError` if it is no JSON, or token ids are to go through a chat route."""
    body: dict[str, Json] = {"model": spec.model or options.model}
    if options.route == "chat":
        body["messages"] = _messages(prompt)
    else:
        ids = prompt.ids
        body["prompt"] = prompt.text if ids is None else ids
    body[options.max_tokens_field] = spec.output_tokens
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.ignore_eos:
        body["ignore_eos"] = True
    if options.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= {**options.extra_body, **spec.extra_body}
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError("extra fields of a body must be JSON", got=f"{error}") from error


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    """One message for each run of segments of one role."""
    if prompt.text is None:
        raise InputError(
            "a chat route takes no token ids", got="chat", hint="use the completions route, or give a tokenizer by path"
        )
    messages = []
    for role, parts in itertools.groupby(prompt.parts, key=lambda part: part[0].role):
        messages.append({"role": role, "content": "".join(str(content) for _, content in parts).strip()})
    return messages
