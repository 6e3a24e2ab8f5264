#!/bin/sh
# aiconfigurator 0.12.0
#
# One would guess: the column `tpot` of pareto.csv has one meaning, or the file says which.
# What happens: with --inclusive-tpot the same column holds (ttft + tpot * (osl - 1)) / osl, and nothing else in the file
# differs or mentions it. Only the identity request_latency = ttft + tpot * (osl - 1) tells, which then fails.
# Output seen:
#   default    tpot 40.377  ttft + tpot * (osl - 1) = 4407.8  tpot * osl = 4037.7  request_latency 4407.8
#   inclusive  tpot 44.078  ttft + tpot * (osl - 1) = 4774.2  tpot * osl = 4407.8  request_latency 4407.8
#   columns that differ: tpot
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check aiconfigurator==0.12.0
export HF_HUB_OFFLINE=1
for mode in default inclusive; do
    flag=; [ "$mode" = inclusive ] && flag=--inclusive-tpot
    "$here/venv/bin/aiconfigurator" cli default --model-path Qwen/Qwen3-32B-FP8 --total-gpus 8 --system h200_sxm \
        --backend trtllm --isl 1000 --osl 100 --ttft 500 --tpot 30 --serving-mode agg $flag \
        --save-dir "$here/$mode" --no-color --log-level ERROR >"$here/$mode.log" 2>&1
done
"$here/venv/bin/python" - "$here" <<'EOF'
import csv, pathlib, sys

rows = {}
for mode in ("default", "inclusive"):
    path = next((pathlib.Path(sys.argv[1]) / mode).rglob("pareto.csv"))
    rows[mode] = next(csv.DictReader(path.open()))
    row = {name: float(rows[mode][name]) for name in ("ttft", "tpot", "osl", "request_latency")}
    exclusive, inclusive = row["ttft"] + row["tpot"] * (row["osl"] - 1), row["tpot"] * row["osl"]
    print(f"{mode:9}  tpot {row['tpot']:.3f}  ttft + tpot * (osl - 1) = {exclusive:.1f}  tpot * osl = {inclusive:.1f}"
          f"  request_latency {row['request_latency']:.1f}")
    rows[mode + " holds"] = abs(exclusive / row["request_latency"] - 1) < 0.001
differing = [name for name in rows["default"] if rows["default"][name] != rows["inclusive"][name]]
print("columns that differ:", ", ".join(differing))
sys.exit(0 if rows["default holds"] and not rows["inclusive holds"] and differing == ["tpot"] else 1)
EOF
