"""`fewmark run SUITE --budget …`: measure the few cells that teach the most, and know the rest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.campaign import Campaign, SideBySide, Step, run_campaign
from fewmark.campaign.loop import STEP_CELLS
from fewmark.core import Case, InputError, Measurement
from fewmark.evaluation.meta_metrics import Charges
from fewmark.interop import from_measurements
from fewmark.models.auto.public_prior import public_relatives
from fewmark.models.registry import make_model
from fewmark.runner import Runner
from fewmark.runner.executors.local import LocalExecutor
from fewmark.runner.worker.warm import WarmWorker
from fewmark.store import open_store
from fewmark.suites import Suite
from fewmark.verbs.plan import NO_MODEL
from fewmark.verbs.run import prepare

REPEATS: Final = 1  # of a cell: what another cell teaches besides is worth more than the same once more
REPLAYED: Final = "replay"  # recorded measurements must not be foretold by themselves
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Seconds behind ``90``, ``90s``, ``30m``, ``1h30m``, ``2d``. Raises `InputError` if it is no positive duration."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip() or not 0 < total < 1e9:
        raise InputError("a budget is a positive duration", got=text, hint="as in 90s, 30m, 1h30m")
    return total


def public(cases: Sequence[Case], target: str) -> pd.DataFrame:
    """Public measurements of relatives of the cases' deployments; none of what is only replayed."""
    real = [Measurement(case) for case in cases if case.deployment.engine != REPLAYED]
    return public_relatives(from_measurements(real), target) if len(real) == len(cases) else pd.DataFrame()


def campaign(
    suite: str | Path | Suite,
    *,
    budget: str | None = None,
    target_error: float | None = None,
    target: str = "throughput_tok_s",
    model: str = "auto",
    strategy: str = "adaptive",
    store: str | None = None,
    engine_python: str | None = None,
    worker_prefix: Sequence[str] = (),
    repeats_max: int | None = None,
    timeout_s: float | None = None,
    truncate: int | None = None,
    workers: int = 1,
    seed: int | None = None,
    memory_limit: str | None = None,
    prior: bool = True,
    quiet: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Campaign:
    """Measure cells of a suite until the budget is spent or the error is reached, by its own estimate.

    Parameters
    ----------
    suite, store, engine_python, worker_prefix, timeout_s, memory_limit : as `verbs.run.run` takes them
    repeats_max : most repeats of a cell; by default one, since another cell teaches more than the same once more
    budget : a duration, as in "30m"; what was spent on these cells before counts. It is looked at before each cell, and
        exceeded by one cell and its engine's start at the most (by one for each of `workers`)
    target_error : median error over the suite to reach, a fraction
    truncate : output tokens of generations that may be run in place of longer ones
    workers : deployments measured side by side on this machine; a step then has so many times the cells
    prior : whether public measurements of relatives are known to begin with, where little was measured
    target, model, strategy : the metric, who predicts what is not measured ("none": a roofline), who chooses

    Raises
    ------
    InputError, SuiteError, StoreError, EngineError, ModelError
        If the request is wrong, or no engine of the suite can be used.
    """
    chosen, settings = prepare(
        suite, engine_python=engine_python, worker_prefix=worker_prefix, timeout_s=timeout_s, order_seed=seed,
        repeats_max=REPEATS if repeats_max is None else repeats_max, memory_limit=memory_limit,
    )  # fmt: skip
    policy = settings.policy
    who = None if model == NO_MODEL else make_model(model, target=target, random_state=settings.seed, prior=prior)
    warm_worker = WarmWorker()
    if (
        workers == 1
    ):  # the engine stays loaded between steps; a lane beside others is a thread, and a worker dies with it
        settings = replace(settings, warm_worker=warm_worker)
    with open_store(store) as opened, contextlib.closing(warm_worker):
        return run_campaign(
            chosen.cases,
            opened,
            Runner(opened, settings, quiet, SideBySide(workers) if workers > 1 else LocalExecutor()),
            model=who,
            relatives=public(chosen.cases, target) if prior else None,
            target=target,
            strategy=strategy,
            budget_s=None if budget is None else seconds(budget),
            target_error=target_error,
            charges=Charges(warmup=policy.warmup, repeats=policy.min_repeats),
            truncate=truncate,
            step_cells=STEP_CELLS * workers,
            lanes=workers,
            random_state=settings.seed,
            on_step=on_step,
        )
