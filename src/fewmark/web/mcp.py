"""The same verbs for assistants, over the Model Context Protocol on standard input and output; read-only."""

from __future__ import annotations

from typing import Any, Final

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

import fewmark
from fewmark.web.api import rows_of
from fewmark.web.knowledge import Knowledge, plain, records
from fewmark.web.schemas import Case, ExplainAnswer, ExplainRequest, PlanRequest, PredictRequest, RecommendRequest
from fewmark.web.settings import Settings

INSTRUCTIONS: Final = (
    "Answers about the performance of LLM inference deployments, from measurements and a model with honest intervals. "
    "Units are in the names: s, tok/s, req/s. Say each number with its interval and provenance; null is unknown. Ask "
    "`deployments` first: names of models, engines and accelerators must be those listed there."
)
MOST_DEPLOYMENTS: Final = 500
MOST_CANDIDATES: Final = 20
READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def make_server(settings: Settings) -> MCPServer[Any]:
    """A server of these tools, ready to run."""
    knowledge = Knowledge(settings)
    server: MCPServer[Any] = MCPServer("fewmark", version=fewmark.__version__, instructions=INSTRUCTIONS)

    @server.tool(annotations=READS)
    def deployments() -> list[dict[str, object]]:
        """Every deployment that was measured, with its columns and number of rows."""
        items = knowledge.now().deployments.items[:MOST_DEPLOYMENTS]
        return [{**{k: plain(v) for k, v in item.values.items()}, "n_rows": item.n_rows} for item in items]

    @server.tool(annotations=READS)
    def predict(
        cases: list[Case], target: str = "throughput_tok_s", confidence_level: float = 0.9
    ) -> dict[str, object]:
        """Predict a metric of cases, measured or not, with intervals, provenance, and reasons for abstaining."""
        asked = PredictRequest(cases=cases, target=target, confidence_level=confidence_level)
        found = knowledge.predict(rows_of(asked.cases), asked.target, asked.confidence_level)
        return {"target": target, "predictions": records(found.table), "may_not_fit": found.may_not_fit}

    @server.tool(annotations=READS)
    def explain(case: Case, target: str = "throughput_tok_s", confidence_level: float = 0.9) -> ExplainAnswer:
        """Say where a prediction comes from, with the nearest measurements."""
        from fewmark.web.explanation import explain_case

        asked = ExplainRequest(case=case, target=target, confidence_level=confidence_level)
        return explain_case(knowledge, rows_of([asked.case])[0], asked.target, asked.confidence_level)

    @server.tool(annotations=READS)
    def recommend(asked: RecommendRequest) -> dict[str, object]:
        """Rank deployments under objectives and prices: probability, regret, and what to measure next."""
        from fewmark.web.decisions import recommend_for

        space = None if asked.space is None else rows_of(asked.space)
        options = asked.model_dump(exclude={"slo", "prices", "space"})
        answer = recommend_for(knowledge, asked.slo, asked.prices, space=space, **options).to_dict()
        candidates = answer["candidates"]
        assert isinstance(candidates, list)
        return answer | {"candidates": candidates[:MOST_CANDIDATES]}

    @server.tool(annotations=READS)
    def plan(asked: PlanRequest) -> dict[str, object]:
        """Say which cells of a space are worth measuring next, best first, with the error to expect after each."""
        from fewmark.web.decisions import plan_for

        cells, planner = plan_for(knowledge, rows_of(asked.space), **asked.model_dump(exclude={"space"}))
        return {"cells": records(cells), "forecast_median_ape": plain(planner.forecast().median_ape)}

    return server
