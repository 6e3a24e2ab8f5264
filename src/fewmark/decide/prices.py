"""Prices as data: what an accelerator costs an hour, by region, spot or not, what it draws, and what energy costs.

version: 1
currency: USD
energy_per_kwh: 0.12            # optional
accelerators:
  - name: H100                  # its words must occur in a deployment's accelerator name; the longest match wins
    per_hour: 2.99              # of one accelerator
    region: us-east             # optional
    spot: false                 # optional
    power_w: 700                # optional: drawn by one accelerator under load
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewmark.core.errors import MALFORMED, InputError
from fewmark.core.files import read_text
from fewmark.core.json_types import Json
from fewmark.facts.facts import load_facts, user_files
from fewmark.facts.identity import key_of
from fewmark.facts.names import contains, words

MAX_PER_HOUR: Final = 10_000  # of one accelerator: dearer than this is a slip of the pen in any currency of today
MAX_POWER_W: Final = 20_000
MAX_BYTES: Final = 100_000  # some thousand prices; YAML is read slowly
_HINT: Final = "see the guide on deciding for the form of a price file"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Price(_Part):
    """What one accelerator costs."""

    name: Annotated[str, Field(min_length=1, pattern=r"[A-Za-z0-9]")]
    """Words that must occur, side by side, in a deployment's accelerator name; or another spelling of that name."""
    per_hour: Annotated[float, Field(gt=0, le=MAX_PER_HOUR, allow_inf_nan=False, strict=False)]
    """Money for one accelerator for one hour."""
    region: str | None = None
    spot: bool = False
    """Whether it may be taken away at any time."""
    power_w: Annotated[float, Field(gt=0, le=MAX_POWER_W, allow_inf_nan=False, strict=False)] | None = None
    """Watts that one accelerator draws under load."""


class Prices(_Part):
    """A price file."""

    version: Literal[1] = 1
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    energy_per_kwh: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=False)] | None = None
    """Money for a kilowatt-hour, where energy is not in the price of the hour."""
    accelerators: Annotated[list[Price], Field(min_length=1)]

    def find(self, accelerator: str | None, *, region: str | None = None, spot: bool = False) -> Price | None:
        """The price of the accelerator of this name: the longest match, the cheapest of these; or in another spelling.

        Parameters
        ----------
        region : only prices of this region, and those without one; None: any
        spot : whether spot prices count, too
        """
        parts = words(accelerator or "")
        facts = load_facts(user_files())
        same = key_of("accelerator", accelerator, facts) if accelerator else None
        best: tuple[bool, int, float] | None = None
        found = None
        for price in self.accelerators:
            wanted = words(price.name)
            occurs = contains(wanted, parts)
            is_same = same is not None and key_of("accelerator", price.name, facts) == same
            if not (occurs or is_same) or (price.spot and not spot) or (region and price.region not in (None, region)):
                continue
            rank = (not occurs, -len(wanted), price.per_hour)
            if best is None or rank < best:
                best, found = rank, price
        return found

    def regions(self) -> list[str]:
        """The regions that there are prices for."""
        return sorted({price.region for price in self.accelerators if price.region})


def load_prices(path: str | Path) -> Prices:
    """Read a price file.

    Raises
    ------
    InputError
        If it cannot be read, or a value is missing, unknown or absurd; the message names the path of the key.
    """
    try:
        data = yaml.safe_load(read_text(path, max_bytes=MAX_BYTES, what="the price file"))
    except (yaml.YAMLError, *MALFORMED) as error:
        raise InputError("the price file is not readable YAML", got=f"{path}: {error}", hint=_HINT) from None
    if not isinstance(data, dict):
        raise InputError("a price file is a mapping of keys", got=data, hint=_HINT)
    try:
        return Prices.model_validate(data)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg'].lower()}" for p in error.errors(include_url=False)[:5]]
        raise InputError("the price file is wrong\n  " + "\n  ".join(problems), got=str(path), hint=_HINT) from None


def price_schema() -> dict[str, Json]:
    """The JSON Schema of a price file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Prices.model_json_schema()
