#!/bin/sh
# msgspec 0.22.0
#
# One would guess: what msgspec encodes from a typed struct it decodes into the same type, or it refuses to encode it: its
# decoder is strict JSON, which knows no infinity.
#
# What happens: an infinite rate of requests, the usual word for "no limit", becomes null without a message, and reading the
# very same bytes back into the struct is an error. As `float | None` it reads back as None: no limit has become unknown.
#
# Output seen:
#   written   {"request_rate":null}
#   as float         ValidationError
#   as float | None  None
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check msgspec==0.22.0
"$here/venv/bin/python" - <<'EOF'
import math
import sys

import msgspec


class Strict(msgspec.Struct):
    request_rate: float


class Loose(msgspec.Struct):
    request_rate: float | None


written = msgspec.json.encode(Strict(math.inf))
print("written  ", written.decode())
try:
    strict = str(msgspec.json.decode(written, type=Strict).request_rate)
except msgspec.ValidationError as error:
    strict = type(error).__name__
loose = msgspec.json.decode(written, type=Loose).request_rate
print("as float        ", strict)
print("as float | None ", loose)
sys.exit(0 if written == b'{"request_rate":null}' and strict == "ValidationError" and loose is None else 1)
EOF
