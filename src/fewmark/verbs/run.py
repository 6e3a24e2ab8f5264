"""`fewmark run`: measure a suite's cases that the store does not hold yet."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fewmark.core import EngineError, InputError, Status
from fewmark.core.frozen import thaw
from fewmark.core.text import is_secret_name
from fewmark.engines import engine_names, probe
from fewmark.engines.environments.folders import environment_python
from fewmark.engines.measuring.policy import Policy
from fewmark.engines.replay import TABLES_VARIABLE
from fewmark.load.goodput import Tier
from fewmark.load.validity import Thresholds
from fewmark.runner import Executor, Launch, LocalExecutor, RayExecutor, Runner, RunReport, RunSettings
from fewmark.runner.auto_batch import auto_batch
from fewmark.runner.projection.truncation import Truncation, Validation
from fewmark.runner.worker.warm import WarmWorker
from fewmark.store import open_store
from fewmark.suites import Suite, load_suite, matching
from fewmark.verbs.versions import version_advice

EXECUTORS: Final[Mapping[str, Callable[[], Executor]]] = {"local": LocalExecutor, "ray": RayExecutor}


def run(
    suite: str | Path | Suite,
    *,
    store: str | None = None,
    engine_python: str | None = None,
    worker_prefix: Sequence[str] = (),
    repeats_max: int | None = None,
    timeout_s: float | None = None,
    retry_failed: bool = False,
    order_seed: int | None = None,
    limit: int | None = None,
    memory_limit: str | None = None,
    drift_check: bool = True,
    executor: str = "local",
    truncate: str | None = None,
    full: bool = False,
    rounds: int | None = None,
    quiet: bool = False,
) -> RunReport:
    """Measure a suite on its engines; what the store holds already is not measured again.

    Parameters
    ----------
    suite : str, Path or Suite
        A suite's name, its file, or a loaded one.
    store : str, optional
        URL of the store; by default `FEWMARK_STORE` or ``sqlite:///fewmark.db``.
    engine_python : str, optional
        The interpreter that the engine is installed in.
    worker_prefix : sequence of str
        A command that the worker is started behind (ssh, srun, docker run -i…).
    repeats_max, timeout_s, order_seed : optional
        Instead of what the suite's settings or the defaults say.
    retry_failed : bool
        Measure cases again that only ever failed.
    limit : int, optional
        Measure at most this many cases.
    memory_limit : str, optional
        The most memory of a worker, as in "4GiB"; what needs more ends as ``out_of_memory``.
    drift_check : bool, default True
        Measure the first case of a long sweep again at its end.
    executor : {"local", "ray"}
        Where deployments are measured: one after the other here, or spread over the Ray cluster that is found.
    truncate : str, optional
        Cut generations short after so many tokens, or ``auto``, and project the rest; instead of the suite's own.
    full : bool
        Cut nothing short, and measure in full what was only projected so far.
    rounds : int, optional
        In how many rounds over a deployment's cases the repeats are made; instead of the suite's own.
    quiet : bool, default False
        Whether no progress is shown.

    Returns
    -------
    RunReport
        What was measured, what failed, what was left, and why.

    Raises
    ------
    InputError, SuiteError, StoreError
        If the request is wrong.
    EngineError
        If no engine of the suite can be used.

    Examples
    --------
    >>> import fewmark
    >>> from fewmark import datasets
    >>> from fewmark.core import Case, Deployment, FrozenMap, Workload
    >>> from fewmark.suites import Suite
    >>> datasets.example().to_csv("measured.csv", index=False)
    >>> recorded = {"table": "measured.csv"}  # replayed in place of a real engine
    >>> replayed = Deployment(engine="replay", model="llama-3.1-8b", accelerator="H100", engine_options=recorded)
    >>> suite = Suite("mine", "One cell", "", (Case(replayed, Workload(128, 128, batch_size=4)),), FrozenMap({}))
    >>> report = fewmark.run(suite, store="sqlite:///mine.db", quiet=True)
    >>> report.ok, [str(measurement.status) for measurement in report.measurements]
    (True, ['ok'])
    """
    if limit is not None and limit < 1:
        raise InputError("limit must be a whole number of at least 1", got=limit)
    chosen, settings = prepare(
        suite, engine_python=engine_python, worker_prefix=worker_prefix, repeats_max=repeats_max, timeout_s=timeout_s,
        order_seed=order_seed, memory_limit=memory_limit,
    )  # fmt: skip
    settings = replace(settings, drift_check=drift_check, rounds=rounds or chosen.settings.get("rounds", 1))
    cut = None if full else truncation(chosen, truncate)
    with open_store(store) as opened:
        if cut is not None:
            earlier = opened.measurements(
                case_ids=[case.case_id for case in chosen.cases], statuses=[Status.OK], withdrawn=False
            )
            settings = replace(settings, truncation=replace(cut, known=tuple(earlier)))
        runner = Runner(opened, settings, quiet, executor_named(executor), share=True)
        report = runner.run(chosen.cases, retry_failed=retry_failed, limit=limit)
        if report.n_before and report.measurements:
            warned = version_advice(opened, chosen.cases, report.measurements)
            report = replace(report, advice=(*report.advice, *warned))
        if chosen.auto:
            # A round of the search goes on with the engine that the last one loaded, where that is here.
            with contextlib.closing(WarmWorker()) as warm_worker:
                kept = replace(settings, warm_worker=warm_worker if executor == "local" else None, rounds=1)
                search = replace(runner, settings=kept, share=False)
                tried = auto_batch(
                    chosen.auto,
                    lambda cases: search.run(cases, retry_failed=retry_failed).measurements,
                    () if retry_failed else opened.measurements(withdrawn=False),
                    **chosen.settings.get("auto_batch", {}),
                )
            report = replace(report, auto_batch=tried)
        if settings.truncation is not None or "truncate" in chosen.settings:
            held = opened.measurements(
                case_ids=[case.case_id for case in chosen.cases], statuses=[Status.OK], withdrawn=False
            )
            report = replace(report, validation=Validation.of(held))
    return report


def truncation(suite: Suite, tokens: str | None = None) -> Truncation | None:
    """How the suite's generations are cut short: as it says, or to so many tokens (``auto``). Raises `InputError`."""
    given = suite.settings.get("truncate", {})
    if tokens is None and not given:
        return None
    asked = tokens if tokens is not None else given["output_tokens"]
    if asked != "auto" and not str(asked).isdecimal():
        raise InputError("a generation is cut to a number of tokens, or auto", got=asked, hint="--truncate 64")
    only = [] if tokens is not None else given["only"]
    names = {"rule": "rule", "target_error": "target_error", "n_validated": "validate_cells"}
    return Truncation(
        output_tokens=None if asked == "auto" else int(asked),
        only=matching(suite.cases, [thaw(condition) for condition in only]) if only else None,
        **{ours: given[its] for ours, its in names.items() if its in given},
    )


def prepare(
    suite: str | Path | Suite,
    *,
    engine_python: str | None = None,
    worker_prefix: Sequence[str] = (),
    repeats_max: int | None = None,
    timeout_s: float | None = None,
    order_seed: int | None = None,
    memory_limit: str | None = None,
) -> tuple[Suite, RunSettings]:
    """The suite and the runner's settings behind a request; the parameters and errors are those of `run`."""
    chosen = suite if isinstance(suite, Suite) else load_suite(suite)
    _require_no_keys(chosen)
    limit_bytes = None if memory_limit is None else n_bytes(memory_limit)
    launch = Launch(engine_python, tuple(worker_prefix), _tables(), limit_bytes)
    settings = run_settings(
        chosen.settings, repeats_max=repeats_max, timeout_s=timeout_s, order_seed=order_seed, launch=launch
    )
    if engine_python is None and not worker_prefix:
        _require_engines(chosen)
    return chosen, settings


def run_settings(
    given: Mapping[str, Any],
    *,
    repeats_max: int | None = None,
    timeout_s: float | None = None,
    order_seed: int | None = None,
    launch: Launch | None = None,
) -> RunSettings:
    """The runner's settings behind a suite's, with what was asked for on top. Raises `InputError`."""
    policy = Policy()
    least, most = given.get("min_repeats"), repeats_max or given.get("max_repeats")
    if (exactly := given.get("repeats")) is not None:
        least, most = exactly, exactly if repeats_max is None else min(exactly, repeats_max)
    if repeats_max is not None and repeats_max < 1:
        raise InputError("the most repeats must be a whole number of at least 1", got=repeats_max)
    most = most if most is not None else max(policy.max_repeats, least or 1)
    policy = Policy(
        min_repeats=min(least if least is not None else policy.min_repeats, most),
        max_repeats=most,
        target_half_width=given.get("target_half_width", policy.target_half_width),
        warmup=given.get("warmup", policy.warmup),
        n_requests=given.get("n_requests"),
        window_s=given.get("window_s"),
        slo=_tiers(given.get("slo", ())),
        validity=_thresholds(given.get("validity", {})),
    )
    settings = RunSettings()
    limit_s = timeout_s if timeout_s is not None else given.get("timeout_s", settings.timeout_s)
    if not limit_s > 0:
        raise InputError("the time limit of a case must be positive", got=limit_s)
    return replace(
        settings,
        policy=policy,
        timeout_s=limit_s,
        load_timeout_s=given.get("load_timeout_s", settings.load_timeout_s),
        seed=order_seed if order_seed is not None else given.get("seed", settings.seed),
        launch=launch or settings.launch,
    )


def _tiers(given: Sequence[Mapping[str, float]]) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Tiers of objectives on the metrics of a request. Raises `InputError`."""
    return tuple(tuple(Tier(f"tier {n}", thaw(limits)).limits.items()) for n, limits in enumerate(given, 1))


def _thresholds(given: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """What makes a window invalid. Raises `InputError`."""
    known = [item.name for item in fields(Thresholds)]
    if unknown := [name for name in given if name not in known]:
        raise InputError("unknown threshold of a window's validity", got=unknown, hint=f"of {', '.join(known)}")
    return tuple((name, float(limit)) for name, limit in given.items())


def _require_no_keys(suite: Suite) -> None:
    """Refuse options that hold a key, before anything of the suite is kept. Raises `InputError`."""
    for deployment in {case.deployment for case in (*suite.cases, *suite.auto)}:
        for name, value in deployment.engine_options.items():
            secret = isinstance(value, str) and is_secret_name(name.rpartition(".")[2].lstrip("-"))
            password = isinstance(value, str) and "@" in (urlsplit(value).netloc if "://" in value else "")
            if secret or password:
                raise InputError(
                    "a deployment holds a key or a password, which would be kept with every result",
                    got=f"the engine option {name}",
                    hint="name the environment variable (key_env) or the file (key_file) that holds it",
                )


def executor_named(name: str) -> Executor:
    """The executor behind its name. Raises `InputError`."""
    if name not in EXECUTORS:
        raise InputError("unknown executor", got=name, hint=f"one of {', '.join(EXECUTORS)}")
    return EXECUTORS[name]()


def n_bytes(text: str) -> int:
    """The bytes behind ``4GiB``, ``500MB``, ``2G`` (a power of 1024, as in ulimit). Raises `InputError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if found is None or not (number := float(found[1])):
        raise InputError("a memory limit is a positive size", got=text, hint="as in 4GiB or 500MB")
    base = 1000 if found[3] == "b" else 1024
    return int(number * base ** ("kmgt".index(found[2]) + 1 if found[2] else 0))


def _tables() -> dict[str, str]:
    """Where the replay engine finds the packaged datasets: as DATASET/TABLE.parquet."""
    folder = resources.files("fewmark") / "datasets" / "data"  # not of the package itself, which brings pandas along
    return {} if TABLES_VARIABLE in os.environ else {TABLES_VARIABLE: str(folder)}


def _require_engines(suite: Suite) -> None:
    """Refuse a suite of which no engine runs in this interpreter, with the way to get one."""
    known, reasons, hints = engine_names(), [], []
    for name in sorted({case.deployment.engine for case in (*suite.cases, *suite.auto)}):
        if name not in known:
            reasons.append(f"{name}: no engine by that name")
            hints.append(f"known here: {', '.join(known)}")
        elif (found := probe(name)).available or environment_python(name) is not None:
            return
        else:
            reasons.append(f"{name}: {found.reason}")
            hints.append(found.install)
    if reasons:
        hint = "; ".join(filter(None, dict.fromkeys(hints)))
        raise EngineError("none of the suite's engines can run here", got="; ".join(reasons), hint=hint or None)
