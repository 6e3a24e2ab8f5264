#!/bin/sh
# openai 3.57.0
#
# One would guess: an event named `error` within a stream of chat completions raises, or an answer whose stream ends
# before its finish reason and [DONE] does.
#
# What happens: only data with a key `error` raises. Any other data of an error event comes as one more chunk, of which
# every known field is None, and a stream that simply ends is a finished one. A client that only joins the texts and looks
# at the clock counts both as successes.
#
# Output seen:
#   whole     text aaa  finish length  raised nothing
#   wrapped   text aaa  finish None    raised APIError
#   bare      text aaa  finish None    raised nothing
#   cut       text aaa  finish None    raised nothing
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check openai==3.57.0
"$here/venv/bin/python" - <<'EOF'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai


def event(value, name=""):
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return event({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


MISTAKE = {"message": "out of memory", "type": "server_error", "code": 500}
ENDS = {
    "whole": chunk({}, "length") + b"data: [DONE]\n\n",
    "wrapped": event({"error": MISTAKE}, "error"),
    "bare": event(MISTAKE, "error"),
    "cut": b"",
}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(3 * chunk({"content": "a"}) + ENDS[self.path.split("/")[1]])


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for name in ENDS:
    text, finish, raised = "", None, "nothing"
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/{name}/v1", api_key="none")
    try:
        for piece in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], stream=True):
            for choice in piece.choices or []:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    except openai.APIError as error:
        raised = type(error).__name__
    print(f"{name:9} text {text}  finish {finish!s:7} raised {raised}")
    seen[name] = (text, finish, raised)
server.shutdown()
unfinished = ("aaa", None, "nothing")
kept = seen["whole"] == ("aaa", "length", "nothing") and seen["wrapped"] == ("aaa", None, "APIError")
sys.exit(0 if kept and seen["bare"] == seen["cut"] == unfinished else 1)
EOF
