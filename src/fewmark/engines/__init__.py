"""Engines: one file each behind one Protocol, a registry, and the worker program that runs them.

Standard library plus the engine itself, imported when it is used: a worker needs `fewmark.core` and this package alone.
"""

from fewmark.engines.base import Availability, CaseFailure, Engine, Recorded
from fewmark.engines.registry import BUILT_IN, engine_class, engine_names, probe

__all__ = [
    "BUILT_IN",
    "Availability",
    "CaseFailure",
    "Engine",
    "Recorded",
    "engine_class",
    "engine_names",
    "probe",
]
