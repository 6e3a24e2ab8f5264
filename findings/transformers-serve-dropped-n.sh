#!/bin/sh
# transformers 5.23.0 (with torch 2.13.0)
#
# One would guess: `transformers serve` answers `n: 2` with two choices or refuses it, as it refuses `ignore_eos`, which it
# does not know; and its streams end with `data: [DONE]`, as the protocol's do.
#
# What happens: `ignore_eos` is refused with 422, `n: 2` is dropped: a 200 with one choice and the usage of one. A stream
# ends after its usage without [DONE]. A client that asks for n to make load makes a part of it; one that waits for [DONE]
# takes whole answers for cut ones.
#
# Output seen:
#   ignore_eos            422
#   n = 2                 200, 1 choice, 4 tokens
#   last data of a stream {"id": …, not [DONE]
set -eu
here=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$here"' EXIT
server=0
python3 -m venv "$here/venv"
pip="$here/venv/bin/pip install -q --disable-pip-version-check"
$pip torch==2.13.0
$pip "transformers[serving]==5.23.0"
export HF_HUB_OFFLINE=1 HF_HOME="$here/hub"
"$here/venv/bin/python" - "$here/model" <<'EOP'
import sys

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {f"w{number}": number for number in range(500)}
tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
tokenizer.pre_tokenizer = WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", pad_token="w0").save_pretrained(sys.argv[1])
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
LlamaForCausalLM(LlamaConfig(vocab_size=500, eos_token_id=None, bos_token_id=None, **sizes)).save_pretrained(sys.argv[1])
EOP
port=$("$here/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$here/venv/bin/python" -m transformers.cli.transformers serve "$here/model" --host 127.0.0.1 --port "$port" \
    >"$here/log" 2>&1 &
server=$!
"$here/venv/bin/python" - "http://127.0.0.1:$port" "$here/model" <<'EOP'
import json
import sys
import time
import urllib.error
import urllib.request

url, model = sys.argv[1:]


def ask(**more):
    body = {"model": model, "prompt": "w1 w2 w3 w4", "max_tokens": 4, "temperature": 0, **more}
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


for _ in range(600):
    try:
        urllib.request.urlopen(url + "/health", timeout=5)
        break
    except OSError:
        time.sleep(0.5)
refused, _ = ask(ignore_eos=True)
status, text = ask(n=2)
several = json.loads(text)
choices, tokens = len(several["choices"]), several["usage"]["completion_tokens"]
_, stream = ask(stream=True)
last = [line for line in stream.splitlines() if line.startswith("data:")][-1]
print(f"ignore_eos            {refused}")
print(f"n = 2                 {status}, {choices} choice{'s' if choices > 1 else ''}, {tokens} tokens")
print(f"last data of a stream {last[6:60]}")
same = (refused, status, choices, tokens) == (422, 200, 1, 4) and "[DONE]" not in last
sys.exit(0 if same else 1)
EOP
