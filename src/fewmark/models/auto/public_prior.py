"""What public measurements teach `auto` before a user has measured much: hyperparameters and representative cells.

The file `prior.json` beside this module holds, for each of the three latencies, the cells of the packaged datasets,
the hyperparameters learned from them, and those of folds that never saw some of the deployments, which calibrate. The
cells of the nearest relatives are joined to a user's own; the packaged cells count as deployments of their own, related
by engine, accelerator and model. They join only if they foretell the user's cells better than the roofline does.

A prior must not be asked about what it has seen. `Prior.has_seen` compares values, not names: a table of which more
than a few cells are packaged ones, to five digits, is fitted without the prior.

The file is built by `python tools/build_prior.py`; the measurements are those of `fewmark.datasets`, whose folders hold
their licences and citations, named again in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewmark.core.columns import OPTION_PREFIX
from fewmark.facts.facts import AcceleratorFacts, Facts, ModelFacts, weight_bytes
from fewmark.models.auto.covariance import components
from fewmark.models.state import State, listed, part, table
from fewmark.tables.arrays import FloatArray

VERSION: Final = 1
PACKAGED: Final = Path(__file__).with_name("prior.json")
MAX_OWN_CELLS: Final = 300  # of a table that public cells may join; more speak for themselves
MAX_PUBLIC_CELLS: Final = 300  # that join a table
CHANCE_SHARE: Final = 0.05  # of a table's cells that may be packaged ones by chance
ORIGIN: Final = f"{OPTION_PREFIX}origin"
AXES: Final = ("input_tokens", "output_tokens")


@dataclass(frozen=True)
class Prior:
    """What is known of one latency.

    Attributes
    ----------
    cells : the n packaged cells: canonical columns of the cell, and `ttft_s` and `tpot_s` where known
    seconds : (n,) the latency
    fold : (n,) which of the calibrating hyperparameters, from 1 on, never saw the cell's deployment
    theta, log_scale : (1 + k, t) and (1 + k,) the hyperparameters that predict, then those that calibrate
    marks : fingerprints of all packaged measurements of this latency
    """

    cells: pd.DataFrame
    seconds: FloatArray
    fold: NDArray[np.int64]
    theta: FloatArray
    log_scale: FloatArray
    marks: frozenset[str]

    def has_seen(self, X: pd.DataFrame, seconds: FloatArray) -> bool:
        """Whether a table's cells are packaged ones."""
        found = [mark in self.marks for mark in fingerprints(X, seconds)]
        return sum(found) > CHANCE_SHARE * len(found)

    def related(self, X: pd.DataFrame, facts: Facts) -> tuple[pd.DataFrame, NDArray[np.intp]]:
        """At most `MAX_PUBLIC_CELLS` cells of the nearest relatives of the deployments in X, and which ones.

        They take over the names that X uses for what published facts say is the same accelerator or model.
        """
        out = self.cells.assign(**{ORIGIN: "packaged"})
        for column, known in (("accelerator", facts.accelerator), ("model", facts.model)):
            if column not in X:
                continue
            out[column] = out[column].replace(
                _renamed(out[column].dropna().unique(), map(str, X[column].dropna().unique()), known)
            )
        score = np.zeros(len(out))
        for column, weight in (("accelerator", 4), ("model", 2), ("engine", 1)):
            if column in X:
                met = {str(name).lower() for name in X[column].dropna()}
                score += weight * out[column].astype(str).str.lower().isin(met).to_numpy()
        rows = np.sort(np.argsort(-score, kind="stable")[:MAX_PUBLIC_CELLS])
        return out.iloc[rows], rows

    def to_json(self) -> State:
        """JSON-ready values."""
        cells = self.cells.astype(object).where(self.cells.notna(), None)
        return {
            "cells": {str(name): cells[name].tolist() for name in cells},
            "seconds": [float(f"{value:.6g}") for value in self.seconds],
            "fold": self.fold.tolist(),
            "theta": np.round(self.theta, 6).tolist(),
            "log_scale": np.round(self.log_scale, 6).tolist(),
            "marks": sorted(self.marks),
        }


def _renamed(
    public: Iterable[str], asked: Iterable[str], known: Callable[[str], ModelFacts | AcceleratorFacts]
) -> dict[str, str]:
    """For each public name the one asked for that published facts say is the same, of weights of the same precision."""

    def kind(name: str) -> tuple[str, float]:
        return repr(known(name)), weight_bytes(None, name)

    theirs = {kind(name): name for name in asked if known(name).known}
    return {name: theirs.get(kind(name), name) for name in public}


def fingerprints(X: pd.DataFrame, seconds: FloatArray) -> list[str]:
    """What tells a measurement: its lengths, its load and its value to five digits."""
    batch, users = (
        pd.to_numeric(X[name], errors="coerce").to_numpy(float) if name in X else np.full(len(X), np.nan)
        for name in ("batch_size", "concurrency")
    )
    load = np.where(np.isnan(batch), users, batch)
    lengths = X[list(AXES)].to_numpy(float)
    rows = zip(lengths.tolist(), load.tolist(), seconds.tolist(), strict=True)
    return [f"{ii:g},{oo:g},{bb:g},{value:.4e}" for (ii, oo), bb, value in rows]


def packaged_prior(latency: str) -> Prior | None:
    """The packaged prior of a latency; None where the file is of another version of the covariance."""
    document = _document(PACKAGED)
    if document.get("version") != VERSION or document.get("components") != [
        component.name for component in components()
    ]:
        return None
    latencies = part(document, "latencies")
    return read(part(latencies, latency)) if latency in latencies else None


def measured_in_public(X: pd.DataFrame, y: FloatArray, target: str) -> bool:
    """Whether a table's values of a target (or what they imply) are packaged ones."""
    from fewmark.tables.metrics import latency_and_seconds

    latency, seconds = latency_and_seconds(X, y, target)
    found = packaged_prior(latency)
    return found is not None and found.has_seen(X, seconds)


def public_relatives(X: pd.DataFrame, target: str) -> pd.DataFrame:
    """Public measurements to begin with where nothing was measured: a canonical table with the target, no row or some.

    The nearest relatives of the deployments in X, if any of those runs on an accelerator that is public: on one that
    is not, the roofline foretells as well.
    """
    from fewmark.facts.facts import load_facts, user_files
    from fewmark.tables.metrics import latency_and_seconds

    found = packaged_prior(latency_and_seconds(X, np.ones(len(X)), target)[0])
    if found is None or "accelerator" not in X:
        return pd.DataFrame()
    cells, rows = found.related(X, load_facts(user_files()))
    if not set(cells["accelerator"].dropna()) & set(X["accelerator"].dropna()):
        return pd.DataFrame()
    _, values = latency_and_seconds(cells, found.seconds[rows], target)  # a rate and its latency turn alike
    return cells.reset_index(drop=True).assign(**{target: values})


@lru_cache(maxsize=1)
def _document(path: Path) -> State:
    document: State = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return document


def read(found: State) -> Prior:
    """The prior behind `Prior.to_json`."""
    return Prior(
        table(found, "cells"), np.array(found["seconds"]), np.array(found["fold"], dtype=np.int64),
        np.array(found["theta"]), np.array(found["log_scale"]), frozenset(map(str, listed(found, "marks"))),
    )  # fmt: skip
