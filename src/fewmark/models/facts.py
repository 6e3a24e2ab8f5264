"""Published facts of models and accelerators, found by name; a user's file extends or overrides the packaged one.

Names differ between sources ("meta-llama/Llama-2-7b-hf", "llama2-7b"; "Nvidia A100 GPU", "A100-80GB"), so a name is cut
into words (at punctuation, and where letters and digits meet) and an entry applies when the words of one of its names
occur in it side by side. The longest match wins. What no entry covers is estimated: a model's size from a word pair
such as "7 b" and its shape from that size, an accelerator as a median one of its stated memory. `known` tells which.

Units: counts (parameters, not billions), bytes, bytes/s, FLOP/s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from fewmark.core.errors import FormatError

VERSION: Final = 1
PACKAGED: Final = Path(__file__).with_name("facts.yaml")
_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+")
_BYTES: Final = {
    "fp32": 4.0,
    "tf32": 4.0,
    "float32": 4.0,
    "fp8": 1.0,
    "int8": 1.0,
    "w8a8": 1.0,
    "q8": 1.06,
    "fp4": 0.53,
}
_BYTES_4: Final = ("int4", "w4a16", "awq", "gptq", "q4", "nf4", "mxfp4", "nvfp4")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A language model's shape. `known` is False where the name was not recognised and the shape is estimated."""

    parameters: float
    active_parameters: float
    layers: float
    hidden: float
    heads: float
    kv_heads: float
    head_dim: float
    vocab: float = 32000.0
    experts: float = 1.0
    experts_per_token: float = 1.0
    known: bool = True


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """One device's published peaks. `known` is False where the name was not recognised."""

    memory_bytes: float
    bandwidth: float
    flops: Mapping[str, float]
    link: float
    known: bool = True

    def flops_at(self, precision: str | None) -> float:
        """Dense peak FLOP/s at a precision; half precision's where that precision has no entry of its own."""
        half = self.flops.get("fp16") or max(self.flops.values())
        text = (precision or "").lower()
        for key in ("fp8", "int8", "fp4", "fp32"):
            if key in text:
                return self.flops.get(key, half)
        return half


def weight_bytes(precision: str | None) -> float:
    """Bytes a weight takes at a precision's name; two where it is unknown."""
    text = (precision or "").lower()
    for key in _BYTES_4:
        if key in text:
            return 0.56
    for key, value in _BYTES.items():
        if key in text:
            return value
    return 2.0


def words(name: str) -> tuple[str, ...]:
    """The words of a name: "Meta-Llama-3-8B" gives meta, llama, 3, 8, b."""
    return tuple(_WORD.findall(name.lower()))


class Facts:
    """Facts by name.

    Parameters
    ----------
    extra : sequence of paths
        Users' files of the packaged file's form; a later file wins over an earlier one where matches are equally long.

    Raises
    ------
    FormatError
        Where a file is not of that form.
    """

    def __init__(self, extra: Sequence[str | Path] = ()) -> None:
        self._models: list[tuple[tuple[str, ...], ModelFacts]] = []
        self._accelerators: list[tuple[tuple[str, ...], AcceleratorFacts]] = []
        for path in (PACKAGED, *extra):
            self._read(Path(path))

    def model(self, name: str | None) -> ModelFacts:
        """The facts of the model of this name, or an estimate from the size in it ("7b"; 7 billion where none)."""
        parts = words(name or "")
        found = _longest(parts, self._models)
        return found if found is not None else _estimated_model(parts)

    def accelerator(self, name: str | None) -> AcceleratorFacts:
        """The facts of the accelerator of this name; a memory size in the name overrides the entry's."""
        parts = words(name or "")
        found: AcceleratorFacts | None = _longest(parts, self._accelerators)
        memory = _memory_bytes(parts)
        if memory:
            # "A100-SXM4-80GB" means the entry "a100 80gb", whatever stands between
            told = words(f"{memory / 1e9:g}gb")
            for at in range(1, len(parts)):
                moved = _longest((*parts[:at], *told, *parts[at:]), self._accelerators)
                if moved is not None and moved.memory_bytes == memory:
                    found = moved
                    break
        if found is None:
            size = memory or 64e9
            return AcceleratorFacts(size, 2.0e12, {"fp16": 300e12, "fp8": 600e12, "int8": 600e12}, 2e11, known=False)
        return replace(found, memory_bytes=memory) if memory else found

    def _read(self, path: Path) -> None:
        hint = f"see {PACKAGED} for the form"
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise FormatError("a file of facts must be readable YAML", got=f"{path}: {error}", hint=hint) from error
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise FormatError(f"a file of facts must be a mapping with version: {VERSION}", got=str(path), hint=hint)
        try:
            for entry in data.get("models") or ():
                facts = _model(entry)
                self._models += [(words(str(name)), facts) for name in entry["names"]]
            for entry in data.get("accelerators") or ():
                device = _accelerator(entry)
                self._accelerators += [(words(str(name)), device) for name in entry["names"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                "an entry of a file of facts lacks a value or has a wrong one", got=f"{path}: {error!r}", hint=hint
            ) from error


@lru_cache(maxsize=8)
def load_facts(extra: tuple[str, ...] = ()) -> Facts:
    """The packaged facts and those of `extra` files, read once."""
    return Facts(extra)


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _longest(parts: tuple[str, ...], entries: Sequence[tuple[tuple[str, ...], Any]]) -> Any:
    best: Any = None
    length = 0
    for pattern, facts in entries:
        size = len(pattern)
        if size >= length and any(parts[i : i + size] == pattern for i in range(len(parts) - size + 1)):
            best, length = facts, size
    return best


def _positive(value: Any) -> float:
    number = float(value)
    if not number > 0:
        raise ValueError(f"{value!r} must be positive")
    return number


def _model(entry: Mapping[str, Any]) -> ModelFacts:
    parameters = _positive(entry["parameters_b"]) * 1e9
    heads, hidden = _positive(entry["heads"]), _positive(entry["hidden"])
    return ModelFacts(
        parameters=parameters,
        active_parameters=_positive(entry.get("active_parameters_b", parameters / 1e9)) * 1e9,
        layers=_positive(entry["layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=_positive(entry.get("kv_heads", heads)),
        head_dim=_positive(entry.get("head_dim", hidden / heads)),
        vocab=_positive(entry.get("vocab", 32000)),
        experts=_positive(entry.get("experts", 1)),
        experts_per_token=_positive(entry.get("experts_per_token", 1)),
    )


def _accelerator(entry: Mapping[str, Any]) -> AcceleratorFacts:
    flops = {str(key): _positive(value) * 1e12 for key, value in entry["tflops"].items()}
    if not flops:
        raise ValueError("tflops is empty")
    return AcceleratorFacts(
        memory_bytes=_positive(entry["memory_gb"]) * 1e9,
        bandwidth=_positive(entry["bandwidth_gb_s"]) * 1e9,
        flops=flops,
        link=_positive(entry.get("link_gb_s", 32)) * 1e9,
    )


def _estimated_model(parts: tuple[str, ...]) -> ModelFacts:
    """Shape from size: parameters = 12 layers hidden², hidden = 128 layers (the usual aspect), grouped heads of 128."""
    scale = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
    pairs = [(float(a) * scale[b]) for a, b in pairwise(parts) if a[0].isdigit() and b in scale]
    parameters = max([size for size in pairs if size > 0], default=7e9)
    layers = max(2.0, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = (parameters / (12 * layers)) ** 0.5
    heads = max(1.0, round(hidden / 128))
    return ModelFacts(parameters, parameters, layers, hidden, heads, max(1.0, heads / 4), hidden / heads, known=False)


def _memory_bytes(parts: tuple[str, ...]) -> float | None:
    # "A100-80G" names its memory, "A10G" does not: a lone g counts only after another word and its number
    sizes = [
        float(a) * 1e9
        for at, (a, b) in enumerate(pairwise(parts))
        if a[0].isdigit() and (b in ("gb", "gib") or (b == "g" and at >= 2))
    ]
    return max(sizes) if sizes and max(sizes) > 0 else None
