"""Build `fewmark/models/auto/prior.json` from the packaged datasets: `python tools/build_prior.py`.

Takes some minutes of one core. To be run again when the datasets, the roofline or the covariance change; a test tells.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from fewmark import datasets
from fewmark.core import InputError
from fewmark.models.auto.covariance import components
from fewmark.models.auto.prior_training import learn_prior
from fewmark.models.auto.public_prior import PACKAGED, VERSION, Prior
from fewmark.tables.identity import cell_columns
from fewmark.tables.repeats import target_cells

LATENCIES = ("ttft_s", "tpot_s", "e2e_latency_s")
# the tables of a study in which single numbers were varied are in its main table or too few to teach more
TABLES = (
    ("llm-inference-bench", "main"),
    ("llm-inference-bench", "parallelism"),
    ("llm-pilot", "main"),
    ("splitwise", "main"),
)


def cells(latency: str, keep=lambda X: pd.Series(True, X.index)) -> tuple[pd.DataFrame, pd.Series]:
    """All packaged cells that have a latency and are to be kept, screened, one row each, and their values."""
    frames = []
    for name, table in TABLES:
        frame = datasets.load(name, table, screened=True)
        try:
            X, y = target_cells(frame, latency)
        except InputError:  # this table has no such latency
            continue
        names = [c for c in X if c in {*cell_columns(X), "ttft_s", "tpot_s"}]
        X = X[names].assign(seconds=y)
        frames.append(X[keep(X)])
    every = pd.concat(frames, ignore_index=True)
    every = every.drop_duplicates([name for name in every if name != "seconds"], ignore_index=True)
    return every.drop(columns="seconds").dropna(axis=1, how="all"), every["seconds"]


def build(latency: str, **options) -> Prior:
    X, seconds = cells(latency, **options)
    return learn_prior(X, seconds.to_numpy(float), latency)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=PACKAGED)
    options = parser.parse_args()
    sources = [datasets.describe(name) for name in dict.fromkeys(name for name, _ in TABLES)]
    document = {
        "version": VERSION,
        "sources": [{key: about[key] for key in ("name", "licence", "citation", "url")} for about in sources],
        "components": [component.name for component in components()],
        "latencies": {},
    }
    for latency in LATENCIES:
        prior = build(latency)
        document["latencies"][latency] = prior.to_json()
        print(f"{latency}: {len(prior.seconds)} cells of {len(prior.marks)}", file=sys.stderr, flush=True)
    options.out.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
