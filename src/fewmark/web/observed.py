"""Counts and durations of requests, in the text format of Prometheus."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from fewmark.web.service import Service

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds
OTHER: Final = "other"


class Observed:
    """An ASGI application that counts what the one inside answers."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter("fewmark_requests", "Requests answered.", (*labels, "status"), registry=self.registry)
        self.seconds = Histogram(
            "fewmark_request_seconds", "Time to answer.", labels, buckets=BUCKETS, registry=self.registry
        )
        self.remembered = Counter(
            "fewmark_remembered_predictions", "Predictions answered from memory.", registry=self.registry
        )
        self.rows = Gauge("fewmark_measurements", "Rows that are known.", registry=self.registry)
        self.ready = Gauge("fewmark_ready", "Whether the measurements are read.", registry=self.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)  # never the path itself: there are endlessly many
            self.requests.labels(scope["method"], route, str(status)).inc()
            self.seconds.labels(scope["method"], route).observe(time.perf_counter() - started)

    async def exposition(self, request: Request) -> Response:
        """Everything counted so far."""
        service: Service = request.app.state.service
        self.ready.set(float(service.is_ready))
        if service.loaded is not None and (snapshot := service.loaded.current()) is not None:
            self.rows.set(len(snapshot.table))
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
