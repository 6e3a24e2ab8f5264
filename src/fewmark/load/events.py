"""What an answer of the OpenAI protocol says: events, their chunks with tokens and when they came, usage, errors.

Tokens are counted by usage. An event counts as a chunk with tokens if it shows text, reasoning, a tool call or token
ids, or, where the server sends its usage with each event, if that has grown; a role alone is no token.
"""

from __future__ import annotations

import json
import re
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from operator import sub, truediv
from typing import Final

from fewmark.core.json_types import Json

try:
    from msgspec.json import decode as _msgspec_decode

    _decode: Callable[[bytes], Json] = _msgspec_decode
except ImportError:
    _decode = json.loads

MAX_EVENT: Final = 16 << 20
MAX_TOKENS: Final = 10**9  # of one answer: a usage of more is none
REASONING: Final = ("reasoning_content", "reasoning")
OUTPUT: Final = ("content", "tool_calls", "function_call", "refusal", "audio")
TEXT_KEYS: Final = (b'"content":', b'"text":', b'"reasoning_content":', b'"reasoning":')
MAX_UNLIKE: Final = 8  # events in a row unlike the one before, after which no likeness is looked for any more
MIN_CHUNKS: Final = 3  # before a likeness is looked for, which takes as long as reading a few
PROBE: Final = b"fewmark"
UNPLAIN: Final = re.compile(rb'["\\\x00-\x1f]')


class EventError(Exception):
    """An event is not the protocol's."""


class Answer:
    """Takes the body of one answer piece by piece, each with the time at which it came (ns).

    Attributes
    ----------
    first_ns, output_ns, second_ns, last_ns : int or None
        First chunk with tokens; first one after any reasoning; second one if it came later than the first; last one.
    n_chunks, n_coalesced : int
    gaps_s : array of float
    prompt_tokens, completion_tokens, reasoning_tokens : int or None
    finish_reason : str or None
    failure : str or None
        The server's error, sent inside the answer.
    lead, tail : bytes or None
        What stood before and after the text of the last chunk; an event that differs in its text alone is a chunk
        with tokens and needs no decoding.
    has_returns : bool
        Lines end with carriage returns, which `lead` and `tail` do not show.
    """

    __slots__ = (
        "_cr",
        "_is_first",
        "_is_output",
        "_keep",
        "_parts",
        "_seen_tokens",
        "_size",
        "_unlike",
        "chunks",
        "completion_tokens",
        "done",
        "failure",
        "finish_reason",
        "first_ns",
        "gaps_s",
        "has_choices",
        "has_returns",
        "last_ns",
        "lead",
        "n_chunks",
        "n_coalesced",
        "output_ns",
        "prompt_tokens",
        "reasoning_tokens",
        "second_ns",
        "tail",
    )

    def __init__(self, *, keep_chunks: bool = False) -> None:
        self._parts: list[bytes] = []  # of an event that has not ended
        self._size = 0
        self._keep = keep_chunks
        self._is_output = True
        self._seen_tokens: int | None = None
        self._unlike = MAX_UNLIKE if keep_chunks else 0
        self.chunks: list[tuple[int, str]] = []
        self.first_ns: int | None = None
        self.output_ns: int | None = None
        self.second_ns: int | None = None
        self.last_ns: int | None = None
        self.n_chunks = 0
        self.n_coalesced = 0
        self.gaps_s: array[float] = array("d")
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.finish_reason: str | None = None
        self.failure: str | None = None
        self.done = False
        self.has_choices = False
        self.has_returns = False
        self.lead: bytes | None = None
        self.tail = b""
        self._cr = False
        self._is_first = True

    @property
    def between_events(self) -> bool:
        """Whether nothing of a further event has come."""
        return not self._parts and not self._cr

    def feed(self, stamp_ns: int, body: bytes) -> None:
        """Take a piece of a stream of events. Raises `EventError`."""
        if self._cr or b"\r" in body:
            body = self._newlines(body)
        if b"\n\n" not in body and not (body[:1] == b"\n" and self._parts and self._parts[-1][-1:] == b"\n"):
            if body:
                self._parts.append(body)
                self._size += len(body)
                if self._size > MAX_EVENT:
                    raise EventError(f"an event of more than {MAX_EVENT} bytes")
            return
        self._parts.append(body)
        *events, rest = b"".join(self._parts).split(b"\n\n")
        self._parts = [rest] if rest else []
        self._size = len(rest)
        for event in events:
            if event:
                self._take_event(stamp_ns, self._without_mark(event))

    def end(self, stamp_ns: int) -> None:
        """The stream is over: an event that no empty line ends counts if it is whole. Raises `EventError`."""
        rest = b"".join(self._parts).strip()
        self._parts = []
        if rest:
            self._take_event(stamp_ns, self._without_mark(rest))

    def tokens(self, stamps_ns: Sequence[int], is_output: bool | None = None) -> None:
        """Chunks with tokens came at these times; those with the same time came in one read."""
        last = self.last_ns
        first = stamps_ns[0]
        if last is None:
            self.first_ns = last = first
            self.n_coalesced -= 1
        if self.output_ns is None and (self._is_output if is_output is None else is_output):
            self.output_ns = first
        n_before = self.n_chunks
        gaps_ns = list(map(sub, stamps_ns, chain((last,), stamps_ns)))
        coalesced = gaps_ns.count(0)
        if coalesced:
            gaps_ns = list(filter(None, gaps_ns))
        self.gaps_s.extend(map(truediv, gaps_ns, repeat(1e9)))
        self.n_coalesced += coalesced
        self.n_chunks = n_before + len(stamps_ns)
        self.last_ns = stamps_ns[-1]
        if n_before == 1 and first != self.first_ns:
            self.second_ns = first
        elif n_before == 0 and len(stamps_ns) > 1 and stamps_ns[1] != first:
            self.second_ns = stamps_ns[1]

    def read_whole(self, body: bytes) -> None:
        """Take an answer that is not a stream. Raises `EventError`."""
        self._read(None, body.strip())

    def _without_mark(self, event: bytes) -> bytes:
        """An event without the byte order mark that the first one may begin with."""
        is_first, self._is_first = self._is_first, False
        return event.removeprefix(BOM_UTF8) if is_first else event

    def _newlines(self, body: bytes) -> bytes:
        """Every kind of line end as one; a carriage return at the end waits for its line feed."""
        self.has_returns = True
        if self._cr:
            body = b"\r" + body
        self._cr = body.endswith(b"\r")
        if self._cr:
            body = body[:-1]
        return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take_event(self, stamp_ns: int, event: bytes) -> None:
        lead = self.lead
        if lead is not None and event.startswith(lead) and event.endswith(self.tail):
            text = event[len(lead) : len(event) - len(self.tail)]
            if text and is_plain(text):
                self.tokens((stamp_ns,))
                return
        data = self._data_of(event)
        if data is None or not data or data == b"null":
            return
        if data == b"[DONE]":
            self.done = True
            return
        if not self.done:  # what comes after the end is not looked at
            self._read(stamp_ns, data)
            if (
                self.n_chunks >= MIN_CHUNKS
                and self._unlike < MAX_UNLIKE
                and self.failure is None
                and event.endswith(data)
            ):
                self._learn(event, data)

    def _data_of(self, event: bytes) -> bytes | None:
        if event.startswith(b"data:") and b"\n" not in event:
            return event[5:].strip()
        data: list[bytes] = []
        for line in event.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value[1:] if value.startswith(b" ") else value)
            elif name == b"event" and value.strip() == b"error" and self.failure is None:
                self.failure = "an error event"
            elif not name.replace(b"-", b"").replace(b"_", b"").isalnum() and name:  # other fields are to be ignored
                raise EventError(f"not an event: {_excerpt(line)}")
        return b"\n".join(data).strip() if data else None

    def _read(self, stamp_ns: int | None, data: bytes) -> None:
        try:
            value = _loads(data)
        except (ValueError, RecursionError) as error:
            raise EventError(f"not JSON: {_excerpt(data)}") from error
        if not isinstance(value, dict):
            raise EventError(f"not an object: {_excerpt(data)}")
        failure = value.get("error")
        if failure or value.get("object") == "error":
            self.failure = _failure_text(failure or value)
            return
        usage = value.get("usage")
        grown = self._read_usage(usage) if isinstance(usage, dict) else None
        choices = value.get("choices")
        if choices is None:
            choices = []
        if not isinstance(choices, list):
            raise EventError(f"choices are not a list: {_excerpt(data)}")
        has_output = has_reasoning = False
        texts = []
        for choice in choices:
            if not isinstance(choice, dict):
                raise EventError(f"a choice is not an object: {_excerpt(data)}")
            self.has_choices = True
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                self.finish_reason = reason
            part = choice.get("delta")
            if not isinstance(part, dict):
                part = choice
            has_reasoning = has_reasoning or any(part.get(key) for key in REASONING)
            if part.get("text") or choice.get("token_ids") or any(part.get(key) for key in OUTPUT):
                has_output = True
            if self._keep:
                texts.append(str(part.get("text") or part.get("content") or ""))
        if stamp_ns is None:
            return
        if has_output or has_reasoning or (grown and choices):
            self._is_output = has_output or not has_reasoning
            self.tokens((stamp_ns,), self._is_output)
            if self._keep:
                self.chunks.append((stamp_ns, "".join(texts)))

    def _read_usage(self, usage: dict[str, Json]) -> bool:
        """Keep what the usage says; whether it tells of more tokens than the usage of an event before."""
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)
        details = usage.get("completion_tokens_details")
        if isinstance(details, dict):
            self.reasoning_tokens = _count(details.get("reasoning_tokens"), self.reasoning_tokens)
        now, before = self.completion_tokens, self._seen_tokens
        self._seen_tokens = now
        return before is not None and now is not None and now > before

    def _learn(self, event: bytes, data: bytes) -> None:
        """Keep what stands around this event's text, if nothing but the text can differ in an event like it."""
        self.lead = None
        self._unlike += 1
        json_at = len(event) - len(data)
        for key in TEXT_KEYS:
            at = event.find(key)
            if at < 0 or event.count(key) > 1:
                continue
            start = at + len(key) + (event[at + len(key) :][:1] == b" ")
            end = event.find(b'"', start + 1)
            if event[start : start + 1] != b'"' or end <= start + 1:
                continue
            if b"\\" in event[start:end]:
                self._unlike -= 1  # an escape ends the search early; the next event may be plain
                continue
            lead, tail = event[: start + 1], event[end:]
            probe, bare = Answer(keep_chunks=True), Answer()
            probe._seen_tokens = 0
            probe._read(0, (lead + PROBE + tail)[json_at:])
            bare._read(0, (lead + tail)[json_at:])
            says_more = probe.finish_reason or probe.prompt_tokens is not None or probe.completion_tokens is not None
            if probe.n_chunks and not bare.n_chunks and not says_more and probe._is_output == self._is_output:
                self.lead, self.tail = lead, tail
                self._unlike = max(self._unlike - 2, 0)
                return


def is_plain(text: bytes) -> bool:
    """Whether this is the inside of a JSON string as it stands: no end, escape or control character, good UTF-8."""
    if UNPLAIN.search(text) is not None:
        return False
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return True


def _loads(data: bytes) -> Json:
    """JSON as strictly as the quick parser reads it, else as Python writes it: NaN, half of a surrogate pair."""
    try:
        return _decode(data)
    except ValueError:
        return json.loads(data)  # type: ignore[no-any-return]


def _count(value: object, before: int | None) -> int | None:
    """A number of tokens, or what was known before where this is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS:
        return before
    return int(value) if value == int(value) else before


def _failure_text(error: object) -> str:
    if isinstance(error, dict):
        message = error.get("message")
        return message if isinstance(message, str) else json.dumps(error)[:2000]
    return error if isinstance(error, str) else json.dumps(error, default=str)[:2000]


def _excerpt(data: bytes, size: int = 120) -> str:
    text = data[:size].decode("utf-8", "replace")
    return text if len(data) <= size else text + "…"
