"""A thousand streams at once from one machine, against the paced mock server of the benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fewmark.load.client import run_load
from fewmark.load.endpoint import Endpoint
from fewmark.load.records import RequestPlan, RequestStatus
from fewmark.load.settings import LoadSettings

SERVER = Path(__file__).parents[3] / "benchmarks" / "paced_server.py"
STREAMS, TOKENS = 1000, 12


@pytest.fixture
def paced_url():
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.mark.slow
def test_a_thousand_streams_are_all_answered_whole_on_a_connection_each(paced_url):
    body = {"model": "mock", "prompt": "x", "max_tokens": TOKENS, "stream": True, "mock": {"ttft_s": 0.5, "gap_s": 0.1}}
    data = json.dumps(body | {"stream_options": {"include_usage": True}}).encode()
    plans = [RequestPlan(i, data, output_tokens=TOKENS) for i in range(2 * STREAMS)]
    result = run_load(plans, Endpoint(paced_url), LoadSettings(concurrency=STREAMS, workers=2))
    assert {record.status for record in result.records} == {RequestStatus.OK}
    assert {record.completion_tokens for record in result.records} == {TOKENS}
    assert len({record.stream for record in result.records}) == STREAMS
    assert sum(record.reused for record in result.records) == STREAMS
    first = [record.first_chunk_s - record.send_s for record in result.records]
    assert min(first) >= 0.49
