"""llama-batched-bench's results as JSON lines or markdown: a static batch of ``pl`` sequences.

All prompts are processed first (``t_pp``), so every sequence's first token is there when the whole batch's prompts are
done; then come ``tg`` passes of one token for each sequence (``t_tg``). ``speed`` counts input and output tokens.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pandas as pd

from fewmark.core import FormatError
from fewmark.core.cells import Row
from fewmark.core.json_types import JsonObject
from fewmark.interop.results.lookups import has_keys, truth
from fewmark.interop.results.run_rows import RunRow, count, number, positive, rows_to_frame, run_id
from fewmark.interop.text.json_text import head_text, read_objects, read_text

_HEADINGS: Final = {
    "pp": "pp", "tg": "tg", "b": "pl", "n_kv": "n_kv", "t_pp s": "t_pp", "s_pp t/s": "speed_pp",
    "t_tg s": "t_tg", "s_tg t/s": "speed_tg", "t s": "t", "s t/s": "speed",
}  # fmt: skip
_TABLE: Final = re.compile(r"(?m)^[ \t]*\|\s*PP\s*\|\s*TG\s*\|\s*B\s*\|\s*N_KV\s*\|")
_SETTINGS: Final = re.compile(r"(?m)^.*\bn_kv_max = \d+, .*\bis_pp_shared = .*$")  # printed above the table
_SETTING: Final = re.compile(r"\b(\w+) = (-?\d+)\b")
_OPTIONS: Final = ("n_kv_max", "n_batch", "n_ubatch", "flash_attn", "n_gpu_layers", "n_threads", "n_threads_batch")


class LlamaBatchedBench:
    """One row a line."""

    name = "llama-batched-bench"
    description = "llama-batched-bench as JSON lines or markdown (pp, tg, pl, t_pp, t_tg, …)"

    def sniff(self, path: Path, head: bytes) -> float:
        """By the keys of a line or the table's heading."""
        if has_keys(head, "pp", "tg", "pl", "t_pp", "t_tg"):
            return 0.95
        return 0.95 if _TABLE.search(head_text(head)) else 0.0

    def read(self, path: Path) -> pd.DataFrame:
        """The canonical table. Raises `FormatError` if there is no line of results."""
        text = read_text(path)
        if _TABLE.search(text):
            asked = dict(_SETTING.findall(found[0])) if (found := _SETTINGS.search(text)) else {}
            return rows_to_frame([_row(place, asked | line) for place, line in enumerate(_table(text), start=1)])
        return rows_to_frame([_row(line, data) for line, data in read_objects(path)])


def _row(place: int, data: JsonObject) -> Row:
    prompt, generated, batch = (count(data.get(name)) for name in ("pp", "tg", "pl"))
    prefill_s, decode_s = positive(data.get("t_pp")), positive(data.get("t_tg"))
    if not (batch and prompt is not None and generated is not None and (prefill_s or decode_s)):
        raise FormatError(f"line {place}: pp, tg, pl, t_pp and t_tg are needed", got=dict(data))
    row = RunRow("llama-batched-bench")
    row.say("engine", "llama.cpp")
    row.cells |= {"batch_size": batch, "statistic": "median"}
    row.put("input_tokens", prompt)
    row.put("output_tokens", generated)
    row.put("ttft_s", prefill_s)
    for name in _OPTIONS:
        if (value := number(data.get(name))) is not None and value >= 0:
            row.cells[f"option.{name}"] = value
    shared = truth(data.get("is_pp_shared"))
    if shared:
        row.cells["workload.shared_prompt"] = True
        row.note("one prompt is shared by all sequences and processed once")
    if prefill_s and decode_s and generated:
        seconds = prefill_s + decode_s
        row.put("e2e_latency_s", seconds)
        row.put("tpot_s", decode_s / generated)
        row.put("throughput_tok_s", batch * generated / seconds)
        row.put("decode_throughput_tok_s", batch * generated / decode_s)
        row.put("total_throughput_tok_s", (batch * generated + prompt * (1 if shared else batch)) / seconds)
        row.note("TTFT is the prefill of the whole batch; TPOT is the mean over all passes after it")
    row.cells["run_id"] = run_id("llama-batched-bench", prompt, generated, batch, prefill_s, decode_s)
    return row.finish()


def _table(text: str) -> list[dict[str, str]]:
    names: list[str] = []
    out = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or all(set(cell) <= set("-: ") for cell in cells):
            continue
        if cells[0] == "PP":
            names = [_HEADINGS.get(cell.lower(), cell) for cell in cells]
        elif names:
            if len(cells) != len(names):
                raise FormatError("a row of the table must have a cell for each column", got=line)
            out.append(dict(zip(names, cells, strict=True)))
    return out
