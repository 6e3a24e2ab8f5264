"""What a load that nobody answered makes of its case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from fewmark.core import Status
from fewmark.engines.base import CaseFailure
from fewmark.engines.memory.exhaustion import speaks_of_memory
from fewmark.load.records import FINISHED, RequestRecord, RequestStatus

MAX_SAID: Final = 300
BUSY: Final = 429
UNAUTHORISED: Final = (401, 403)


def failure_of(records: Sequence[RequestRecord], url: str) -> CaseFailure | None:
    """The failure that all requests to this server share; None where any was answered, or none was sent."""
    ended = [r for r in records if r.status is not RequestStatus.CANCELLED]
    if any(record.status in FINISHED for record in records):
        return None
    if not ended:
        sent = [record for record in records if record.send_s is not None]
        if not sent:
            return None
        return CaseFailure(Status.TIMEOUT, f"none of {len(sent)} requests was answered in time")
    status, _ = Counter(record.status for record in ended).most_common(1)[0]
    like = [record for record in ended if record.status is status]
    said = next((record.error for record in like if record.error), "")[:MAX_SAID]
    what = f"{'the request' if len(ended) == 1 else f'all {len(ended)} requests'} ended as {status}"
    if status in (RequestStatus.REFUSED, RequestStatus.TLS_ERROR):
        what += f" at {url}"
    what += f": {said}" if said else ""
    if status is RequestStatus.TLS_ERROR and "WRONG_VERSION" in said:
        what += "; a server without TLS is at http://"
    if like[0].http_status in UNAUTHORISED:
        what += "; engine_options.key_env names the variable that holds a key"
    return CaseFailure(_status(status, like[0].http_status, said), what)


def is_cut(records: Iterable[RequestRecord]) -> bool:
    """Whether a connection broke or was refused: the server may be gone."""
    return any(record.status in (RequestStatus.CUT, RequestStatus.REFUSED) for record in records)


def _status(status: RequestStatus, http_status: int | None, said: str) -> Status:
    if status is RequestStatus.TIMEOUT:
        return Status.TIMEOUT
    if status in (RequestStatus.REFUSED, RequestStatus.CUT):
        return Status.CRASHED
    if status is not RequestStatus.HTTP_ERROR:
        return Status.INVALID
    if speaks_of_memory(said):
        return Status.OUT_OF_MEMORY
    is_refusal = http_status is not None and 400 <= http_status < 500 and http_status != BUSY
    return Status.UNSUPPORTED if is_refusal else Status.INVALID
