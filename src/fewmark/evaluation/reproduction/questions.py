"""The four questions in turn."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from fewmark.evaluation.reproduction.claims import Question
from fewmark.evaluation.reproduction.deployments import read_deployments
from fewmark.evaluation.reproduction.effectiveness import effectiveness
from fewmark.evaluation.reproduction.families import families
from fewmark.evaluation.reproduction.training_sets import training_sets
from fewmark.evaluation.reproduction.uncertainty import uncertainty


def reproduce_ala(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    n_jobs: int = 1,
    backend: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Question]:
    """Run RQ1-RQ4 of the ALA paper on a table.

    Parameters
    ----------
    table : DataFrame
        Canonical columns with batch_size and throughput_tok_s; the packaged LLM-Inference-Bench, screened.
    seed : int
    n_jobs, backend : as `joblib.Parallel` takes them
    progress : function, called with what is being done

    Raises
    ------
    InputError
        If the table lacks a deployment that a question is about.
    """
    deployments = read_deployments(table)
    runs: tuple[Callable[[], Question], ...] = (
        lambda: training_sets(deployments, seed),
        lambda: effectiveness(deployments, seed, n_jobs, backend),
        lambda: families(deployments, seed),
        lambda: uncertainty(deployments, seed, n_jobs, backend),
    )
    questions = []
    for number, run in enumerate(runs, start=1):
        progress(f"RQ{number}")
        questions.append(run())
    return questions
