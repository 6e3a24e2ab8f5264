"""What is asked for: how long prompts and answers are, which prompts share what, and who asks several times.

A prompt is a chain of segments. The text of a segment follows from its name alone, so two prompts whose chains begin
alike share a prefix, which a server may find in its cache, and prompts whose first segments differ share none. A shared
system prompt, the turns of a conversation and the blocks of a recorded trace are all chains.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from fewmark.core.errors import InputError
from fewmark.core.json_types import JsonObject
from fewmark.load.lengths import FixedLength, Lengths
from fewmark.load.traces import Trace, TraceRequest

Role = Literal["user", "assistant"]
MAX_TURNS: Final = 1000
_ONE: Final[Lengths] = FixedLength(1)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt: the name that its text follows from, its length in tokens, and whose turn it is."""

    name: str
    tokens: int
    role: Role = "user"


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """A request before it has a text.

    Parameters
    ----------
    index : int
    segments : tuple of Segment
        The prompt, whose length is the sum of theirs.
    output_tokens : int
    time_s : float or None
        When to send it, seconds after the start; None where the arrivals decide.
    model : str or None
        A model's or an adapter's name; None takes the one of the run.
    extra_body : mapping
        Put into the JSON body as it is.
    session, think_s : str or None, float
        Turns of one conversation share a session; the pause before this turn.
    """

    index: int
    segments: tuple[Segment, ...]
    output_tokens: int
    time_s: float | None = None
    model: str | None = None
    extra_body: JsonObject = field(default_factory=dict)
    session: str | None = None
    think_s: float = 0.0

    @property
    def input_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return sum(segment.tokens for segment in self.segments)


@dataclass(frozen=True, slots=True)
class RequestClass:
    """One kind of request in a mix.

    Parameters
    ----------
    input_tokens, output_tokens : Lengths
        Of a request; of a conversation, what each turn adds.
    weight : float
        Its share among the mix's classes, in proportion (of conversations, where it has turns).
    shared_prefix_share : float
        The share of the first turn's prompt that is one of `n_prefixes` common texts, 0 to 1.
    n_prefixes : int
        How many such texts there are; each prompt takes one at random.
    turns : Lengths
        Requests of a conversation. Each holds the whole conversation so far; in place of the server's own answers,
        which are not known when the load is planned, stands text of the length that was asked for.
    think_s : float
        Mean pause before a further turn, exponentially distributed.
    model : str or None
        A model's or LoRA adapter's name.
    extra_body : mapping
        Raw JSON fields added to the body.
    """

    input_tokens: Lengths
    output_tokens: Lengths
    weight: float = 1.0
    shared_prefix_share: float = 0.0
    n_prefixes: int = 1
    turns: Lengths = _ONE
    think_s: float = 0.0
    model: str | None = None
    extra_body: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InputError("the weight of a class of requests is above 0", got=self.weight)
        if not 0 <= self.shared_prefix_share <= 1:
            raise InputError("shared_prefix_share is 0 to 1", got=self.shared_prefix_share)
        if self.n_prefixes < 1:
            raise InputError("n_prefixes is at least 1", got=self.n_prefixes)
        if not (math.isfinite(self.think_s) and self.think_s >= 0):
            raise InputError("think_s is a time of at least 0 s", got=self.think_s)


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Classes of requests, drawn by weight; the same seed draws the same requests."""

    classes: tuple[RequestClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a mix has at least one class of requests", got=0)

    @classmethod
    def of(cls, input_tokens: int, output_tokens: int) -> RequestMix:
        """Requests that are all alike."""
        return cls((RequestClass(FixedLength(input_tokens), FixedLength(output_tokens)),))

    def requests(self, seed: int = 0) -> Iterator[RequestSpec]:
        """Requests without end. All turns of a conversation come one after the other."""
        rng = random.Random(seed)
        weights = [c.weight for c in self.classes]
        index = 0
        for conversation in itertools.count():
            number = rng.choices(range(len(self.classes)), weights)[0]
            for spec in _conversation(self.classes[number], number, conversation, index, rng):
                yield spec
                index += 1


def replay(trace: Trace) -> Iterator[RequestSpec]:
    """The requests of a trace at their times, sharing the prefixes that they shared when recorded."""
    for index, request in enumerate(trace.requests):
        yield RequestSpec(
            index, _blocks(index, request), request.output_tokens, time_s=request.time_s, model=request.model
        )


def _blocks(index: int, request: TraceRequest) -> tuple[Segment, ...]:
    """A recorded block has the same text wherever it is whole; what is left at the end is the request's own."""
    segments = []
    rest = request.input_tokens
    for block in request.blocks:
        if rest < request.block_tokens:
            break
        segments.append(Segment(f"block/{block}", request.block_tokens))
        rest -= request.block_tokens
    if rest:
        segments.append(Segment(f"request/{index}", rest))
    return tuple(segments)


def _conversation(
    kind: RequestClass, number: int, conversation: int, index: int, rng: random.Random
) -> Iterator[RequestSpec]:
    turns = min(kind.turns.draw(rng), MAX_TURNS)
    session = f"session/{conversation}" if turns > 1 else None
    segments: list[Segment] = []
    for turn in range(turns):
        tokens = kind.input_tokens.draw(rng)
        output_tokens = kind.output_tokens.draw(rng)
        shared = round(tokens * kind.shared_prefix_share) if turn == 0 else 0
        if shared:
            # of two lengths, the shorter text is the beginning of the longer
            segments.append(Segment(f"prefix/{number}/{rng.randrange(kind.n_prefixes)}", shared))
        if tokens > shared:
            segments.append(Segment(f"user/{conversation}/{turn}", tokens - shared))
        yield RequestSpec(
            index + turn,
            tuple(segments),
            output_tokens,
            model=kind.model,
            extra_body=kind.extra_body,
            session=session,
            think_s=rng.expovariate(1 / kind.think_s) if turn and kind.think_s else 0.0,
        )
        segments.append(Segment(f"answer/{conversation}/{turn}", output_tokens, "assistant"))
