"""What somebody may have meant by a name that is unknown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

MAX_NAME: Final = 80  # letters of a name that are compared


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A hint: up to three names that look like the one given, or else all that there are."""
    spelled = {re.sub(r"[^a-z0-9]+", "-", other.lower()): other for other in known}
    asked = re.sub(r"[^a-z0-9]+", "-", name[:MAX_NAME].lower())
    near = [other for spelling, other in spelled.items() if asked and spelling.startswith(asked)]
    near += [spelled[found] for found in difflib.get_close_matches(asked, list(spelled), 3, cutoff)]
    near = list(dict.fromkeys(near))[:3]
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(spelled.values())}"
