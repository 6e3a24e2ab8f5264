"""Reproduce a paper's evaluation on the packaged data: numbers, figures and a page with verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from fewmark.core.errors import InputError
from fewmark.core.files import write_file
from fewmark.core.json_types import Json
from fewmark.evaluation.reproduction import Question

DATASET = "llm-inference-bench"


def reproduce(
    paper: str,
    out: Path,
    *,
    random_state: int = 0,
    jobs: int = 2,
    backend: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Question]:
    """Run a paper's research questions and write ``OUT/<paper>.md``, its figures (SVG, PNG) and ``OUT/<paper>.json``.

    Raises
    ------
    InputError
        If the paper is unknown, or matplotlib is not installed.
    """
    if paper != "ala":
        raise InputError("no such paper to reproduce", got=paper, hint="ala")
    try:
        from fewmark.verbs.reproduction.figures import draw
    except ImportError:
        raise InputError(
            "the figures need matplotlib", got="it is not installed", hint="pip install 'fewmark[figures]'"
        ) from None
    from fewmark.datasets import load
    from fewmark.evaluation.reproduction import reproduce_ala
    from fewmark.verbs.reproduction.page import page

    table = load(DATASET, screened=True)
    questions = reproduce_ala(table, seed=random_state, n_jobs=jobs, backend=backend, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    progress("figures")
    for question in questions:
        draw(question, out / f"{paper}-{question.name}")
    told = {str(key): value for key, value in table.attrs.items()}
    write_file(out / f"{paper}.md", page(questions, told, random_state))
    write_file(out / f"{paper}.json", json.dumps(summary(questions), indent=2) + "\n")
    return questions


def summary(questions: list[Question]) -> list[dict[str, Json]]:
    """The claims and verdicts as JSON values."""
    return [
        {
            "question": question.name,
            "title": question.title,
            "design": question.design,
            "claims": [asdict(claim) for claim in question.claims],
        }
        for question in questions
    ]
