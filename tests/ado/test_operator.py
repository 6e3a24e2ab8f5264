"""The operator inside ado's own classes, where ado-core is installed."""

import asyncio
from importlib.metadata import entry_points

import pytest

pytest.importorskip("ado.modules.operators.collections")

from ado.modules.operators import collections
from ado.schema.entityspace import EntitySpaceRepresentation
from ado.schema.property import ConstitutiveProperty
from ado.schema.reference import ExperimentReference

from fewmark.ado import operator

DOMAINS = {"number_input_tokens": [128, 512], "max_output_tokens": [64], "max_concurrency": [1, 8, 64]}


class Remote:
    """A method as Ray gives it: `.remote(…)` returns something to wait for."""

    def __init__(self, made):
        self.made = made

    def remote(self, *args, **kwargs):
        future = asyncio.get_event_loop().create_future()
        future.set_result(self.made(*args, **kwargs))
        return future


class Thing:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def space():
    made = [
        ConstitutiveProperty(identifier=name, propertyDomain={"values": values}) for name, values in DOMAINS.items()
    ]
    return EntitySpaceRepresentation.representationFromConfiguration(made)


def test_ado_knows_the_operator():
    assert [point.value for point in entry_points(group="ado.operators") if point.name == "fewmark"] in (
        ["fewmark.ado.operator"],
        [],  # not installed, but imported
    )
    held = collections.explore.operators["fewmark"]
    assert held.cls is operator.FewmarkExplore and held.configuration_model is operator.Parameters
    assert held.version == operator.VERSION


@pytest.mark.parametrize("batch", [1, 4])
def test_it_asks_measures_and_tells(monkeypatch, batch):
    asked = []

    def measure(*, requesterid, entities, experimentReference, **_):
        (entity,) = entities
        values = {item.property.identifier: item.value for item in entity.constitutive_property_values}
        asked.append(values)
        failed = values["max_concurrency"] == 64
        observed = Thing(
            property=Thing(targetProperty=Thing(identifier="output_throughput")), value=50 * values["max_concurrency"]
        )
        done = Thing(propertyValuesFromExperimentReference=lambda reference: [] if failed else [observed])
        key = f"{requesterid[:0]}{len(asked)}"
        explore.onUpdate(Thing(requestid="another's", entities=[]))
        explore.onUpdate(Thing(requestid=key, entities=[done], experimentReference=experimentReference))
        return [key]

    async def run():
        nonlocal explore
        explore = operator.FewmarkExplore(
            "actor",
            "namespace",
            manager,
            {},
            {"numberEntities": 5, "batchSize": batch, "constants": {"engine": "vllm", "model": "m"}},
        )
        return await explore.run()

    points = space()
    experiment = Thing(reference=ExperimentReference(actuatorIdentifier="a", experimentIdentifier="e"))
    discovery = Thing(entitySpace=points, measurementSpace=Thing(independentExperiments=[experiment]))
    left = []
    manager = Thing(
        subscribeToUpdates=Remote(lambda subscriberName: True),
        unsubscribeFromUpdates=Remote(lambda subscriberName: left.append(subscriberName)),
        discoverySpace=Remote(lambda: discovery),
        measurement_queue=Remote(lambda: None),
        entity_for_point=Remote(points.entity_for_point),
    )
    explore = None
    monkeypatch.setattr(operator, "measure_or_replay", measure)
    output = asyncio.run(run())
    told = output.metadata["fewmark"]
    assert 1 <= len(asked) <= 5 and len({tuple(values.items()) for values in asked}) == len(asked)
    assert told["n_measured"] + told["n_failed"] == len(asked) and told["target"] == "throughput_tok_s"
    assert left == ["actor"] and explore.numberEntitiesSampled() == len(asked)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="numberEntities"):
        operator.Parameters(numberEntities=0)
    with pytest.raises(ValueError, match="colour"):
        operator.Parameters(colour="red")
