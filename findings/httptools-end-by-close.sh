#!/usr/bin/env bash
# httptools 0.8.0
#
# One would guess: an answer without a length, which ends where its connection is closed, is complete once the parser is
# told of the end: by a method for it, or by no more data.
# What happens: there is no such method, and `feed_data(b"")` changes nothing: `on_message_complete` is never called, so
# that a client that waits for it waits for ever. What was read of a body that was cut short looks the same.
#
# Output seen:
#   httptools 0.8.0: body b'hello', methods feed_data get_http_version get_status_code set_dangerous_leniencies should_keep_alive should_upgrade
#   complete after the body: False; after no more data: False
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check httptools==0.8.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import httptools


class Answer:
    body, complete = b"", False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


answer = Answer()
parser = httptools.HttpResponseParser(answer)
parser.feed_data(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\nhello")
methods = [name for name in dir(parser) if not name.startswith("_")]
print(f"httptools {httptools.__version__}: body {answer.body!r}, methods", *methods)
before = answer.complete
parser.feed_data(b"")
print(f"complete after the body: {before}; after no more data: {answer.complete}")
assert answer.body == b"hello" and not answer.complete and not any("eof" in name for name in methods)
PY
