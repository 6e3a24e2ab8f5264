"""What to deploy under an objective and prices, and how sure that is."""

import tempfile
from pathlib import Path

import fewmark
from fewmark import datasets

PRICES = """
currency: USD
accelerators:
  - {name: H100, per_hour: 3.0}
  - {name: A100, per_hour: 1.6}
"""

table = datasets.load("llm-inference-bench", screened=True)
known = table[
    (table["engine"] == "vLLM")
    & (table["model"].str.contains("Llama-3-8B"))
    & table["accelerator"].isin(["Nvidia H100 GPU", "Nvidia A100 GPU"])
]

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "prices.yaml").write_text(PRICES)
    known.to_csv(Path(folder) / "known.csv", index=False)
    answer = fewmark.recommend(
        ["e2e_latency_s=20"], prices=Path(folder) / "prices.yaml", data=Path(folder) / "known.csv",
        input_tokens=1024, output_tokens=1024, model="mechanistic",
    )  # fmt: skip
print(answer.table.head(3).T.to_string())
