"""The operator ``fewmark`` of IBM ado: explores a discrete space by asking fewmark's planner what to measure next.

ado imports this module by its entry point (group ``ado.operators``); it needs ado-core.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Final

import pydantic
from ado.core.operation.config import DiscoveryOperationEnum, OperatorMetadata
from ado.core.operation.operation import OperationOutput
from ado.modules.operators.base import Explore, measure_or_replay
from ado.modules.operators.collections import explore_operation

from fewmark.ado.ask_tell import AskTell
from fewmark.core.json_types import Json

if TYPE_CHECKING:
    from ado.modules.actuators.base import ActuatorBase
    from ado.modules.operators.discovery_space_manager import DiscoverySpaceManager
    from ado.schema.request import MeasurementRequest

VERSION: Final = "0.1.0"


class Parameters(pydantic.BaseModel):
    """What an operation of the operator is given."""

    model_config = pydantic.ConfigDict(extra="forbid")

    observedProperty: str = pydantic.Field(  # noqa: N815  ado's own spelling
        default="output_throughput", description="The property to learn, such as output_throughput or mean_ttft_ms"
    )
    numberEntities: int = pydantic.Field(  # noqa: N815
        default=20, ge=1, description="At most so many entities are measured"
    )
    batchSize: int = pydantic.Field(default=1, ge=1, description="So many are measured at once")  # noqa: N815
    targetError: float | None = pydantic.Field(  # noqa: N815
        default=None, gt=0, lt=1, description="Stop when the median error of the others is below it, a fraction"
    )
    strategy: str = pydantic.Field(default="adaptive", description="Who chooses: a strategy of fewmark")
    columns: dict[str, str] = pydantic.Field(
        default_factory=dict, description="Properties → fewmark's columns, where their names do not say"
    )
    constants: dict[str, str | float] = pydantic.Field(
        default_factory=dict, description="fewmark's columns that are the same everywhere, such as model and engine"
    )
    singleMeasurement: bool = pydantic.Field(  # noqa: N815
        default=True, description="Reuse what was measured of an entity before"
    )
    randomState: int = pydantic.Field(default=0, description="The seed of everything random")  # noqa: N815


@explore_operation
class FewmarkExplore(Explore):  # type: ignore[misc]  # ado is not there when types are checked
    """Measures the entities that tell most about the others, until a number or an error is reached."""

    @classmethod
    def operator_metadata(cls) -> OperatorMetadata:
        """What ado's registry holds of the operator."""
        return OperatorMetadata(
            name="fewmark",
            version=VERSION,
            description=cls.__doc__,
            configuration_model=Parameters,
            example_configuration=Parameters(),
            type=DiscoveryOperationEnum.EXPLORE,
        )

    def __init__(
        self,
        operationActorName: str,
        namespace: str | None,
        discovery_space_manager: DiscoverySpaceManager,
        actuators: dict[str, ActuatorBase],
        params: dict[str, Json] | None = None,
    ) -> None:
        self.params = Parameters.model_validate(params or {})
        self._n_sampled = self._n_requested = 0
        self._identifier = f"fewmark-{VERSION}-{uuid.uuid4().hex[:8]}"
        self.updates: asyncio.Queue[MeasurementRequest | Exception] = asyncio.Queue()
        super().__init__(
            operationActorName=operationActorName,
            namespace=namespace,
            discovery_space_manager=discovery_space_manager,
            actuators=actuators,
        )

    def onUpdate(self, measurementRequest: MeasurementRequest) -> None:  # noqa: N802
        """A measurement is done."""
        self.updates.put_nowait(measurementRequest)

    def onCompleted(self) -> None:  # noqa: N802
        """The space will not change any more."""

    def onError(self, error: Exception) -> None:  # noqa: N802
        """The space's manager is broken."""
        self.updates.put_nowait(error)

    def numberEntitiesSampled(self) -> int:  # noqa: N802
        """How many entities were asked for; ado asks when it is over, though its base classes do not say so."""
        return self._n_sampled

    def numberMeasurementsRequested(self) -> int:  # noqa: N802
        """How many measurements were asked for."""
        return self._n_requested

    def operationIdentifier(self) -> str:  # noqa: N802
        """What names this operation; ado's own makes up another one at each call."""
        return self._identifier

    async def run(self) -> OperationOutput | None:
        """Ask, measure, tell."""
        try:
            return await self._explore()
        finally:
            self.ds_manager.unsubscribeFromUpdates.remote(subscriberName=self.actorName)

    async def _explore(self) -> OperationOutput:
        params = self.params
        space = await self.ds_manager.discoverySpace.remote()
        queue = await self.ds_manager.measurement_queue.remote()
        names = [item.identifier for item in space.entitySpace.constitutiveProperties]
        points = [dict(zip(names, point, strict=True)) for point in space.entitySpace.sequential_point_iterator()]
        search = AskTell(
            points,
            params.observedProperty,
            columns=params.columns,
            constants=dict[str, Json](params.constants),
            strategy=params.strategy,
            target_error=params.targetError,
            random_state=params.randomState,
        )
        while self._n_sampled < params.numberEntities:
            batch = search.ask(min(params.batchSize, params.numberEntities - self._n_sampled))
            if not batch:
                break
            waiting: dict[str, int] = {}
            for position in batch:
                entity = await self.ds_manager.entity_for_point.remote(points[position])
                for experiment in space.measurementSpace.independentExperiments:
                    made = measure_or_replay(
                        requestIndex=self._n_sampled,
                        requesterid=self.operationIdentifier(),
                        entities=[entity],
                        experimentReference=experiment.reference,
                        actuators=self.actuators,
                        measurement_queue=queue,
                        memoize=params.singleMeasurement,
                    )
                    waiting |= dict.fromkeys(made, position)
                    self._n_requested += len(made)
                self._n_sampled += 1
            for position, value in (await self._results(waiting)).items():
                search.tell(position, value)
            for position in set(batch) - set(waiting.values()):
                search.tell(position, None)  # no actuator took it
        return OperationOutput(metadata={"fewmark": search.summary()})

    async def _results(self, waiting: dict[str, int]) -> dict[int, float | None]:
        """What was observed at each position that is waited for; None where every experiment failed."""
        found: dict[int, float | None] = dict.fromkeys(waiting.values())
        open_ = dict(waiting)
        while open_:
            request = await self.updates.get()
            if isinstance(request, Exception):
                raise request
            position = open_.pop(request.requestid, None)
            if position is None:
                continue
            for entity in request.entities:
                for value in entity.propertyValuesFromExperimentReference(request.experimentReference):
                    if value.property.targetProperty.identifier == self.params.observedProperty:
                        found[position] = _number(value.value)
        return found


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
