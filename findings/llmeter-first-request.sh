#!/bin/sh
# llmeter 0.2.0, openai 2.54.0
#
# One would guess: a server that sends the first token after 200 ms has a TTFT of about 200 ms, from the first request on.
# What happens: the openai package imports most of itself when `client.chat` is first used, which is within the time of
# llmeter's first request, a second of CPU time and more on a busy machine. A warm-up of the server does not help: the wait
# is the client's. It is in the mean and the high percentiles of each process's first run, and of that alone.
# Output seen (on a machine with 13 busy processes on 2 cores):
#   first run:  TTFT 9392, 224, 237, 222 ms
#   second run: TTFT 246, 235, 230, 204 ms
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check 'llmeter[openai]==0.2.0' openai==2.54.0 plotly==7.1.0
cd "$here"
cat >server.py <<'END'
"""An OpenAI server: the first token after 200 ms, then one each 20 ms; it says how it was asked and what it did."""
import json, pathlib, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REASONING, FAIL_EVERY = int(sys.argv[1]), int(sys.argv[2])
seen, lock = [0], threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def say(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_GET(self):
        self.say(200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    def do_POST(self):
        asked = json.loads(self.body())
        with lock:
            seen[0] += 1
            number = seen[0]
        if FAIL_EVERY and number % FAIL_EVERY == 0:
            self.say(500, {"error": {"message": "no", "type": "server_error"}})
            return
        chat, start = "messages" in asked, time.monotonic()
        tokens = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or 16)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for place in range(tokens):
            time.sleep(max(0.0, start + 0.2 + 0.02 * place - time.monotonic()))
            text = {"reasoning_content" if place < REASONING else "content": " the"}
            part = {"delta": text} if chat else {"text": " the"}
            choice = {"index": 0, "finish_reason": "length" if place == tokens - 1 else None, **part}
            self.event(chat, {"choices": [choice]})
        usage = {"prompt_tokens": 32, "completion_tokens": tokens, "total_tokens": 32 + tokens}
        usage["completion_tokens_details"] = {"reasoning_tokens": min(REASONING, tokens)}
        self.event(chat, {"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, chat, value):
        kind = "chat.completion.chunk" if chat else "text_completion"
        value = {"id": "1", "object": kind, "created": 1, "model": "tiny", **value}
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
pathlib.Path("port").write_text(str(server.server_port))
server.serve_forever()
END
"$here/venv/bin/python" server.py 0 0 & server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port && break; sleep 1; done
base=http://127.0.0.1:$(cat port)
cat >run.py <<'END'
import asyncio, json, pathlib, sys
from llmeter.endpoints import OpenAICompletionStreamEndpoint
from llmeter.runner import Runner

endpoint = OpenAICompletionStreamEndpoint(model_id="tiny", endpoint_name="tiny", api_key="none", base_url=sys.argv[1] + "/v1")
payload = endpoint.create_payload("the quick brown fox", max_tokens=4)
firsts = []
for name in ("first", "second"):
    asyncio.run(Runner(endpoint, output_path="out").run(payload=payload, n_requests=4, clients=1, run_name=name))
    lines = next(pathlib.Path("out").rglob(f"{name}/responses.jsonl")).read_text().splitlines()
    times = [json.loads(line)["time_to_first_token"] * 1e3 for line in lines]
    print(f"{name + ' run:':<11} TTFT", ", ".join(f"{time:.0f}" for time in times), "ms")
    firsts.append(max(times))
sys.exit(0 if firsts[0] > 1.5 * firsts[1] else 1)
END
"$here/venv/bin/python" run.py "$base" 2>log
