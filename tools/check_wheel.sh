#!/bin/sh
# Build the wheel, install it into a fresh environment outside the checkout, and run the main job from there.
# Usage: check_wheel.sh PYTHON [--demo]
set -eu
python=$1
here=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --quiet --no-isolation --wheel --outdir "$work/dist" .
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$here/requirements.lock" "$work"/dist/*.whl
cd "$work"
run() { printf '$ fewmark %s\n' "$*" >&2; "$work/env/bin/fewmark" "$@"; }
run --version
run suites >/dev/null
run engines >/dev/null
run evaluate --data llm-inference-bench --protocol interpolate-length --model loglog --json evaluation.json >/dev/null
run report report.html --data llm-inference-bench --model mechanistic
test -s report.html
test -s evaluation.json
printf 'the wheel works: installed and run outside the checkout\n'
