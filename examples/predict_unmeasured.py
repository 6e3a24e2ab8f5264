"""Learn from a table of measurements and predict cells that nobody measured, with intervals."""

import pandas as pd

import fewmark
from fewmark import datasets

table = datasets.load("llm-inference-bench", screened=True)
known = table[(table["engine"] == "vLLM") & (table["model"].str.contains("Llama-3-8B"))]

asked = known.iloc[[0]].assign(input_tokens=700.0, output_tokens=300.0)
cases = pd.concat([asked.assign(batch_size=float(batch)) for batch in (1, 8, 24)], ignore_index=True)

answers = fewmark.predict(cases, data=known, model="mechanistic", target="throughput_tok_s")
for row in answers.itertuples():
    print(f"batch {row.batch_size:3g}: {row.value:8.0f} tok/s, 90% within {row.low:.0f} and {row.high:.0f}")
