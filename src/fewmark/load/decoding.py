"""From the reads of one answer, each with its time, to what they say: HTTP, events, and one request's record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from fewmark.load.events import UNPLAIN, Answer, EventError, is_plain
from fewmark.load.http1 import ProtocolError, ResponseParser, TooLargeError
from fewmark.load.records import RequestPlan, RequestRecord, RequestStatus

MAX_ANSWER: Final = 1 << 26
MAX_HELD: Final = 1 << 16
MAX_ERROR_BODY: Final = 1 << 14
MAX_REASON: Final = 80
NOT_SENT: Final = "not sent before the end of the load"
FEW: Final = 4  # reads, of which each is as well looked at by itself
EVENT_END: Final = b"\n\n\r\n"


@dataclass(slots=True)
class Sent:
    """What the client itself knows of a request: times in ns of the real-time clock."""

    plan: RequestPlan
    slot: int
    planned_ns: int | None = None
    send_ns: int | None = None
    connect_ns: int | None = None
    reused: bool = False
    first_byte_ns: int | None = None
    end_ns: int | None = None
    kernel_stamps: bool = True


class Decoder:
    """Reads one answer as it comes (`feed`), and knows at the end what became of it (`outcome`).

    Chunks that hold one event each and differ from the one before in their text alone, which is what servers send,
    are recognised by what stands around the text; everything else goes through the parsers.
    """

    __slots__ = (
        "_around",
        "_around_of",
        "_body",
        "_held",
        "_is_alike",
        "_last_ns",
        "_limit",
        "_size",
        "_stream",
        "answer",
        "failure",
        "parser",
    )

    def __init__(self, *, stream: bool, limit: int = MAX_ANSWER, keep_chunks: bool = False) -> None:
        self.parser = ResponseParser(limit)
        self.answer = Answer(keep_chunks=keep_chunks)
        self.failure: tuple[RequestStatus, str] | None = None
        self._stream = stream
        self._limit = limit
        self._size = 0
        self._body: list[bytes] = []
        self._held = b""
        self._last_ns = 0
        self._is_alike = False
        self._around = (b"", b"", 0, 0)
        self._around_of: dict[int, tuple[tuple[bytes, ...], slice]] = {}  # by the length of a read

    @property
    def complete(self) -> bool:
        """Whether the answer is whole by HTTP."""
        return self.parser.complete

    @property
    def says_done(self) -> bool:
        """Whether the events have ended, though HTTP's body may not have."""
        return self._is_events and self.answer.done

    def feed(self, stamps_ns: Sequence[int], reads: Sequence[bytes]) -> None:
        """Take what some reads brought, each with its time. After a failure nothing more is looked at."""
        try:
            at, count = 0, len(reads)
            while at < count and self.failure is None:
                if self._is_alike:
                    at = self._alike(stamps_ns, reads, at)
                else:
                    self._feed_one(stamps_ns[at], reads[at])
                    at += 1
        except (EventError, ProtocolError) as error:
            self.failure = (RequestStatus.MALFORMED, str(error))
        except TooLargeError as error:
            self.failure = (RequestStatus.TOO_LARGE, str(error))

    def _feed_one(self, stamp_ns: int, data: bytes) -> None:
        self._count(stamp_ns, len(data))
        if self.answer.lead is not None:
            rest = self.parser.rest_of_chunk
            if 0 < rest < len(data):  # then what follows may be alike again
                self._parse(stamp_ns, data[:rest])
                data = data[rest:]
                if self._is_alike:
                    self._size -= len(data)
                    self._alike((stamp_ns,), (data,), 0)
                    return
        self._parse(stamp_ns, data)

    def _count(self, stamp_ns: int, size: int) -> None:
        self._last_ns = stamp_ns
        self._size += size
        if self._size > self._limit:
            raise TooLargeError(f"an answer of more than {self._limit} bytes")

    def _alike(self, stamps_ns: Sequence[int], reads: Sequence[bytes], first: int) -> int:
        """Count the chunks that are like the one before, from read `first` on; the first read that is not used up."""
        if self._held or len(reads) - first < FEW:
            return self._alike_in_parts(stamps_ns, reads, first)
        if first:
            stamps_ns, reads = stamps_ns[first:], reads[first:]
        whole = self._whole_chunks(reads)
        at, count = 0, len(reads)
        while at < count and self._is_alike:
            if whole[at] and not self._held:
                end = _index(whole, False, at)
                self.answer.tokens(stamps_ns[at:end])
                self._count(stamps_ns[end - 1], sum(map(len, reads[at:end])))
                at = end
            else:
                end = _index(whole, True, at + 1)
                at = self._alike_in_parts(stamps_ns[:end], reads[:end], at)
        return first + at

    def _whole_chunks(self, reads: Sequence[bytes]) -> list[bool]:
        """Which reads are one whole chunk like the one before; each step looks at all of them."""
        lengths = list(map(len, reads))
        around = self._around_of
        for length in set(lengths):
            if length not in around:
                around[length] = self._around_text(length)
        starts, texts = zip(*map(around.__getitem__, lengths), strict=True)
        end = self._around[1]
        whole = [read.startswith(start) and read.endswith(end) for read, start in zip(reads, starts, strict=True)]
        # A space between texts: half a character at the end of one is not made good by the next.
        if not is_plain(b" ".join([read[text] for read, text, w in zip(reads, texts, whole, strict=True) if w])):
            whole = [w and is_plain(read[text]) for w, read, text in zip(whole, reads, texts, strict=True)]
        return whole

    def _around_text(self, length: int) -> tuple[tuple[bytes, ...], slice]:
        """How a chunk of so many bytes begins that is like the one before, and where its text is."""
        lead, _, n_lead, n_tail = self._around
        for n_digits in range(1, 9):
            size = length - n_digits - 4
            if size > n_lead + n_tail - 2 and len(digits := b"%x" % size) == n_digits:
                begins = digits + b"\r\n" + lead, digits.upper() + b"\r\n" + lead
                return begins, slice(len(begins[0]), -n_tail)
        return (), slice(0)

    def _alike_in_parts(self, stamps_ns: Sequence[int], reads: Sequence[bytes], first: int) -> int:
        """The same where chunks lie across reads: each came with the read that brought its last byte."""
        held, self._held = self._held, b""
        data = held + b"".join(reads[first:])
        offsets = list(accumulate(map(len, reads[first:]), initial=len(held)))
        lead, tail, n_lead, n_tail = self._around
        find, starts, ends = data.find, data.startswith, data.endswith
        texts: list[bytes] = []
        came: list[int] = []
        at, size, number, limit = 0, len(data), 1, offsets[1]
        try:
            while at < size:
                start = find(b"\r\n", at, at + 10) + 2
                end = start + int(data[at : start - 2], 16)
                if not (starts(lead, start) and ends(tail, start, end + 2)) or end - start < n_lead + n_tail - 1:
                    break
                while limit < end:
                    number += 1
                    limit = offsets[number]
                came.append(number)
                texts.append(data[start + n_lead : end + 2 - n_tail])
                at = end + 2
        except ValueError:  # no size; the parser will say so, unless there is more to come
            pass
        together = b"".join(texts)
        if not (together.isascii() and UNPLAIN.search(together) is None):
            count = next((i for i, text in enumerate(texts) if not is_plain(text)), len(texts))
            came = came[:count]
            at = 0
            for _ in came:
                start = find(b"\r\n", at) + 2
                at = start + int(data[at : start - 2], 16) + 2
        if came:
            self.answer.tokens([stamps_ns[first + number - 1] for number in came])
        number = came[-1] if came else 1
        while offsets[number] <= at and number < len(offsets) - 1:
            number += 1
        self._count(stamps_ns[first + number - 1], at - len(held))
        if at == size:
            return len(reads)
        stop = first + number - 1
        rest = data[at : offsets[number]]
        if number == len(offsets) - 1 and len(rest) < MAX_HELD and b"\n\n" not in rest and not rest.startswith(b"0"):
            self._size += len(rest)
            self._held = rest
            return len(reads)
        self._count(stamps_ns[stop], len(rest))
        self._parse(stamps_ns[stop], rest)
        return stop + 1

    def end(self) -> None:
        """No more will come: the connection was closed, or the answer is whole."""
        if self.failure is not None:
            return
        try:
            if self._held:
                held, self._held = self._held, b""
                self._parse(self._last_ns, held)
            self.parser.end()
            if self._is_events:
                if self.complete or self.answer.done:
                    self.answer.end(self._last_ns)
            elif self.parser.status == 200 and self.complete:
                self.answer.read_whole(b"".join(self._body))
        except (EventError, ProtocolError) as error:
            self.failure = (RequestStatus.MALFORMED, str(error))
        except TooLargeError as error:
            self.failure = (RequestStatus.TOO_LARGE, str(error))

    def outcome(self) -> tuple[RequestStatus, str | None]:
        """The status and error of an answer that has ended, but for the tokens asked for."""
        parser, answer = self.parser, self.answer
        if parser.status is not None and parser.status != 200:
            if 300 <= parser.status < 400:
                return RequestStatus.REDIRECT, f"HTTP {parser.status} to {parser.headers.get('location', 'nowhere')}"
            body = b"".join(self._body)[:MAX_ERROR_BODY].decode("utf-8", "replace")
            return RequestStatus.HTTP_ERROR, f"HTTP {parser.status}: {_message(body)}"
        if answer.failure is not None:
            return RequestStatus.HTTP_ERROR, answer.failure
        if self.failure is not None:
            return self.failure
        if parser.status is None:
            return RequestStatus.CUT, "the connection closed before an answer"
        is_done = self._is_events and answer.done
        if not (is_done or parser.complete):
            return RequestStatus.CUT, "the connection closed within the answer"
        if not answer.has_choices and answer.completion_tokens is None:
            return RequestStatus.MALFORMED, "an answer without choices"
        if is_done:
            return RequestStatus.OK, None
        if self._is_events and answer.finish_reason is None and answer.completion_tokens is None:
            return RequestStatus.CUT, "the events end without [DONE], finish reason or usage"
        return RequestStatus.OK, None

    @property
    def _is_events(self) -> bool:
        return self._stream and self.parser.status == 200 and self.parser.content_type != "application/json"

    def _parse(self, stamp_ns: int, data: bytes) -> None:
        body = self.parser.feed(data)
        if body:
            self._take_body(stamp_ns, body)
        answer = self.answer
        lead = answer.lead
        self._is_alike = lead is not None and not answer.has_returns and self.parser.at_chunk and answer.between_events
        if lead is not None and self._is_alike:
            tail = answer.tail + EVENT_END
            around = lead, tail, len(lead), len(tail)
            if around != self._around:
                self._around = around
                self._around_of = {}

    def _take_body(self, stamp_ns: int, body: bytes) -> None:
        if self._is_events:
            if self.parser.content_type == "text/html":
                raise EventError("a page of HTML instead of events")
            self.answer.feed(stamp_ns, body)
        else:
            if self.parser.status == 200 or self._size <= MAX_ERROR_BODY * 4:
                self._body.append(body)


def make_record(
    sent: Sent,
    decoder: Decoder | None,
    status: RequestStatus | None,
    error: str | None,
    mask: Callable[[str | None], str | None] = lambda text: text,
) -> RequestRecord:
    """The record of a request that has ended; a status of the client's own goes before the answer's."""
    plan = sent.plan
    if decoder is None:
        return RequestRecord(
            plan.index,
            status or RequestStatus.CANCELLED,
            sent.slot,
            _seconds(sent.planned_ns),
            _seconds(sent.send_ns),
            _seconds(sent.connect_ns),
            sent.reused,
            end_s=_seconds(sent.end_ns),
            input_tokens_asked=plan.input_tokens,
            output_tokens_asked=plan.output_tokens,
            error=error,
            model=plan.model,
            session=plan.session,
        )
    decoder.end()
    answer = decoder.answer
    if status is None or (status is not RequestStatus.CANCELLED and (decoder.failure or answer.done)):
        status, error = decoder.outcome()
    if status is RequestStatus.OK and sent.first_byte_ns is not None and sent.first_byte_ns < (sent.send_ns or 0):
        status, error = RequestStatus.MALFORMED, "the answer came before the request was sent"
    asked, given = plan.output_tokens, answer.completion_tokens
    if status is RequestStatus.OK and asked is not None and given is not None and given < asked:
        status = RequestStatus.SHORT
    return RequestRecord(
        plan.index,
        status,
        sent.slot,
        _seconds(sent.planned_ns),
        _seconds(sent.send_ns),
        _seconds(sent.connect_ns),
        sent.reused,
        _seconds(sent.first_byte_ns),
        _seconds(answer.first_ns),
        _seconds(answer.output_ns),
        _seconds(answer.second_ns),
        _seconds(answer.last_ns),
        _seconds(sent.end_ns),
        plan.input_tokens,
        plan.output_tokens,
        answer.prompt_tokens,
        given,
        answer.reasoning_tokens,
        answer.n_chunks,
        answer.n_coalesced,
        answer.gaps_s,
        sent.kernel_stamps and sent.first_byte_ns is not None,
        mask(answer.finish_reason and answer.finish_reason[:MAX_REASON]),
        decoder.parser.status,
        mask(error),
        plan.model,
        plan.session,
    )


def unsent_record(plan: RequestPlan, due_ns: int | None, error: str = NOT_SENT) -> RequestRecord:
    """The record of a planned request that never went out."""
    return make_record(Sent(plan, -1, due_ns), None, None, error)


def _index(values: list[bool], value: bool, start: int) -> int:
    """Where the value comes first from `start` on, the end where it does not."""
    try:
        return values.index(value, start)
    except ValueError:
        return len(values)


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _message(body: str) -> str:
    """The message inside a JSON error, else the text's beginning."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    while isinstance(value, dict):
        inner = value.get("error", value.get("message", value.get("detail")))
        if inner is None:
            break
        value = inner
    return value if isinstance(value, str) else body
