"""Shares and probabilities that are asked for: fractions, not percent."""

from __future__ import annotations

from fewmark.core.errors import FewmarkError, InputError


def require_fraction(what: str, value: float, *, error: type[FewmarkError] = InputError) -> None:
    """Raise `error` unless a value lies strictly between 0 and 1; a value in percent gets the fraction as its hint."""
    if 0 < value < 1:
        return
    hint = f"{value / 100:g} is {value:g}%" if 1 < value < 100 else "0.9 is 90%"
    raise error(f"{what} must be a fraction between 0 and 1", got=value, hint=hint)
