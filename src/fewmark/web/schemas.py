"""What the API takes and gives, as data. Unknown keys are refused; unknown values are null, never 0."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fewmark.core.columns import KNOWN_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.core.metrics import ALL_TARGETS
from fewmark.decide.prices import Prices

MAX_CASES: Final = 2_000
MAX_ROWS: Final = 5_000
MAX_NAME: Final = 200  # characters
MAX_TEXT: Final = 2_000
_EXTRA: Final = (OPTION_PREFIX, WORKLOAD_PREFIX)


def _is_target(name: str) -> str:
    if name not in ALL_TARGETS:
        raise ValueError(f"unknown metric; one of {', '.join(ALL_TARGETS)}")
    return name


Target: TypeAlias = Annotated[str, AfterValidator(_is_target), Field(examples=["throughput_tok_s"], max_length=100)]
Level: TypeAlias = Annotated[float, Field(gt=0, lt=1, description="The share of values that intervals shall hold.")]
Positive: TypeAlias = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, Field(max_length=MAX_NAME)]
Value: TypeAlias = str | float | int | bool | None


class Part(BaseModel):
    """A part of a request or an answer."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Case(BaseModel):
    """A cell of the canonical table: a deployment and a workload. What is left out is unknown.

    Further keys are engine options (`option.NAME`) and axes of the workload (`workload.NAME`).
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    engine: Text | None = None
    engine_version: Text | None = None
    model: Text | None = None
    precision: Text | None = None
    accelerator: Text | None = None
    accelerator_count: Positive | None = None
    tensor_parallel_size: Positive | None = None
    placement: Text | None = None
    input_tokens: Positive
    output_tokens: Positive
    batch_size: Positive | None = None
    """Sequences in a static batch. A case has exactly one of batch_size, concurrency and request_rate."""
    concurrency: Positive | None = None
    """Requests in flight in a closed loop."""
    request_rate: Positive | None = None
    """Requests per second in an open loop."""

    @model_validator(mode="after")
    def _checked(self) -> Case:
        if [self.batch_size, self.concurrency, self.request_rate].count(None) != 2:
            raise ValueError("a case has exactly one of batch_size, concurrency and request_rate")
        for name, value in (self.model_extra or {}).items():
            if not name.startswith(_EXTRA) or len(name) > MAX_NAME:
                raise ValueError(f"{name[:50]!r} is no column of a case; options are named option.NAME")
            if not isinstance(value, (str, int, float, bool, type(None))) or len(str(value)) > MAX_TEXT:
                raise ValueError(f"{name[:50]!r} must be a text, a number or a truth value")
        return self


class PredictRequest(Part):
    """Cases to predict."""

    cases: Annotated[list[Case], Field(min_length=1, max_length=MAX_CASES)]
    target: Target = "throughput_tok_s"
    confidence_level: Level = 0.9


class Prediction(BaseModel):
    """The case as it was asked, and what the model says of it."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    value: float | None
    """In the unit of the target's name; null where the model abstains."""
    low: float | None
    high: float | None
    provenance: Literal["measured", "interpolated", "extrapolated", "transferred", "abstained"]
    similarity: float | None
    """How like the learned cells it is, 0 to 1: a similarity, no probability."""
    abstained: str
    """Why the model abstains; empty where it answers."""


class PredictAnswer(Part):
    """Predictions, in the order of the cases."""

    target: str
    confidence_level: float
    model: str
    n_known: int
    """Measured cells that the model learned from."""
    n_public: int
    """Public cells that joined them."""
    may_not_fit: list[str]
    """What speaks against cases that were answered all the same."""
    notes: list[str]
    """What was left out or corrected of the measurements, and which names were taken for which."""
    predictions: list[Prediction]


class RecommendRequest(Part):
    """Objectives, prices and the workload."""

    slo: dict[str, Positive] = Field(default_factory=dict, max_length=20, examples=[{"ttft_s": 0.5}])
    """A limit by metric: at most where lower is better, at least where higher is."""
    prices: Prices | None = None
    """As in a price file; without, accelerators are counted."""
    space: Annotated[list[Case], Field(min_length=1, max_length=MAX_CASES)] | None = None
    """The candidates; by default every known deployment at every known load."""
    input_tokens: Positive | None = None
    output_tokens: Positive | None = None
    region: Text | None = None
    spot: bool = False
    demand_tok_s: Positive | None = None
    assurance: Level = 0.9


class PlanRequest(Part):
    """A space of cells, and how many to ask for."""

    space: Annotated[list[Case], Field(min_length=1, max_length=MAX_CASES)]
    ask: Annotated[int, Field(ge=1, le=100)] = 4
    target: Target = "throughput_tok_s"
    target_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    load_s: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    """Seconds to load a deployment."""
    warmup: Annotated[int, Field(ge=0, le=1000)] = 1
    repeats: Annotated[int, Field(ge=1, le=1000)] = 3


class PlanAnswer(Part):
    """The cells worth measuring next, best first."""

    cells: list[dict[str, Value]]
    n_space: int
    n_measured: int
    n_failed: int
    forecast_median_ape: float | None
    """Of the space, as things are, a fraction."""
    infeasible: int
    notes: list[str]
    """What was left out or corrected of the measurements, and which names were taken for which."""


class ExplainRequest(Part):
    """One case."""

    case: Case
    target: Target = "throughput_tok_s"
    confidence_level: Level = 0.9


class ExplainAnswer(Part):
    """Where a prediction comes from."""

    prediction: Prediction
    words: str
    """The same in words."""
    deployment_cells: int
    """Measured cells of the same deployment."""
    nearest: list[dict[str, Value]]
    """The nearest of them: workload, value, distance in doublings."""
    may_not_fit: list[str]


class AppendRequest(Part):
    """Rows of the canonical table."""

    measurements: Annotated[list[dict[Text, Value]], Field(min_length=1, max_length=MAX_ROWS)]

    @model_validator(mode="after")
    def _checked(self) -> AppendRequest:
        for row in self.measurements:
            for name, value in row.items():
                if name not in KNOWN_COLUMNS and not name.startswith(_EXTRA):
                    raise ValueError(f"{name[:50]!r} is no column of the canonical table")
                if len(str(value)) > MAX_TEXT:
                    raise ValueError(f"the value of {name[:50]!r} is too long")
        return self


class AppendAnswer(Part):
    """What became of the rows."""

    n_rows: int
    n_added: int
    """Those that the store did not hold; equal content is stored once."""
    flagged: list[dict[str, object]]
    """What the screen says of them: row, rule, reason, action."""


class Problem(Part):
    """What is wrong with a request."""

    what: str
    got: str | None = None
    hint: str | None = None


class Refusal(Part):
    """The answer to a wrong request."""

    error: Problem


class State(Part):
    """Whether the server works."""

    status: Literal["ok", "starting"]
    version: str
