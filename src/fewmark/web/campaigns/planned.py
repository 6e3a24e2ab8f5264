"""The space of a plan as a suite, and which deployments may be started from the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
import yaml

from fewmark.core import Deployment
from fewmark.core.columns import LOAD_COLUMNS
from fewmark.core.errors import InputError
from fewmark.store import Store
from fewmark.tables.columns import load_kind_of
from fewmark.web.knowledge import Snapshot

IDS: Final = "deployment_id"
TITLE: Final = "A plan of the app"


def planned_suite(
    store: Store, snapshot: Snapshot, keys: Sequence[str], pairs: Sequence[Sequence[float]], loads: Sequence[float]
) -> str:
    """The suite (YAML) of every chosen deployment at every pair of lengths and every load.

    Parameters
    ----------
    snapshot : what is known of the store
    keys : of deployments
    pairs : tokens in and out

    Raises
    ------
    InputError
        If the deployments were measured under loads of several kinds, or their rows are not of a store.
    """
    deployments = snapshot.deployments
    rows = [snapshot.table.iloc[deployments.rows(at)] for at in deployments.chosen(keys, len(keys))]
    kinds = {LOAD_COLUMNS[int(load_kind_of(of.iloc[[0]])[0])] for of in rows}
    if len(kinds) > 1:
        raise InputError(
            "deployments under loads of several kinds are several suites", got=", ".join(sorted(kinds)),
            hint="choose those of one kind",
        )  # fmt: skip
    known = {one.deployment_id: one for one in store.deployments()}
    ids = dict.fromkeys(str(key) for of in rows for key in of.get(IDS, pd.Series(dtype=object)) if key in known)
    if not ids:
        raise InputError("these cells are of no deployment of the store", hint="fewmark serve STORE")
    load = kinds.pop()
    document = {
        "title": TITLE,
        "deployments": [dict(known[key].to_dict()) for key in ids],
        "cells": [
            {
                "zip": {
                    "input_tokens": [_whole(a) for a, _ in pairs],
                    "output_tokens": [_whole(b) for _, b in pairs],
                },
                "grid": {load: [value if load == "request_rate" else _whole(value) for value in loads]},
            }
        ],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def not_run_here(store: Store, suite_text: str) -> list[str]:
    """The labels of the suite's deployments of which nothing was run into the store.

    A row of a file may name any program as an option of its engine; only what this machine's owner has run before is
    started by a request.
    """
    asked = [Deployment.from_dict(one) for one in yaml.safe_load(suite_text)["deployments"]]
    wanted = {one.deployment_id: one for one in asked}
    table = store.table()
    ids: dict[str, list[str]] = {key: [] for key in wanted}
    for key, measurement in zip(table[IDS], table["measurement_id"], strict=True):
        if key in ids:
            ids[key].append(measurement)
    found = []
    for key, measurements in ids.items():
        imported = store.origins(measurements)
        if not any(one not in imported for one in measurements):
            found.append(wanted[key].label)
    return found


def _whole(value: float) -> int:
    if value != int(value):
        raise InputError("tokens, batch sizes and users are whole numbers", got=value)
    return int(value)
