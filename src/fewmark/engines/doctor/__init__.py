"""What makes a benchmark lie on this machine, found by looking: one small function a check, and what to do about it.

Standard library only, so that a worker examines the host that it runs on, wherever that is.
"""

from fewmark.engines.doctor.deployment import deployment_findings
from fewmark.engines.doctor.examine import CHECKS, examine
from fewmark.engines.doctor.finding import BAD, OK, UNKNOWN, WARN, Finding
from fewmark.engines.doctor.probe import noise
from fewmark.engines.doctor.system import System

__all__ = ["BAD", "CHECKS", "OK", "UNKNOWN", "WARN", "Finding", "System", "deployment_findings", "examine", "noise"]
