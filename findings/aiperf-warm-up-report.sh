#!/bin/sh
# AIPerf 0.13.0
#
# One would guess: a file profile_export_aiperf.json is the report of a measured run; a warm-up is left out of it.
# What happens: with a warm-up, reports of the same name lie in phases/profiling and phases/warmup as well, with the same
# benchmark_id and input_config, and is_complete. Nothing in the warm-up's own report says that it is of one: it differs
# in its values alone. Who collects **/profile_export_aiperf.json has three results of one run, one of them the warm-up.
# Output seen:
#   profile_export_aiperf.json: 4 requests
#   phases/profiling/profile_export_aiperf.json: 4 requests
#   phases/warmup/profile_export_aiperf.json: 2 requests
#   keys in which the warm-up's settings and marks differ from the run's: none
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check aiperf==0.13.0
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
cat >tokenizer.py <<'END'
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

words = Tokenizer(models.BPE())
words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
letters = pre_tokenizers.ByteLevel.alphabet()
words.train_from_iterator([" the quick brown fox jumps over the lazy dog"], trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters))
made = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="!", model_max_length=8192)
made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
made.save_pretrained("tokenizer")
END
"$here/venv/bin/python" tokenizer.py >/dev/null 2>&1
"$here/venv/bin/python" server.py 0 0 & server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port && break; sleep 1; done
base=http://127.0.0.1:$(cat port)
"$here/venv/bin/aiperf" profile --model tiny --url "$base" --tokenizer "$here/tokenizer" --artifact-dir "$here/out" --ui none \
    --endpoint-type chat --streaming --isl 32 --osl 8 --concurrency 1 --request-count 4 --warmup-request-count 2 \
    --num-dataset-entries 8 --workers-max 1 >log 2>&1
"$here/venv/bin/python" - <<'END'
import json, pathlib, sys

reports = {str(path.relative_to("out")): json.loads(path.read_text()) for path in sorted(pathlib.Path("out").rglob("profile_export_aiperf.json"), key=lambda path: len(path.parts))}
for name, report in reports.items():
    print(f"{name}: {report['request_count']['avg']:.0f} requests")
run, warm = (reports[f"phases/{name}/profile_export_aiperf.json"] for name in ("profiling", "warmup"))
marks = [key for key in run.keys() | warm.keys() if key not in ("start_time", "end_time") and not isinstance(run.get(key), dict) or key in ("input_config", "run_info")]
apart = sorted(key for key in marks if run.get(key) != warm.get(key))
print("keys in which the warm-up's settings and marks differ from the run's:", ", ".join(apart) or "none")
sys.exit(0 if len(reports) == 3 and not apart else 1)
END
