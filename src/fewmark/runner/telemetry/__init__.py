"""What a worker uses while it measures a case, read from outside it: memory, CPU time, energy, accelerators."""

from fewmark.runner.telemetry.sampler import Telemetry, Usage

__all__ = ["Telemetry", "Usage"]
