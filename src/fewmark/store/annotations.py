"""What was found out about a measurement after it was stored. The measurement itself never changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from fewmark.core import FrozenMap, InputError

ACTIONS = ("exclude", "correct", "warn", "clear")


@dataclass(frozen=True)
class Annotation:
    """A mark on one measurement: which rule found what, and what to do about it.

    For each measurement and rule the latest mark holds; the action ``clear`` takes the earlier ones back. `changes`
    says, for the action ``correct``, which column should hold what.
    """

    measurement_id: str
    rule: str
    action: str
    reason: str = ""
    changes: FrozenMap = field(default_factory=FrozenMap)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise InputError("unknown action", got=self.action, hint=f"one of {', '.join(ACTIONS)}")
        if not isinstance(self.changes, FrozenMap):
            object.__setattr__(self, "changes", FrozenMap(self.changes))
