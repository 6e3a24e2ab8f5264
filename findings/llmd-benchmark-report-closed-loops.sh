#!/bin/sh
# llmd-benchmark-report 0.2.1
#
# One would guess: a Benchmark Report made by the official converter from a closed-loop stage of inference-perf says the
# concurrency and no rate, how long the prompts were, and how long the stage took.
#
# What happens: report 0.2 says rate_qps 8.0 beside the concurrency, which is the number of requests of the stage (8, all
# queued within one second) while 0.76 were done a second. Report 0.1 says an input length of 0.0, since it looks for a
# key of older versions, and as the duration the 6.1 s during which requests were sent, not the 10.5 s of the stage.
#
# Seen:
#   0.2: rate_qps 8.0 concurrency 4 requests 8 done per second 0.758
#   0.1: input_length 0.0 (128 in the file) duration 6.115 (10.549 in the file)
#
# Exits non-zero if the behaviour has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check llmd-benchmark-report==0.2.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json


def spread(mean):
    names = ("min", "p0.1", "p1", "p5", "p10", "p25", "median", "p75", "p90", "p95", "p99", "p99.9", "max")
    return {"mean": mean} | dict.fromkeys(names, mean)


stage = {
    "benchmark_time_seconds": 10.549,
    "load_summary": {
        "count": 8,
        "schedule_delay": spread(2.7),
        "send_duration": 6.115,
        "requested_rate": 8.0,
        "achieved_rate": 1.308,
        "concurrency": 4,
    },
    "successes": {
        "count": 8,
        "latency": {
            "request_latency": spread(5.14),
            "normalized_time_per_output_token": spread(0.16),
            "time_per_output_token": spread(0.152),
            "time_to_first_token": spread(0.43),
            "inter_token_latency": spread(0.152),
        },
        "throughput": {
            "input_tokens_per_sec": 97.07,
            "output_tokens_per_sec": 24.27,
            "total_tokens_per_sec": 121.34,
            "requests_per_sec": 0.758,
        },
        "prompt_tokens": {"total": 1024.0, "cached": 0.0, "uncached": 1024.0} | spread(128.0),
        "output_len": spread(32.0),
        "output_tokens": {"total": 256.0} | spread(32.0),
    },
    "failures": {"count": 0, "request_latency": None, "prompt_tokens": {"total": 0.0}, "by_label": {}},
}
settings = {
    "api": {"type": "completion", "streaming": True},
    "data": {"type": "random"},
    "load": {"type": "concurrent", "stages": [{"num_requests": 8, "concurrency_level": 4}]},
    "server": {"type": "vllm", "model_name": "m", "base_url": "http://127.0.0.1:8000"},
}
with open("stage_0_lifecycle_metrics.json", "w") as file:
    json.dump(stage, file)
with open("config.yaml", "w") as file:
    json.dump(settings, file)
PYTHON
for version in 0.1 0.2; do
    "$folder/venv/bin/benchmark-report" -w inference-perf -b $version stage_0_lifecycle_metrics.json "$version.yaml" 2>/dev/null
done
"$folder/venv/bin/python" - <<'PYTHON'
import yaml

new = yaml.safe_load(open("0.2.yaml"))
load = new["scenario"]["load"]["standardized"]
done = new["results"]["request_performance"]["aggregate"]
total, rate = done["requests"]["total"], done["throughput"]["request_rate"]["mean"]
print("0.2: rate_qps", load["rate_qps"], "concurrency", load["concurrency"], "requests", total, "done per second", rate)
old = yaml.safe_load(open("0.1.yaml"))["metrics"]
length, duration = old["requests"]["input_length"]["mean"], old["time"]["duration"]
print("0.1: input_length", length, "(128 in the file) duration", duration, "(10.549 in the file)")
assert load["rate_qps"] == total == 8 and load["concurrency"] == 4, "the rate is no longer the number of requests"
assert length == 0.0, "the input length is no longer 0"
assert duration == 6.115, "the duration is no longer the time of sending"
PYTHON
