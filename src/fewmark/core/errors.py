"""The one error tree. Each error says what is wrong, what was given, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from fewmark.core.text import brief, printable, without_secrets

# How parsers of JSON, numbers and the like fail on bad input, beside errors of their own.
MALFORMED = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    *(EOFError, NotImplementedError, AssertionError),
)
MAX_SHOWN = 300  # characters of what was given
MAX_WHAT = 4000  # characters of each other part: some list what was found wrong, line by line


class FewmarkError(Exception):
    """Base of every error that fewmark raises on purpose.

    Parameters
    ----------
    what : str
        What must hold, or what went wrong.
    got : object, optional
        What was given instead.
    hint : str, optional
        What to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, got: object = None, hint: str | None = None) -> None:
        self.what = what
        self.got = got
        self.hint = hint
        super().__init__(what)  # the whole message, which costs a look at every variable, is made when it is asked for

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        lines = [_part(self.what)]
        if self.got is not None:
            lines.append(f"  got:  {_shorten(self.got)}")
        if self.hint:
            lines.append(f"  hint: {_part(self.hint)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | None]:
        """The parts as text for whoever is told: what, got, hint."""
        got = None if self.got is None else _shorten(self.got)
        return {"what": _part(self.what), "got": got, "hint": _part(self.hint) if self.hint else None}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.got, self.hint))


@contextmanager
def malformed_as(kind: type[FewmarkError], what: str, *, got: object = None, hint: str | None = None) -> Iterator[None]:
    """Turn whatever a parser raises on bad input into one error of the tree; what is of the tree passes as it is.

    `got` names the input; why it cannot be read is added.
    """
    try:
        yield
    except FewmarkError:
        raise
    except MemoryError:
        raise kind(what, got=f"{got}: reading it needs more memory than there is", hint=hint) from None
    except MALFORMED as error:
        reason = f"{type(error).__name__}: {brief(error.args[0]) if error.args else ''}"
        raise kind(what, got=reason if got is None else f"{got}: {reason}", hint=hint) from None


class InputError(FewmarkError):
    """The request was wrong: an option, a value, a table, a file."""


class FormatError(InputError):
    """A file cannot be read as the format that it should have."""


class NothingMeasuredError(FormatError):
    """There is a table or a store, and no measurement in it."""


class SuiteError(InputError):
    """A suite file is wrong; the message names the path of the key."""


class StoreError(FewmarkError):
    """The store cannot be opened, read or written."""


class EngineError(FewmarkError):
    """An engine is unknown, not installed, or cannot run here."""


class ModelError(FewmarkError):
    """A model is unknown, cannot be fitted on what it was given, or cannot be loaded."""


def _rebuild(kind: type[FewmarkError], what: str, got: object, hint: str | None) -> FewmarkError:
    return kind(what, got=got, hint=hint)


def _part(text: str) -> str:
    cut = text if len(text) <= MAX_WHAT else text[: MAX_WHAT - 1] + "…"
    return printable(without_secrets(cut))


def _shorten(value: object) -> str:
    if isinstance(value, PurePath):  # as it is typed, not as Python writes it
        value = str(value)
    text = value[: 4 * MAX_WHAT] if isinstance(value, str) else brief(value)
    text = printable(without_secrets(" ".join(text.split())))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
