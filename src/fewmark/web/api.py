"""`/v1`: what the verbs answer, as JSON. Wrong requests are answered with what, got and hint."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json

import fewmark
from fewmark.web.schemas import (
    AppendAnswer,
    AppendRequest,
    Case,
    ExplainAnswer,
    ExplainRequest,
    PlanAnswer,
    PlanRequest,
    PredictAnswer,
    Prediction,
    PredictRequest,
    RecommendRequest,
    Refusal,
    State,
)
from fewmark.web.service import Service

REFUSALS: Final[dict[int | str, dict[str, object]]] = {
    status: {"model": Refusal, "description": text}
    for status, text in (
        (400, "The request is wrong, or what it asks for cannot be known from the data."),
        (401, "A token is needed."),
        (403, "Not allowed."),
        (413, "The request is too large."),
        (422, "The request does not fit its schema."),
        (429, "Too many requests."),
    )
}
router: Final = APIRouter(prefix="/v1", responses=REFUSALS)


def service_of(request: Request) -> Service:
    """The server's service."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]


def rows_of(cases: list[Case]) -> list[dict[str, object]]:
    """The cases as rows of a table, with the columns that any of them names."""
    columns = columns_of(cases)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def columns_of(cases: list[Case]) -> dict[str, list[object]]:
    """The columns that any of the cases names, a value for each case; None where it names none."""
    fields = Case.model_fields
    names: dict[str, None] = {}
    for given in dict.fromkeys((frozenset(case.model_fields_set), *(case.model_extra or ())) for case in cases):
        names |= dict.fromkeys([*(name for name in fields if name in given[0]), *given[1:]])
    told = [case.__dict__ if case.model_extra is None else case.__dict__ | case.model_extra for case in cases]
    return {name: [row.get(name) for row in told] for name in names}


@router.post("/predict", summary="Predict cases that nobody measured", response_model=PredictAnswer)
def predict(asked: PredictRequest, service: Served) -> Response:
    """What `fewmark predict` answers, to the digit."""
    from fewmark.web.knowledge import records

    found = service.knowledge().predict(columns_of(asked.cases), asked.target, asked.confidence_level)
    told = [*Prediction.model_fields, *(name for name in found.table if name not in Prediction.model_fields)]
    table = found.table.assign(abstained=found.table["abstained"].fillna(""))[told]
    answer = {
        "target": asked.target,
        "confidence_level": asked.confidence_level,
        "model": found.model,
        "n_known": found.n_known,
        "n_public": found.n_public,
        "may_not_fit": list(dict.fromkeys(found.may_not_fit)),
        "notes": found.notes,
        "predictions": records(table),
    }
    # A thousand cases are not looked at one by one once more: the table is of the answer's making.
    return Response(to_json(answer), media_type="application/json")


@router.post("/explain", summary="Say where a prediction comes from")
def explain(asked: ExplainRequest, service: Served) -> ExplainAnswer:
    """The prediction, the nearest measurements of the same deployment, and both in words."""
    from fewmark.web.explanation import explain_case

    return explain_case(service.knowledge(), rows_of([asked.case])[0], asked.target, asked.confidence_level)


@router.post("/recommend", summary="Say what to deploy")
def recommend(asked: RecommendRequest, service: Served) -> dict[str, object]:
    """What `fewmark recommend --json` prints: candidates best first, probability, regret, what to measure next."""
    from fewmark.web.decisions import recommend_for

    space = None if asked.space is None else rows_of(asked.space)
    options = asked.model_dump(exclude={"slo", "prices", "space"})
    answer = recommend_for(service.knowledge(), asked.slo, asked.prices, space=space, **options)
    return answer.to_dict()


@router.post("/plan", summary="Say what to measure next")
def plan(asked: PlanRequest, service: Served) -> PlanAnswer:
    """The cells of the space that are worth measuring next, with the error to expect after each."""
    from fewmark.web.decisions import plan_for
    from fewmark.web.knowledge import plain, records

    options = asked.model_dump(exclude={"space"})
    cells, planner = plan_for(service.knowledge(), rows_of(asked.space), **options)
    return PlanAnswer(
        cells=records(cells),
        n_space=len(planner.space),
        n_measured=int(planner.observed.sum()),
        n_failed=int(planner.failed.sum()),
        forecast_median_ape=plain(planner.forecast().median_ape),
        infeasible=len(planner.infeasible),
        notes=list(cells.attrs.get("notes", [])),
    )


@router.post("/measurements", summary="Append measurements", status_code=201)
def append(asked: AppendRequest, service: Served) -> AppendAnswer:
    """Rows into the store, screened; durable when this answers. What is there already changes nothing."""
    from fewmark.web.intake import append_rows

    return append_rows(service.knowledge(), asked.measurements)


@router.get("/measurements", summary="Read measurements")
def measurements(
    service: Served,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    offset: Annotated[int, Query(ge=0, le=10**12)] = 0,
) -> dict[str, object]:
    """The canonical table, as it was read, in the order of adding."""
    from fewmark.web.knowledge import records

    table = service.knowledge().now().table
    return {"n_rows": len(table), "offset": offset, "rows": records(table.iloc[offset : offset + limit])}


@router.get("/deployments", summary="List what was measured")
def deployments(service: Served) -> list[dict[str, object]]:
    """Every deployment: a key, a label for people, its columns, and how many rows it has."""
    from fewmark.web.knowledge import plain

    return [
        {
            "key": item.key,
            "label": item.label,
            "n_rows": item.n_rows,
            **{name: plain(value) for name, value in item.values.items()},
        }
        for item in service.knowledge().now().deployments.items
    ]


@router.get("/health", summary="Whether the server runs")
async def health() -> State:
    """Always the same answer, without a token."""
    return State(status="ok", version=fewmark.__version__)


@router.get("/ready", summary="Whether the measurements are read", responses={503: {"model": State}})
async def ready(service: Served) -> Response:
    """503 until they are."""
    state = State(status="ok" if service.is_ready else "starting", version=fewmark.__version__)
    return JSONResponse(state.model_dump(), status_code=200 if service.is_ready else 503)
