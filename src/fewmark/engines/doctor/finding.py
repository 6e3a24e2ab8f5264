"""What a check found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
BAD: Final = "bad"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer: `verdict` is ok, warn, bad or unknown; `seen` says what was there, `advice` what to do."""

    name: str
    verdict: str
    seen: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON values; an empty advice is left out."""
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Finding:
        """The finding behind `to_dict`, of this version or another: unknown keys are passed over."""
        return cls(**{name: str(data.get(name, "")) for name in ("name", "verdict", "seen", "advice")})
