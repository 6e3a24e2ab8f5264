"""RQ4: how well does ALA quantify uncertainty? Predicted error, similarity and actual error of unseen tables.

The annealing and the error predictor know NVIDIA data of one Llama deployment only, the paper's own setting (Llama 3
8B on vLLM and one H100). The paper does not say against what its actual error was measured; both readings are
computed:

    transferred   the deployment's trained ALA predicts the throughput of the new table as it is (for the Llama
    subset: cells
                  that it has not trained on)
    retrained     ALA is trained on the new table's own cells, on the same subsets that the annealing tried; the
    median of
                  their errors
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from fewmark.core.errors import InputError
from fewmark.evaluation.reproduction.claims import Question, judge
from fewmark.evaluation.reproduction.deployments import DeploymentData
from fewmark.models.ala.annealing.search import Schedule, anneal
from fewmark.models.ala.annealing.subsets import SubsetSpace, median_percentage_error
from fewmark.models.ala.error_predictor import ErrorPredictor, forecast_error
from fewmark.models.ala.regressor import AlaRegressor

FloatArray = NDArray[np.float64]
PAPER: Final = {  # Table I: predicted error, confidence, actual error
    "Llama subset": (15.34, 0.99, 15.03),
    "Mistral-7B": (22.68, 0.96, 28.77),
    "Qwen2-7B on Intel PVC": (20.31, 0.67, 39.88),
}
_SEEDS: Final = 10
_SUBSET: Final = 0.3
_RETRAINED: Final = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One table of one seed; errors in percent."""

    name: str
    predicted: float
    similarity: float
    transferred: float
    retrained: float


def uncertainty(deployments: Sequence[DeploymentData], seed: int, n_jobs: int, backend: str | None) -> Question:
    """Run RQ4 with 10 seeds.

    Raises
    ------
    InputError
        If a deployment of the table is missing.
    """
    llama = _find(deployments, "Meta-Llama-3-8B", "H100", 1)
    mistral = _find(deployments, "Mistral-7B", "H100", 1)
    qwen = _find(deployments, "Qwen2-7B", "PVC", 1)
    run = delayed(_one)
    runs = Parallel(n_jobs=n_jobs, backend=backend)(
        run(llama, {"Mistral-7B": mistral, "Qwen2-7B on Intel PVC": qwen}, seed * 1000 + k) for k in range(_SEEDS)
    )
    names = list(PAPER)
    table = {name: [row for rows in runs for row in rows if row.name == name] for name in names}

    def share(holds: list[bool]) -> float:
        return float(np.mean(holds))

    def median(name: str, field: str) -> float:
        return float(np.median([getattr(row, field) for row in table[name]]))

    def tell(field: str, unit: str = "%") -> str:
        digits = 1 if unit else 2
        return ", ".join(f"{name} {median(name, field):.{digits}f}{unit}" for name in names)

    triples = list(zip(*(table[name] for name in names), strict=True))
    close = [abs(a.predicted - a.transferred) <= 5 for a, _, _ in triples]
    ordered = [a.similarity > b.similarity > c.similarity for a, b, c in triples]
    least = [c.similarity < min(a.similarity, b.similarity) for a, b, c in triples]
    claims = (
        judge(
            "For the Llama subset the predicted error is close to the actual one (15.34 and 15.03).",
            f"predicted {median(names[0], 'predicted'):.1f}%, actual {median(names[0], 'transferred'):.1f}% "
            "(close: within 5 percentage points)",
            share(close),
        ),
        judge(
            "Confidence falls from the Llama subset to Mistral-7B to Qwen2-7B on Intel PVC (0.99, 0.96, 0.67).",
            f"similarity {tell('similarity', '')}",
            share(ordered),
        ),
        judge(
            "Other hardware shows in the confidence: it is lowest for Qwen2-7B on Intel PVC.",
            f"similarity {tell('similarity', '')}",
            share(least),
        ),
        judge(
            "For Qwen2-7B on Intel PVC the predicted error is below the actual one (20.31, 39.88); transferred.",
            f"predicted {median(names[2], 'predicted'):.1f}%, actual {median(names[2], 'transferred'):.1f}%",
            share([c.predicted < c.transferred for _, _, c in triples]),
        ),
        judge(
            "The same, retrained on its own cells.",
            f"predicted {median(names[2], 'predicted'):.1f}%, actual {median(names[2], 'retrained'):.1f}%",
            share([c.predicted < c.retrained for _, _, c in triples]),
        ),
    )
    return Question(
        name="rq4",
        title="How well does ALA quantify uncertainty?",
        design=f"Annealing (1,000 iterations), error predictor and ALA know {llama.label} only, without the random "
        f"{_SUBSET:.0%} of its cells that are the Llama subset. New tables: that subset, {mistral.label}, and "
        f"{qwen.label}. {_SEEDS} seeds; medians. Actual error, transferred: the trained model predicts the new table "
        "as it is. Retrained: ALA trained on the new table's own cells, on the same subsets.",
        claims=claims,
        data={
            "rows": {
                name: {
                    field: np.array([getattr(row, field) for row in table[name]])
                    for field in ("predicted", "similarity", "transferred", "retrained")
                }
                for name in names
            },
            "paper": PAPER,
        },
    )


def _find(deployments: Sequence[DeploymentData], model: str, accelerator: str, count: float) -> DeploymentData:
    for data in deployments:
        if (
            model in data.model
            and accelerator in data.accelerator
            and data.accelerator_count == count
            and data.engine == "vLLM"
        ):
            return data
    raise InputError(
        f"the data have no {model} on vLLM and {count:g} x {accelerator}", got=f"{len(deployments)} others"
    )


def _one(llama: DeploymentData, others: dict[str, DeploymentData], seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    held = np.zeros(len(llama.y), dtype=bool)
    held[rng.permutation(len(llama.y))[: round(_SUBSET * len(llama.y))]] = True
    X, y = llama.X[~held], llama.y[~held]
    log = anneal(X, y, schedule=Schedule(), random_state=seed)
    predictor = ErrorPredictor().fit_log(log)
    model = AlaRegressor().fit(X, y)
    rows = []
    tables = {"Llama subset": (llama.X[held], llama.y[held])} | {name: (d.X, d.y) for name, d in others.items()}
    for name, (new_X, new_y) in tables.items():
        forecast = forecast_error(predictor, log, X, y, new_X, new_y)
        transferred = median_percentage_error(new_y, model.predict(new_X))
        own = (llama.X, llama.y) if name == "Llama subset" else (new_X, new_y)
        rows.append(
            Row(
                name=name,
                predicted=float(forecast.error[0]),
                similarity=float(forecast.similarity[0]),
                transferred=transferred,
                retrained=_retrained(log.subsets[log.known], log.values, *own),
            )
        )
    return rows


def _retrained(subsets: NDArray[np.bool_], values: tuple[FloatArray, ...], X: FloatArray, y: FloatArray) -> float:
    """The median error on a table of the distinct subsets tried, cut to the values that the table has."""
    space = SubsetSpace(X, y)
    ends = np.cumsum([len(v) for v in values])[:-1]
    chosen = []
    distinct = np.unique(subsets, axis=0)
    for subset in distinct[:: max(1, len(distinct) // _RETRAINED)]:
        parts = zip(values, np.split(subset, ends), space.values, strict=True)
        sets = [np.intersect1d(known[part], own) for known, part, own in parts]
        if all(len(part) for part in sets):
            chosen.append(space.subset(*sets))
    errors = np.array([found.error for found in space.evaluate_all(np.array(chosen))]) if chosen else np.empty(0)
    errors = errors[np.isfinite(errors)]
    return float(np.median(errors)) if len(errors) else float("nan")
