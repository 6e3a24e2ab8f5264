"""A typed client of the HTTP API. Needs the standard library and pydantic; nothing of the server.

with Client("http://127.0.0.1:8484") as client:
    found = client.predict([{"model": "small-7b", "input_tokens": 512, "output_tokens": 128, "batch_size": 16}])
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from fewmark.core.errors import FewmarkError, InputError
from fewmark.web.schemas import AppendAnswer, ExplainAnswer, PlanAnswer, PredictAnswer, State

A = TypeVar("A", bound=BaseModel)
Row = Mapping[str, object]
TIMEOUT_S: Final = 600.0  # a first question may wait for a fit


class ServerError(FewmarkError):
    """The server cannot be reached, or does not answer as it should."""


class Client:
    """Asks one server over one connection. Not to be shared by threads.

    Parameters
    ----------
    url : of the server, as `fewmark serve` says it
    token : as in FEWMARK_TOKEN, or FEWMARK_WRITE_TOKEN to append
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("a server's address begins with http:// or https://", got=url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._base = parts.path.rstrip("/")
        self._headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def predict(
        self, cases: Sequence[Row], *, target: str = "throughput_tok_s", confidence_level: float = 0.9
    ) -> PredictAnswer:
        """What `fewmark predict` says of the cases. Raises `InputError` as it does, and `ServerError`."""
        body = {"cases": list(cases), "target": target, "confidence_level": confidence_level}
        return self._asked("POST", "predict", PredictAnswer, body)

    def explain(self, case: Row, *, target: str = "throughput_tok_s", confidence_level: float = 0.9) -> ExplainAnswer:
        """Where a prediction comes from. Raises as `predict`."""
        body = {"case": dict(case), "target": target, "confidence_level": confidence_level}
        return self._asked("POST", "explain", ExplainAnswer, body)

    def recommend(self, slo: Mapping[str, float] | None = None, **options: object) -> dict[str, object]:
        """What `fewmark recommend --json` prints; `options` as in the API. Raises as `predict`."""
        return dict(self._json("POST", "recommend", {"slo": dict(slo or {}), **options}))

    def plan(self, space: Sequence[Row], *, ask: int = 4, **options: object) -> PlanAnswer:
        """The cells of the space worth measuring next; `options` as in the API. Raises as `predict`."""
        return self._asked("POST", "plan", PlanAnswer, {"space": list(space), "ask": ask, **options})

    def append(self, measurements: Sequence[Row]) -> AppendAnswer:
        """Rows of the canonical table into the server's store, durable on return. Raises as `predict`."""
        return self._asked("POST", "measurements", AppendAnswer, {"measurements": list(measurements)})

    def deployments(self) -> list[dict[str, object]]:
        """Every deployment that was measured. Raises as `predict`."""
        return list(self._json("GET", "deployments"))

    def health(self) -> State:
        """Whether the server runs. Raises `ServerError` if not."""
        return self._asked("GET", "health", State)

    def _asked(self, method: str, route: str, kind: type[A], body: Mapping[str, object] | None = None) -> A:
        try:
            return kind.model_validate(self._json(method, route, body))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise ServerError("the server answers otherwise than this client expects", got=problem["msg"],
                              hint="client and server should be of one version") from None  # fmt: skip

    def _json(self, method: str, route: str, body: Mapping[str, object] | None = None) -> Any:
        content = None if body is None else json.dumps(body, allow_nan=False)
        headers = self._headers | ({"content-type": "application/json"} if content is not None else {})
        try:
            self._connection.request(method, f"{self._base}/v1/{route}", content, headers)
            response = self._connection.getresponse()
            text = response.read()
            answer = json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            where = f"{self._connection.host}:{self._connection.port}"
            raise ServerError("no answer from the server", got=f"{where}: {error}", hint="fewmark serve") from None
        if response.status >= 400:
            told = answer.get("error", {}) if isinstance(answer, dict) else {}
            what = told.get("what") or f"the server answers {response.status}"
            raise (InputError if response.status < 500 else ServerError)(
                what, got=told.get("got"), hint=told.get("hint")
            )
        return answer
