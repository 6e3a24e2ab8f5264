"""What inference-perf was asked for, from the ``config.yaml`` beside its reports; and the numbers of their stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from fewmark.core.json_types import JsonObject
from fewmark.interop.results.run_rows import RunRow, count, nested, number, positive, text

TOOL: Final = "inference_perf"
STAGE: Final = re.compile(r"(.*)stage_(\d+)_lifecycle_metrics\.json")
_ENGINES: Final = {"vllm": "vllm", "sglang": "sglang", "tgi": "tgi"}
_REACHED: Final = 0.9  # of a rate asked for, below which it was not sent


def stage_number(path: Path) -> int | None:
    """The number in a stage's file name; None if it is no stage's."""
    found = STAGE.fullmatch(path.name)
    return int(found.group(2)) if found else None


def stage_files(folder: Path, prefix: str = "") -> list[Path]:
    """The stages' files of a folder by their numbers, of one run's prefix."""
    try:
        found = [(int(match.group(2)), path) for path in folder.iterdir() if (match := STAGE.fullmatch(path.name))]
    except OSError:
        return []
    return [path for _, path in sorted(found) if path.name.startswith(prefix)]


def put_server(row: RunRow, settings: JsonObject) -> None:
    """Set the model and the engine."""
    row.say("model", nested(settings, "server", "model_name"))
    kind = text(nested(settings, "server", "type"))
    if kind in _ENGINES:
        row.say("engine", _ENGINES[kind])


def put_stage_load(row: RunRow, load: JsonObject, settings: JsonObject, stage: int | None) -> None:
    """Set the load of one stage.

    A concurrent stage also has a ``requested_rate``, which is the number of its requests (all are queued within one
    second), so a concurrency goes first.
    """
    n = count(load.get("count")) or 0
    asked = nested(settings, "load", "stages", stage) if stage is not None else None
    closed = text(nested(settings, "load", "type")) == "concurrent"
    level = count(load.get("concurrency")) or (count(nested(asked, "concurrency_level")) if closed else None)
    if level:
        row.cells["concurrency"] = min(level, n) if n else level
        if n and n < level:
            row.note(f"only {n} requests were sent with a concurrency of {level}")
        return
    rate, achieved = positive(load.get("requested_rate")), positive(load.get("achieved_rate"))
    if rate is None:
        row.note("the file does not say the load")
        return
    late = achieved is not None and achieved < _REACHED * rate
    if closed or (late and number(load.get("requested_rate")) == n and not settings):
        row.note(f"a requested rate of {rate:g} req/s for {n} requests may be a concurrent stage's: load unknown")
        return
    row.cells["request_rate"] = rate
    if late:
        row.note(f"{achieved:.3g} req/s were sent where {rate:g} were asked for")
