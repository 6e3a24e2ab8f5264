#!/bin/sh
# inference-perf 0.2.0 (right from 0.3.0); needs Python 3.12: PYTHON=python3.12 sh findings/inference-perf-blank-lines.sh
#
# One would guess: time_per_output_token of a stream that sends a token each 20 ms is 20 ms.
# What happens: each line of the stream is a token's time, the blank one after an event and [DONE] too, so that there are
# two and more for a token: TPOT and ITL are less than half of the true ones, and no two numbers of a report look wrong
# beside one another unless one divides (latency - TTFT) by tokens. Published results of that version have it.
# Output seen:
#   tokens 16, (latency - TTFT) / 15 = 20.0 ms, time_per_output_token 8.5 ms, inter_token_latency 8.5 ms
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check inference-perf==0.2.0
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
cat >in.yaml <<END
api: {type: completion, streaming: true}
data: {type: random, input_distribution: {min: 32, max: 32, mean: 32, std_dev: 0, total_count: 20}, output_distribution: {min: 16, max: 16, mean: 16, std_dev: 0, total_count: 20}}
load: {type: constant, num_workers: 1, stages: [{rate: 5, duration: 2}]}
server: {type: vllm, model_name: tiny, base_url: "$base", ignore_eos: true}
tokenizer: {pretrained_model_name_or_path: "$here/tokenizer"}
report: {request_lifecycle: {summary: true, per_stage: true, per_request: false}}
storage: {local_storage: {path: "$here/out"}}
END
HF_HUB_OFFLINE=1 "$here/venv/bin/inference-perf" --config_file in.yaml >log 2>&1
"$here/venv/bin/python" - <<'END'
import json, sys

good = json.load(open("out/stage_0_lifecycle_metrics.json"))["successes"]
latency, tokens = good["latency"], good["output_len"]["mean"]
true = (latency["request_latency"]["mean"] - latency["time_to_first_token"]["mean"]) / (tokens - 1)
said = latency["time_per_output_token"]["mean"], latency["inter_token_latency"]["mean"]
print(f"tokens {tokens:.0f}, (latency - TTFT) / {tokens - 1:.0f} = {true * 1e3:.1f} ms,", "time_per_output_token %.1f ms, inter_token_latency %.1f ms" % tuple(v * 1e3 for v in said))
sys.exit(0 if true > 1.9 * said[0] else 1)
END
