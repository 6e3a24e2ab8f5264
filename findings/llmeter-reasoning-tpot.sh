#!/bin/sh
# llmeter 0.2.0
#
# One would guess: the time per output token of a model that thinks first is the time between its tokens, here 20 ms.
# What happens: the clock of the first token waits for the end of reasoning, and the number of output tokens counts
# reasoning as well: the time of half of the tokens is divided by all of them. Of 16 tokens with 8 of reasoning, TTFT is
# 360 ms and more where the first token came after 200, and TPOT 9 ms. A model that thinks for most of its answer has a TPOT
# near zero. Beside it stands `num_tokens_output_reasoning`, from which both can be told.
# Output seen:
#   true: first token 200 ms, 20 ms a token
#   TTFT 418 ms, TPOT 9.0 ms of 16 tokens, 8 of them reasoning
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
"$here/venv/bin/python" server.py 8 0 & server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port && break; sleep 1; done
base=http://127.0.0.1:$(cat port)
cat >run.py <<'END'
import asyncio, json, pathlib, statistics, sys
from llmeter.endpoints import OpenAICompletionStreamEndpoint
from llmeter.runner import Runner

endpoint = OpenAICompletionStreamEndpoint(model_id="tiny", endpoint_name="tiny", api_key="none", base_url=sys.argv[1] + "/v1")
payload = endpoint.create_payload("the quick brown fox", max_tokens=16)
for name in ("first", "second"):  # the first one also pays for what the client imports late
    asyncio.run(Runner(endpoint, output_path="out").run(payload=payload, n_requests=4, clients=1, run_name=name))
rows = [json.loads(line) for line in next(pathlib.Path("out").rglob("second/responses.jsonl")).read_text().splitlines()]
ttft = statistics.median(row["time_to_first_token"] for row in rows)
tpot = statistics.median(row["time_per_output_token"] for row in rows)
print("true: first token 200 ms, 20 ms a token")
print(f"TTFT {ttft * 1e3:.0f} ms, TPOT {tpot * 1e3:.1f} ms of {rows[0]['num_tokens_output']} tokens,", rows[0]["num_tokens_output_reasoning"], "of them reasoning")
sys.exit(0 if ttft > 0.35 and tpot < 0.015 else 1)
END
"$here/venv/bin/python" run.py "$base" 2>log
