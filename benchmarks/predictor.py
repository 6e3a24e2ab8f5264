"""How long `auto` takes to learn, answer, take in one more measurement and load, beside two known regressors.

    python benchmarks/predictor.py --json OUT [--cells 3000] [--large 100000] [--predictions 1000000]

The peers see the same cells as numbers (scikit-learn's exact Gaussian process with an anisotropic kernel on up to 3,000
cells, XGBoost with its defaults) and give a point only. Wall and CPU seconds are both written: a busy machine shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewmark.facts.facts import load_facts
from fewmark.models.auto.features import Encoder, featurise
from fewmark.models.auto.latency_gp import LatencyGP

LENGTHS = (128, 256, 512, 1024, 2048)
BATCHES = (1, 4, 16, 32, 64)
MODELS = ("llama-2-7b", "qwen2-7b", "mistral-7b", "llama-3-8b", "llama-3-70b", "mixtral-8x7b")
ACCELERATORS = ("A100", "H100", "MI250", "Gaudi2", "L40S", "H200")


def world(n_cells: int, seed: int = 0) -> pd.DataFrame:
    """Cells of many deployments on a roofline with effects and noise; the throughput is in column y."""
    rng = np.random.default_rng(seed)
    per = len(LENGTHS) * len(BATCHES)
    count = -(-n_cells // per)
    options = [
        (f"engine-{e}", m, a, float(d)) for e in range(40) for m in MODELS for a in ACCELERATORS for d in (1, 2, 4)
    ]
    picked = [options[i] for i in rng.permutation(len(options))[:count]]
    cells = pd.DataFrame(
        [(*who, float(n), float(n), float(b)) for who in picked for n in LENGTHS for b in BATCHES],
        columns=["engine", "model", "accelerator", "accelerator_count", "input_tokens", "output_tokens", "batch_size"],
    ).head(n_cells)
    table = featurise(cells, "throughput_tok_s", load_facts(), Encoder())
    codes = table.inputs.codes
    level = sum(0.2 * rng.standard_normal(codes[:, g].max() + 1)[codes[:, g]] for g in (0, 1, 2))
    slope = 0.03 * rng.standard_normal(codes[:, 4].max() + 1)[codes[:, 4]] * (table.axes[:, 2] - 3)
    latency = table.log_roofline + level + slope + 0.01 * rng.standard_normal(len(cells))
    return cells.assign(y=np.exp(table.to_latency - latency))


def timed(action: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall and CPU seconds of an action, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}, result


def many(cells: pd.DataFrame, count: int) -> pd.DataFrame:
    """Cases over the deployments of the cells, with lengths and batch sizes in between."""
    rng = np.random.default_rng(1)
    who = cells.drop_duplicates(["engine", "model", "accelerator", "accelerator_count"])
    cases = who.iloc[rng.integers(0, len(who), count)].drop(columns="y").reset_index(drop=True)
    for column, high in (("input_tokens", 11), ("output_tokens", 11), ("batch_size", 6)):
        cases[column] = np.round(2 ** rng.uniform(7 if high == 11 else 0, high, count))
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--large", type=int, default=100_000, help="0 leaves it out")
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--skip-peers", action="store_true")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}

    def note(name: str, action: Callable[[], Any]) -> Any:
        figures[name], result = timed(action)
        print(f"{name:42s} {figures[name]['wall_s']:9.3f} s wall {figures[name]['cpu_s']:9.3f} s CPU", flush=True)
        return result

    cells = world(options.cells)
    y = cells.y.to_numpy()
    model = note(f"fit {options.cells} cells", lambda: LatencyGP().fit(cells, y))
    note("fit again, hyperparameters known", lambda: model.refit(cells, y))
    note("first interval (calibrates)", lambda: model.predict_interval(cells.head(1)))
    model.predict_interval(cells)
    cases = many(cells, options.predictions)
    note(f"predict {options.predictions} with intervals", lambda: model.predict_interval(cases))
    one = cells.head(1).assign(input_tokens=700.0)
    note("add one measurement", lambda: model.add(one, y[:1]))
    state, arrays = model.to_state()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        np.savez(path, **arrays)
        text = json.dumps(state)

        def load() -> LatencyGP:
            with np.load(path, allow_pickle=False) as file:
                return LatencyGP.from_state(json.loads(text), dict(file))

        note("load", load)
    sizes = [n for n in (10_000, 30_000, options.large) if 0 < n <= options.large]
    for n in sizes:
        big = world(n)
        note(f"fit {n} cells", lambda big=big: LatencyGP().fit(big, big.y.to_numpy()))
    ratios: dict[str, float] = {}
    if not options.skip_peers:
        ratios = _peers(cells, y, model, note, figures, options.cells)
    if options.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"figures": figures, "ratios": ratios, **machine}, indent=2) + "\n")
    return 0


def _peers(
    cells: pd.DataFrame, y: np.ndarray, model: LatencyGP, note: Callable[..., Any], figures: dict[str, Any], n: int
) -> dict[str, float]:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from xgboost import XGBRegressor

    table = featurise(cells, "throughput_tok_s", load_facts(), Encoder())
    features = np.hstack([table.inputs.values[:, :10], np.eye(table.inputs.codes.max() + 1)[table.inputs.codes[:, 0]]])
    target = np.log(y)
    kernel = RBF(np.ones(features.shape[1])) + WhiteKernel(1e-4)
    peer = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True)
    note("scikit-learn exact GP, no learning", lambda: peer.fit(features, target))
    note("XGBoost", lambda: XGBRegressor(n_jobs=1).fit(features, target))
    fit = figures[f"fit {n} cells"]["cpu_s"]
    ratios = {
        "fit / scikit-learn's GP given its hyperparameters": fit
        / figures["scikit-learn exact GP, no learning"]["cpu_s"],
        "fit / XGBoost": fit / figures["XGBoost"]["cpu_s"],
    }
    for name, value in ratios.items():
        print(f"{name:60s} {value:8.2f}")
    return ratios


if __name__ == "__main__":
    sys.exit(main())
