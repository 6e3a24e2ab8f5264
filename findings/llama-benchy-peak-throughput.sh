#!/bin/sh
# llama-benchy 0.4.0
#
# One would guess: a stream that sends a token each 20 ms without fail peaks at 50 tokens/s.
# What happens: `peak_throughput` counts the tokens of a window and divides by the time from the first to the last of
# them, one token more than gaps: n / (n - 1) too high. Of 8 tokens it says 57, while `tg_throughput`, beside it, counts
# gaps and says 50. The longest answer that fits into its window of a second is 2 % too high, a short one far more.
# Output seen:
#   tokens 4   tg_throughput 49.9  peak_throughput 66.5
#   tokens 8   tg_throughput 50.0  peak_throughput 57.1
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check llama-benchy==0.4.0
cd "$here"
cat >server.py <<'EOF'
"""An OpenAI server that sends the first token after 200 ms and then one each 20 ms, and a book to make prompts of."""
import json, pathlib, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOOK = ("The quick brown fox jumps over the lazy dog near the river bank while seven wizards study old maps. " * 400).encode()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def send(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.endswith("/models"):
            self.send(json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode(), "application/json")
        else:
            self.send(BOOK, "text/plain")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = int(asked.get("max_tokens") or 16)
        usage = {"prompt_tokens": 64, "completion_tokens": tokens, "total_tokens": 64 + tokens}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}
            self.send(json.dumps({"id": "1", "choices": [choice], "usage": usage}).encode(), "application/json")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        start = time.monotonic()
        for place in range(tokens):
            time.sleep(max(0.0, start + 0.2 + 0.02 * place - time.monotonic()))
            choice = {"index": 0, "delta": {"content": "a "}, "finish_reason": "length" if place == tokens - 1 else None}
            self.wfile.write(b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n")
            self.wfile.flush()
        self.wfile.write(b"data: " + json.dumps({"id": "1", "choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
pathlib.Path("port").write_text(str(server.server_port))
server.serve_forever()
EOF
cat >tokenizer.py <<'EOF'
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

words = Tokenizer(models.BPE())
words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
words.train_from_iterator(["The quick brown fox jumps over the lazy dog"], trainers.BpeTrainer(vocab_size=400))
made = PreTrainedTokenizerFast(tokenizer_object=words)
made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
made.save_pretrained("tokenizer")
EOF
export HF_HUB_OFFLINE=1
"$here/venv/bin/python" tokenizer.py >/dev/null 2>&1
"$here/venv/bin/python" server.py & server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port && break; sleep 1; done
base=http://127.0.0.1:$(cat port)
"$here/venv/bin/llama-benchy" --base-url "$base/v1" --model tiny --tokenizer "$here/tokenizer" --book-url "$base/book.txt" \
    --pp 64 --tg 4 8 --runs 3 --latency-mode none --skip-coherence --no-warmup --save-result result.json --format json \
    >log 2>&1
"$here/venv/bin/python" - <<'EOF'
import json, sys

kept = True
for row in json.load(open("result.json"))["benchmarks"]:
    tokens, steady, peak = row["response_size"], row["tg_throughput"]["mean"], row["peak_throughput"]["mean"]
    print(f"tokens {tokens:<3} tg_throughput {steady:.1f}  peak_throughput {peak:.1f}")
    kept &= abs(peak / steady * (tokens - 1) / tokens - 1) < 0.02
sys.exit(0 if kept else 1)
EOF
