"""What is written of a campaign in its folder: what was asked, each step, how it ended. All of it outlives a server."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, Literal

from fewmark.core.errors import InputError
from fewmark.core.files import write_file
from fewmark.core.json_types import JsonObject
from fewmark.suites import Suite, load_suite

REQUEST: Final = "request.json"
SUITE: Final = "suite.yaml"
STEPS: Final = "steps.jsonl"
END: Final = "end.json"
LOG: Final = "log.txt"
PROCESS: Final = "process.txt"
STOPPED: Final = "stopped"
NAME: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
MOST_LOG: Final = 64 << 10  # bytes of its end that are shown
State = Literal["running", "ended", "broken"]


@dataclass(frozen=True)
class Request:
    """What was asked of a campaign. `suite` is a catalogue's name or a file; `price_per_h` is of the whole machine."""

    suite: str
    target: str
    model: str
    prior: bool
    budget: str | None
    target_error: float | None
    price_per_h: float | None
    created_at: str


@dataclass(frozen=True)
class CampaignFolder:
    """One campaign."""

    path: Path

    @property
    def name(self) -> str:
        """Its name, which begins with when it was created."""
        return self.path.name

    @cached_property
    def request(self) -> Request:
        """What was asked. Raises `InputError` if the folder holds no such thing."""
        try:
            return Request(**json.loads((self.path / REQUEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError("this is no campaign's folder", got=f"{self.name}: {error}") from None

    @property
    def suite(self) -> Suite:
        """The suite. Raises `SuiteError`."""
        return _suite(self.request.suite if self.request.suite != SUITE else str(self.path / SUITE))

    def write_request(self, request: Request) -> None:
        """Keep what is asked, durably."""
        write_file(self.path / REQUEST, json.dumps(asdict(request), indent=1))

    def add_step(self, step: JsonObject) -> None:
        """Keep a step; a line that a kill cut off is passed over by `steps`."""
        with (self.path / STEPS).open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(step))

    def steps(self) -> list[dict[str, float | None]]:
        """Every step so far."""
        out = []
        with contextlib.suppress(OSError):
            for line in (self.path / STEPS).read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    if line:
                        out.append(json.loads(line))
        return out

    def write_end(self, end: JsonObject) -> None:
        """Keep how it ended, durably."""
        write_file(self.path / END, json.dumps(end, indent=1))

    def end(self) -> JsonObject | None:
        """How it ended: ``ended`` and ``words``, or ``problem``; None where it has not, or was killed."""
        try:
            found: JsonObject = json.loads((self.path / END).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def log(self) -> str:
        """The end of its log."""
        try:
            with (self.path / LOG).open("rb") as stream:
                stream.seek(0, 2)
                stream.seek(max(stream.tell() - MOST_LOG, 0))
                return stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ""


def campaign_folders(parent: Path) -> Iterator[CampaignFolder]:
    """Every campaign below a folder, the newest first."""
    try:
        names = sorted((path.name for path in parent.iterdir() if NAME.fullmatch(path.name)), reverse=True)
    except OSError:
        return
    for name in names:
        if (parent / name / REQUEST).is_file():
            yield CampaignFolder(parent / name)


@lru_cache(maxsize=16)
def _suite(name: str) -> Suite:
    return load_suite(name)
