"""Checks of a loaded deployment: what the engine says of itself against what is to be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fewmark.core.json_types import JsonObject
from fewmark.engines.doctor.finding import WARN, Finding

PREFIX_CACHE_NAMES: Final = ("prefix_caching", "enable_prefix_caching", "prefix_cache", "cache_prompt")


def deployment_findings(
    deployment: Mapping[str, Any], engine: Mapping[str, Any], host: Mapping[str, Any]
) -> Iterator[Finding]:
    """What speaks against a loaded deployment.

    Parameters
    ----------
    deployment, engine, host : mapping
        As `Deployment.to_dict` gives it, and as an environment holds them.
    """
    cpus = min(host.get("cpu_usable") or 1, host.get("cpu_limit") or float("inf"))
    threads = engine.get("threads")
    if isinstance(threads, int) and threads > cpus:
        yield Finding(
            "too-many-threads",
            WARN,
            f"{threads} compute threads on {cpus:g} usable CPUs",
            f"set the engine option threads to at most {int(cpus) or 1}",
        )
    options = deployment.get("engine_options") or {}
    if any(source.get(name) is True for source in (engine, options) for name in PREFIX_CACHE_NAMES):
        yield Finding(
            "prefix-caching",
            WARN,
            "the engine keeps the prefixes of earlier prompts",
            "prompts are drawn afresh, so that it seldom helps here; switch it off to be sure that prefill is measured",
        )
    if _on_disk(deployment.get("placement")) and _is_hot(engine, host):
        yield Finding(
            "page-cache-hot",
            WARN,
            "placed on disk, but the memory that is free can hold the whole of it: reads may come from the page cache",
            "give the worker less memory (a container's limit), or take a model larger than memory",
        )


def _on_disk(placement: object) -> bool:
    return "disk" in (placement.values() if isinstance(placement, Mapping) else (placement,))


def _is_hot(engine: JsonObject, host: JsonObject) -> bool:
    if engine.get("page_cache") in ("dropped", "cold"):
        return False
    size, free = engine.get("weights_bytes"), host.get("memory_available_bytes")
    return not (isinstance(size, int) and isinstance(free, int) and size > free)
