"""The one error tree. Each error says what is wrong, what was given, and what to do about it."""

from __future__ import annotations


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
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        if self.got is not None:
            lines.append(f"  got:  {_shorten(self.got)}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.got, self.hint))


class InputError(FewmarkError):
    """The request was wrong: an option, a value, a table, a file."""


class FormatError(InputError):
    """A file cannot be read as the format that it should have."""


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


def _shorten(value: object, limit: int = 300) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
