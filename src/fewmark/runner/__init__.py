"""The runner: executes cases in worker processes and saves each measurement as soon as it exists."""

from fewmark.runner.deployment import RunSettings, measure_deployment
from fewmark.runner.executor import Executor, LocalExecutor
from fewmark.runner.launch import Launch
from fewmark.runner.ray_executor import RayExecutor
from fewmark.runner.runner import ResultStore, Runner, RunReport

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
