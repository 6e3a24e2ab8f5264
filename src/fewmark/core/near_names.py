"""What somebody may have meant by a name that is unknown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

MAX_NAME: Final = 80  # letters of a name that are compared


def near_names(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Up to three names that begin with the one given or look like it, the likeliest first."""
    spelled = {re.sub(r"[^a-z0-9]+", "-", other.lower()): other for other in known}
    asked = re.sub(r"[^a-z0-9]+", "-", name[:MAX_NAME].lower())
    near = [other for spelling, other in spelled.items() if asked and spelling.startswith(asked)]
    near += [spelled[found] for found in difflib.get_close_matches(asked, list(spelled), 3, cutoff)]
    return list(dict.fromkeys(near))[:3]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint: the names that look like the one given, or else all that there are."""
    near = near_names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
