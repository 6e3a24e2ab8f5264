#!/bin/sh
# aiconfigurator 0.12.0
#
# One would guess: `tokens/s` of pareto.csv is requests per second times output tokens, in every kind of serving, so that
# the aggregated and the disaggregated table of one run can be compared by it.
# What happens: the aggregated table leaves the first token of each answer out, the disaggregated one counts it. At few
# output tokens that is a difference of its own between the two: at 2 tokens a factor of two.
# Output seen (osl 100):
#   agg     tokens/s / (seq/s) = 99.0
#   disagg  tokens/s / (seq/s) = 100.0
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check aiconfigurator==0.12.0
export HF_HUB_OFFLINE=1
"$here/venv/bin/aiconfigurator" cli default --model-path Qwen/Qwen3-32B-FP8 --total-gpus 8 --system h200_sxm \
    --backend trtllm --isl 1000 --osl 100 --ttft 500 --tpot 30 --serving-mode auto \
    --save-dir "$here/out" --no-color --log-level ERROR >"$here/log" 2>&1
"$here/venv/bin/python" - "$here/out" <<'EOF'
import csv, pathlib, statistics, sys

seen = {}
for kind in ("agg", "disagg"):
    path = next(path for path in pathlib.Path(sys.argv[1]).rglob("pareto.csv") if path.parent.name == kind)
    ratios = [float(row["tokens/s"]) / float(row["seq/s"]) for row in csv.DictReader(path.open())]
    seen[kind] = statistics.median(ratios)
    print(f"{kind:6}  tokens/s / (seq/s) = {seen[kind]:.1f}")
sys.exit(0 if round(seen["agg"]) == 99 and round(seen["disagg"]) == 100 else 1)
EOF
