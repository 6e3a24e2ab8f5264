"""Text from outside made fit to be shown or kept: bounded, without control characters, without secrets."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Final, overload

from fewmark.core.json_types import Json, JsonObject

MASK: Final = "***"
NAMED_VARIABLE: Final = "FEWMARK_SECRETS"  # names of further variables whose values are secret, with commas between
MIN_SECRET: Final = 6  # letters; a shorter value occurs by chance
# Values that look like keys, whatever they are called: the issuers' own prefixes, bearer tokens, passwords in URLs.
_SECRETS: Final = re.compile(
    r"(?P<url>(?<=://)[^\s/:@]{0,200}:)[^\s/@]{1,500}(?=@)"
    r"|(?P<bearer>\bbearer\s+)[\w.~+/=-]{8,}"
    r"|(?P<named>\b[\w-]*(?:api[_-]?key|secret|passw(?:or)?d|access[_-]?token|auth[_-]?token|hf[_-]?token|private[_-]?key)"
    r"[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]{4,}"
    r"|\b(?:sk|pk|rk)-[\w-]{16,}"
    r"|\bhf_[A-Za-z0-9]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_\w{20,}"
    r"|\bxox[abprs]-[\w-]{10,}"
    r"|\bglpat-[\w-]{16,}"
    r"|\bnvapi-[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}",
    re.IGNORECASE,
)
_SECRET_NAME: Final = re.compile(
    r"(?:^|[_-])(?:(?:api|access|secret|private|auth)[_-]?key|token|secret|passw(?:or)?d|credentials?|authorization|cookie)$",
    re.IGNORECASE,
)


class _Brief(reprlib.Repr):
    """A repr whose cost does not grow with the value's size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxarray = 40
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 6, 300, 300, 60

    def repr1(self, x: object, level: int) -> str:
        item = getattr(x, "item", None)
        if getattr(x, "ndim", None) == 0 and callable(item):
            x = item()  # an array library's number: a reader is told 8.0, not np.float64(8.0)
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        digits = int(x.bit_length() * 0.30103)
        return repr(x) if digits < self.maxlong else f"a whole number of about {digits} digits"


_BRIEF: Final = _Brief()


def counted(n: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def encodable(text: str) -> str:
    """The text with halves of characters, which only JSON can carry and no table can hold, as U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def brief(value: object) -> str:
    """The value's repr, cut where it is long or deep. Never raises."""
    try:
        return _BRIEF.repr(value)
    except Exception as error:  # a repr of a third party's value, or one that cannot be told
        return f"<{type(value).__name__}: {type(error).__name__}>"


def printable(text: str) -> str:
    """The text with what steers a terminal, or reverses what is read, written as ``\\\\uXXXX``; line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else f"\\u{ord(c):04x}" for c in text)


def without_secrets(text: str) -> str:
    """The text with what looks like a key, a token or a password masked, and what environment variables hold as one."""
    return _without(text, _held_secrets())


def _without(text: str, held: list[str]) -> str:
    for secret in held:
        text = text.replace(secret, MASK)
    return _SECRETS.sub(lambda found: (found["url"] or found["bearer"] or found["named"] or "") + MASK, text)


def _held_secrets() -> list[str]:
    """The values of environment variables that are secret by their name, or named in ``FEWMARK_SECRETS``."""
    named = {name.strip() for name in os.environ.get(NAMED_VARIABLE, "").split(",")}
    held = (value for name, value in os.environ.items() if name in named or is_secret_name(name))
    return sorted({value for value in held if len(value) >= MIN_SECRET}, key=len, reverse=True)


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable or option of this name holds a secret: ``OPENAI_API_KEY``, ``token``, ``db-password``."""
    return _SECRET_NAME.search(name) is not None


@overload
def masked(value: JsonObject) -> dict[str, Json]: ...


@overload
def masked(value: Json) -> Json: ...


def masked(value: Json) -> Json:
    """A JSON value with secrets masked: texts that look like one, and what stands under a name that says so."""
    return _masked(value, cache(_held_secrets))  # asked for once, by the first text


def _masked(value: Json, held: Callable[[], list[str]]) -> Json:
    if isinstance(value, str):
        return _without(value, held())
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(item, str) and item and is_secret_name(str(key)) else _masked(item, held)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_masked(item, held) for item in value]
    return value


def _steers(character: str) -> bool:
    code = ord(character)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or code in (0x061C, 0x200E, 0x200F, 0x2028, 0x2029)
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        or 0xD800 <= code <= 0xDFFF
    )
