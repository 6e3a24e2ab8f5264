"""Package published measurements: ``python -m fewmark.datasets.build SOURCE_DIR`` reads each source's own files
from ``SOURCE_DIR/<name>/`` and writes the tables, the licence and the citation beside this module.

Nothing is cleaned: the packaged tables are the published ones, faults included, and the screen decides on reading.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fewmark.core import InputError
from fewmark.interop import read_table, write_table

DATA_DIR: Final = Path(__file__).with_name("data")
METADATA: Final = "dataset.json"


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from. `tables` maps a table's name to the file that it was published in."""

    name: str
    title: str
    url: str
    licence: str
    citation: str
    tables: dict[str, str]


SOURCES: Final = (
    Source(
        name="llm-inference-bench",
        title="LLM-Inference-Bench: 15 models on NVIDIA, AMD, Intel and Habana accelerators, offline batches",
        url="https://github.com/argonne-lcf/LLM-Inference-Bench",
        licence="BSD-3-Clause",
        citation=(
            "K. T. Chitty-Venkata, S. Raskar, B. Kale, F. Ferdaus, A. Tanikanti, K. Raffenetti, V. Taylor, M. Emani, "
            "V. Vishwanath. LLM-Inference-Bench: Inference Benchmarking of Large Language Models on AI Accelerators. "
            "SC24 Workshops, 2024. arXiv:2411.00136"
        ),
        tables={
            "main": "All_results.csv",
            "heatmap": "Heatmap_input_vs_output.csv",
            "parallelism": "TP_PP_Results.csv",
            "power": "power_results.csv",
            "ttft": "all_results_TTFT.csv",
            "ttft-itl": "all_results_TTFT_ITL.csv",
        },
    ),
    Source(
        name="llm-pilot",
        title="LLM-Pilot: 7 LLMs on NVIDIA GPUs under 1 to 128 closed-loop users",
        url="https://arxiv.org/abs/2410.02425",
        licence="CDLA-Permissive-2.0",
        citation=(
            "M. Lazuka, A. Anghel, T. Parnell. LLM-Pilot: Characterize and Optimize Performance of your LLM Inference "
            "Services. SC24, 2024. arXiv:2410.02425"
        ),
        tables={"main": "measurements.csv"},
    ),
    Source(
        name="splitwise",
        title="Splitwise: Llama-2-70B and BLOOM-176B on A100 and H100, one axis at a time, repeated",
        url="https://github.com/Mutinifni/splitwise-sim",
        licence="MIT",
        citation=(
            "P. Patel, E. Choukse, C. Zhang, A. Shah, Í. Goiri, S. Maleki, R. Bianchini. Splitwise: Efficient "
            "Generative LLM Inference Using Phase Splitting. ISCA 2024. arXiv:2311.18677"
        ),
        tables={"main": "perf_model.csv"},
    ),
)


def build(source_dir: Path, data_dir: Path = DATA_DIR) -> list[Path]:
    """Write every dataset's folder and return the folders.

    Raises
    ------
    InputError
        If a source's file is missing or malformed.
    """
    return [_build(source, source_dir / source.name, data_dir / source.name) for source in SOURCES]


def _build(source: Source, origin: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for table, published in source.tables.items():
        frame = read_table(origin / published)
        path = folder / f"{table}.parquet"
        write_table(frame, path)
        tables[table] = {
            "file": path.name,
            "sha256": _sha256(path),
            "n_rows": len(frame),
            "published_as": published,
            "published_sha256": _sha256(origin / published),
            "format": frame.attrs["format"],
        }
    if not (origin / "LICENSE").is_file():
        raise InputError("a dataset needs its licence beside it", got=str(origin / "LICENSE"))
    shutil.copyfile(origin / "LICENSE", folder / "LICENSE")
    (folder / "CITATION").write_text(f"{source.citation}\n\n{source.url}\n", encoding="utf-8")
    about = {
        "name": source.name,
        "title": source.title,
        "url": source.url,
        "licence": source.licence,
        "citation": source.citation,
        "tables": tables,
    }
    (folder / METADATA).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv: list[str]) -> int:
    """The command. Exit codes as everywhere: 0 done, 2 the request was wrong."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m fewmark.datasets.build SOURCE_DIR\n")
        return 2
    try:
        folders = build(Path(argv[0]))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stderr.write("".join(f"wrote {folder}\n" for folder in folders))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
