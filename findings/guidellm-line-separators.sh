#!/usr/bin/env bash
# guidellm 0.8.1 with httpx 0.28.1
#
# One would guess: an event of a stream is a line that ends with a line feed, as server-sent events are, so that any text
# of a model arrives.
# What happens: it reads lines with httpx's `aiter_lines`, which ends them where Python's `str.splitlines` does, also at
# U+0085, U+2028 and U+2029. JSON holds these unescaped, and servers that write UTF-8 send them so (vLLM, FastAPI): the
# event is cut in the middle, and the whole request is an error, whatever the server answered before and after.
#
# Output seen:
#   guidellm 0.8.1, an answer with U+2028: 0 successful, 4 errored (JSONDecodeError)
#   the same answer with the character escaped: 4 successful, 0 errored
set -euo pipefail
work=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check guidellm==0.8.1 httpx==0.28.1 transformers==5.17.0
cd "$work"
cat >server.py <<'END'
"""An OpenAI server of 16 tokens, the ninth with a line separator: as UTF-8, or escaped where "escaped" is said."""
import json, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ESCAPED = sys.argv[1] == "escaped"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        body = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = "messages" in asked
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for place in range(16):
                time.sleep(0.01)
                text = " the\u2028" if place == 8 else " the"
                part = {"delta": {"content": text}} if chat else {"text": text}
                self.event(chat, {"choices": [{"index": 0, "finish_reason": "length" if place == 15 else None, **part}]})
            self.event(chat, {"choices": [], "usage": {"prompt_tokens": 32, "completion_tokens": 16, "total_tokens": 48}})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        except ConnectionError:
            self.close_connection = True  # the client has gone

    def event(self, chat, value):
        value = {"id": "1", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1, "model": "tiny", **value}
        self.chunk(b"data: " + json.dumps(value, ensure_ascii=ESCAPED).encode() + b"\n\n")

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
words.train_from_iterator([" the quick brown fox"], trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters))
PreTrainedTokenizerFast(tokenizer_object=words, eos_token="!", model_max_length=8192).save_pretrained("tokenizer")
END
"$work/venv/bin/python" tokenizer.py >/dev/null 2>&1
for way in plain escaped; do
    rm -f port
    "$work/venv/bin/python" server.py "$way" 2>/dev/null & server=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port && break; sleep 1; done
    HF_HUB_OFFLINE=1 "$work/venv/bin/guidellm" run --backend "kind=openai_http,target=http://127.0.0.1:$(cat port),model=tiny" \
        --tokenizer kind=hf_auto,model=tokenizer --data kind=synthetic_text,prompt_tokens=32,output_tokens=16 \
        --profile kind=concurrent,streams=2 --constraint kind=max_requests,count=4 --disable-progress \
        --output "kind=json,path=$way.json" >"$way.log" 2>&1
    kill "$server"; wait "$server" 2>/dev/null || true; server=
done
"$work/venv/bin/python" - <<'END'
import json
import sys
from importlib.metadata import version

told = {way: json.load(open(f"{way}.json"))["benchmarks"][0]["requests"] for way in ("plain", "escaped")}
counts = {way: (len(each["successful"]), len(each["errored"])) for way, each in told.items()}
error = told["plain"]["errored"][0]["info"]["error"].partition("(")[0] if told["plain"]["errored"] else "no error"
print(f"guidellm {version('guidellm')}, an answer with U+2028: {counts['plain'][0]} successful, {counts['plain'][1]} errored ({error})")
print(f"the same answer with the character escaped: {counts['escaped'][0]} successful, {counts['escaped'][1]} errored")
sys.exit(0 if counts["plain"] == (0, 4) and counts["escaped"] == (4, 0) else 1)
END
