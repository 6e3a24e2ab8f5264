"""Why a server did not start or went away, read from the last words of its log."""

from __future__ import annotations

import re
from typing import Final

from fewmark.core import Status
from fewmark.engines.base import CaseFailure
from fewmark.engines.memory.exhaustion import speaks_of_memory

MAX_LINE: Final = 600
# No room for the KV cache is said in words of their own.
_MEMORY: Final = re.compile(
    r"no available memory for the cache|larger than the available kv cache|kv cache .{0,80}(?:not enough|too small)"
    r"|maximum number of tokens that can be stored in kv cache|not enough memory|insufficient (?:gpu |device )?memory"
    r"|cudamalloc failed|failed to (?:allocate|create) .{0,40}(?:buffer|kv cache|memory)|mem_fraction_static",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(
    r"unrecognized arguments?|no such option|unknown (?:argument|option)|unexpected (?:extra )?argument"
    r"|invalid (?:argument|choice|value)|error: argument|expected (?:one|at least one) argument"
    r"|error while handling argument|requires an argument|extra inputs are not permitted",
    re.IGNORECASE,
)
_PORT: Final = re.compile(r"address already in use|errno 98|couldn't bind", re.IGNORECASE)
# Not identifiers of a traceback's source lines, as in `send_no_error`.
_ERROR: Final = re.compile(r"\b(?:\w+(?:Error|Exception)|(?i:error|exception|fatal|failed|panic))\b")


def is_port_taken(log: str) -> bool:
    """Whether the server ended because another process has its port."""
    return _PORT.search(log) is not None


def why_ended(log: str, what: str) -> CaseFailure:
    """The failure behind a server's end.

    Parameters
    ----------
    log : str
        Its last words.
    what : str
        What it did, as in "ended with exit code 1".
    """
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    status, told = Status.CRASHED, None
    for line in reversed(lines):
        if _MEMORY.search(line) or speaks_of_memory(line):
            status, told = Status.OUT_OF_MEMORY, line
            break
        if told is None and _OPTION.search(line):
            status, told = Status.UNSUPPORTED, line
    if told is None:
        told = next(
            (line for line in reversed(lines) if _ERROR.search(line)), lines[-1] if lines else "it said nothing"
        )
    return CaseFailure(status, f"the server {what}: {told[-MAX_LINE:]}")
