"""The runner: executes cases in worker processes and saves each measurement as soon as it exists."""

from fewmark.runner.deployment import RunSettings, measure_deployment
from fewmark.runner.executors.base import Executor
from fewmark.runner.executors.local import LocalExecutor
from fewmark.runner.executors.ray import RayExecutor
from fewmark.runner.runner import ResultStore, Runner, RunReport
from fewmark.runner.worker.launch import Launch

__all__ = [
    "Executor",
    "Launch",
    "LocalExecutor",
    "RayExecutor",
    "ResultStore",
    "RunReport",
    "RunSettings",
    "Runner",
    "measure_deployment",
]
