"""What a deployment asks of a Ray cluster, and what is said where there is none. The cluster: `test_ray_cluster`."""

import json
import sys

import pytest

from fewmark.core import Case, Deployment, EngineError, InputError, Workload
from fewmark.runner import RayExecutor, Runner, RunSettings
from fewmark.runner.executors.ray import resources_of
from fewmark.verbs.run import executor_named


@pytest.mark.parametrize(
    ("deployment", "needs"),
    [
        ({"accelerator": "H100", "accelerator_count": 4}, {"CPU": 1, "H100": 4, "GPU": 4}),
        ({"accelerator": "A100"}, {"CPU": 1, "accelerator_type:A100": 0.001, "GPU": 1}),
        ({"accelerator": "Gaudi2", "accelerator_count": 2}, {"CPU": 1, "Gaudi2": 2}),
        ({"accelerator_count": 2}, {"CPU": 1, "GPU": 2}),
        ({}, {"CPU": 8}),  # a node to itself
        ({"accelerator": "CPU"}, {"CPU": 8}),
        ({"engine_options": {"threads": 3}}, {"CPU": 3}),
        ({"engine": "replay", "accelerator": "TPU", "accelerator_count": 64}, {"CPU": 1}),
    ],
)
def test_what_a_deployment_asks_of_a_node(deployment, needs):
    nodes = [
        {"CPU": 64.0, "GPU": 8.0, "H100": 8.0},
        {"CPU": 64.0, "GPU": 4.0, "accelerator_type:A100": 1.0},
        {"CPU": 8.0, "Gaudi2": 8.0},
        {"memory": 1e9},
    ]
    assert resources_of(Deployment(**{"engine": "vllm", "model": "toy", **deployment}), nodes) == needs


@pytest.mark.parametrize("deployment", [{"accelerator": "TPU"}, {"accelerator": "H100", "accelerator_count": 16}])
def test_what_no_node_has_is_said_with_the_way_to_get_it(deployment):
    with pytest.raises(EngineError, match="ray start --resources"):
        resources_of(Deployment("vllm", "toy", **deployment), [{"CPU": 64.0, "GPU": 8.0, "H100": 8.0}])


def test_without_ray_it_says_how_to_get_it(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"fewmark\[ray\]"):
        case = Case(Deployment("replay", "toy"), Workload(8, 2, batch_size=1))
        Runner(store, RunSettings(), quiet=True, executor=RayExecutor()).run([case])


def test_the_executor_is_one_that_there_is():
    assert isinstance(executor_named("ray"), RayExecutor)
    with pytest.raises(InputError, match="unknown executor"):
        executor_named(json.dumps("kubernetes"))
