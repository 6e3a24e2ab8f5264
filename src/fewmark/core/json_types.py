"""Types of JSON: what `json.loads` may give, and what `json.dumps` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""A JSON value, to be read but not changed in place."""

JsonObject: TypeAlias = Mapping[str, Json]
"""A JSON object as it was read: nothing is known of its values until they are looked at."""
