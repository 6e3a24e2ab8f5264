"""An experiment file of llm-d-benchmark for a plan: a run treatment a cell, for its harness ``vllm-benchmark``.

Its runtime reads ``experiment`` (name, harness, profile) and ``treatments``: each a name and the profile's keys to
override. ``design`` is for people. A file is of one deployment, the stack that stands; several make a folder.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import yaml

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.core.json_types import Json
from fewmark.interop.exports.base import CELLS, Row, by_deployment, folder, known_rows, load_of, require, slug

_TYPES: Final = {"concurrency": "max-concurrency", "request_rate": "request-rate"}


@dataclass(frozen=True)
class LlmdTreatments:
    """Treatments for a profile of the harness; `prompts` for each request in flight, or each request a second."""

    profile: str = "random_concurrent.yaml"
    prompts: int = 10

    name = "llmd-treatments"
    description = "llm-d-benchmark's experiment file of a plan's cells (OUT is a folder for several deployments)"
    takes = CELLS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The cells with a concurrency or a request rate."""
        rows = [row for row in known_rows(frame) if load_of(row)[0] in _TYPES]
        if not rows:
            raise InputError("llm-d's treatments are loads on a server", got="no concurrency or request_rate")
        for row in rows:
            require(row, ("input_tokens", "output_tokens"), "a treatment")
        groups = list(by_deployment(rows).values())
        if len(groups) == 1:
            write_file(out, self._text(groups[0], Path(out).stem))
            return len(rows)
        if out.endswith((".yaml", ".yml")):
            raise InputError("an experiment file is of one deployment", got=len(groups), hint="name a folder instead")
        place = folder(out)
        for number, cells in enumerate(groups, start=1):
            name = slug(number, str(cells[0].get("model", "model")).rsplit("/", 1)[-1], cells[0].get("accelerator"))
            write_file(place / f"{name}.yaml", self._text(cells, name))
        return len(rows)

    def _text(self, rows: list[Row], name: str) -> str:
        first = rows[0]
        about = ", ".join(str(first[key]) for key in ("model", "engine", "accelerator") if key in first)
        document: dict[str, Json] = {
            "experiment": {
                "name": name,
                "description": f"Cells to measure next: {about}" if about else "Cells to measure next",
                "harness": "vllm-benchmark",
                "profile": self.profile,
            },
            "design": {"type": "sequential", "total_treatments": len(rows)},
            "treatments": _named_apart([self._treatment(row) for row in rows]),
        }
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)

    def _treatment(self, row: Row) -> dict[str, Json]:
        kind, load = load_of(row)
        out: dict[str, Json] = {
            "name": slug("isl", row["input_tokens"], "osl", row["output_tokens"], kind, load),
            "dataset-name": "random",
            "random-input-len": row["input_tokens"],
            "random-output-len": row["output_tokens"],
            _TYPES[kind]: load,
            "num-prompts": max(1, round(self.prompts * load)),
        }
        if kind == "concurrency":
            out["request-rate"] = "inf"
        return out


def _named_apart(treatments: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The treatments with a number where two have one name; results are kept by names."""
    seen: Counter[str] = Counter()
    for treatment in treatments:
        name = str(treatment["name"])
        seen[name] += 1
        if seen[name] > 1:
            treatment["name"] = f"{name}-{seen[name]}"
    return treatments
