"""A small table for examples and first steps. It is made up, by a formula, and is no measurement of anything."""

from __future__ import annotations

import pandas as pd


def example() -> pd.DataFrame:
    """Two made-up deployments at three lengths and four batch sizes, without noise.

    Returns
    -------
    DataFrame
        24 rows in canonical columns, with `ttft_s`, `tpot_s`, `e2e_latency_s` and `throughput_tok_s` in seconds and
        output tokens per second.

    Examples
    --------
    >>> from fewmark import datasets
    >>> table = datasets.example()
    >>> table.groupby("accelerator")["throughput_tok_s"].max().round().astype(int).to_dict()
    {'A100': 2256, 'H100': 4513}
    """
    rows = []
    for accelerator, speed in (("H100", 2.0), ("A100", 1.0)):
        for input_tokens in (128, 512, 2048):
            for batch_size in (1, 4, 16, 64):
                ttft_s = (0.01 + 2e-5 * batch_size * input_tokens) / speed
                tpot_s = (0.02 + 1e-4 * batch_size + 1e-7 * batch_size * input_tokens) / speed
                e2e_latency_s = ttft_s + 127 * tpot_s
                rows.append(
                    {
                        "engine": "vllm",
                        "model": "llama-3.1-8b",
                        "accelerator": accelerator,
                        "accelerator_count": 1,
                        "input_tokens": input_tokens,
                        "output_tokens": 128,
                        "batch_size": batch_size,
                        "ttft_s": ttft_s,
                        "tpot_s": tpot_s,
                        "e2e_latency_s": e2e_latency_s,
                        "throughput_tok_s": batch_size * 128 / e2e_latency_s,
                        "status": "ok",
                    }
                )
    return pd.DataFrame(rows)
