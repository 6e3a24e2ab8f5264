"""Look for faulty rows in somebody's results before anything is learned from them."""

import tempfile
from pathlib import Path

import fewmark
from fewmark import datasets

table = datasets.load("llm-inference-bench", screened=True).head(120)
spoiled = table.assign(throughput_tok_s=table["throughput_tok_s"])
spoiled.loc[spoiled.index[7], "throughput_tok_s"] *= 1000  # a slip of a factor

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "results.csv"
    spoiled.to_csv(path, index=False)
    for finding in fewmark.screen(path).findings[:3]:
        print(f"row {finding.row}: {finding.rule}: {finding.reason} → {finding.action}")
