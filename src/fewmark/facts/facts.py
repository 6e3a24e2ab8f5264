"""Published facts of models and accelerators, found by name; a user's file extends or overrides the packaged one.

Names differ between sources ("meta-llama/Llama-2-7b-hf", "llama2-7b"; "Nvidia A100 GPU", "A100-80GB"), so a name is cut
into words (at punctuation, and where letters and digits meet) and an entry applies when the words of one of its names
occur in it side by side; between a model's family and its size other words may stand ("qwen 2.5 7b" is what
"Qwen2.5-Coder-7B" is). The longest match wins. A packaged entry whose size is not one that the name states is another
model ("DeepSeek-R1-Distill-Qwen-7B" is not "deepseek r1"). What no entry covers is estimated: a model's size from a
word pair such as "7 b" and its shape from that size, an accelerator as a median one of its stated memory. `known` tells
which.

Units: counts (parameters, not billions), bytes, bytes/s, FLOP/s.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from fewmark.core.errors import FormatError
from fewmark.facts.names import COUNT, UNITS, contains, contains_spread, longest, says, words

VERSION: Final = 1
VARIABLE: Final = "FEWMARK_FACTS"
PACKAGED: Final = Path(__file__).with_name("facts.yaml")
SIZE_TOLERANCE: Final = 1.6  # a stated size and an entry's are of one model within this factor
ACTIVE_SIZE_TOLERANCE: Final = 1.1  # the same of active parameters
MAX_MEMORY_RATIO: Final = 3.0  # times an entry's
SHARED: Final = 0.83  # of experts x size: attention and embeddings are not copied
EXPERTS: Final = (128.0, 8.0)  # of a mixture of which only the active parameters are stated, and those of a token
_BYTES: Final = {  # of a weight, by words of a precision or of a model's name
    0.33: "q 2, iq 2",
    0.43: "q 3, iq 3, 3 bit",
    0.53: "fp 4, mxfp 4",
    0.56: "nvfp 4, int 4, uint 4, w 4 a, 4 bit, awq, gptq, q 4, iq 4, nf 4",
    0.69: "q 5",
    0.82: "q 6",
    1.0: "fp 8, float 8, int 8, w 8 a, 8 bit",
    1.06: "q 8",
    2.0: "fp 16, bf 16, float 16, bfloat 16, half",
    4.0: "fp 32, tf 32, float 32",
}
_PEAKS: Final = {
    "fp8": "fp 8, float 8",
    "int8": "int 8, w 8 a 8, w 4 a 8",
    "fp4": "fp 4, mxfp 4, nvfp 4",
    "fp32": _BYTES[4.0],
}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A language model's shape. `known` is False where the name was not recognised and the shape is estimated.

    A share `full_layers` of its layers attends to the whole context, the others to the last `window` tokens.
    """

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
    window: float = math.inf
    full_layers: float = 1.0
    known: bool = True

    def context(self, tokens: float) -> float:
        """Tokens of which a layer keeps keys and values, in the mean over layers, of a context of so many."""
        return self.full_layers * tokens + (1 - self.full_layers) * min(tokens, self.window)


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """One device's published peaks. `known` is False where the name was not recognised."""

    memory_bytes: float
    bandwidth: float
    flops: Mapping[str, float]
    link: float
    known: bool = True

    def flops_at(self, precision: str | None, model: str | None = None) -> float:
        """Dense peak FLOP/s at a precision, or the one in a model's name; half precision's where it has no entry."""
        half = self.flops.get("fp16") or max(self.flops.values())
        for text in (precision, model):
            for key, patterns in _PEAKS.items():
                if says(text, patterns):
                    return self.flops.get(key, half)
        return half


def weight_bytes(precision: str | None, model: str | None = None) -> float:
    """Bytes that a weight takes at a precision's name; two where it is unknown.

    A model's name that states fewer ("Qwen2.5-7B-Instruct-AWQ") is believed: the precision is then the activations'.
    """
    told = [
        min((size for size, names in _BYTES.items() if says(text, names)), default=0.0) for text in (precision, model)
    ]
    return min(filter(None, told), default=2.0)


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
        self._models: list[tuple[tuple[str, ...], ModelFacts, bool]] = []  # whether packaged
        self._accelerators: list[tuple[tuple[str, ...], AcceleratorFacts]] = []
        self._aliases: dict[tuple[str, str], str] = {}  # of a column and a name as plain text
        self._model_of: dict[str | None, ModelFacts] = {}  # what was asked for
        self._accelerator_of: dict[str | None, AcceleratorFacts] = {}
        for path in (PACKAGED, *extra):
            self._read(Path(path))

    def model(self, name: str | None) -> ModelFacts:
        """The facts of the model of this name, or an estimate from the size in it ("7b"; 7 billion where none)."""
        if name not in self._model_of:
            self._model_of[name] = self._model(words(name or ""))
        return self._model_of[name]

    def _model(self, parts: tuple[str, ...]) -> ModelFacts:
        stated = _Stated.by(parts)
        best: ModelFacts | None = None
        rank, there = (0, False), set(parts)
        for pattern, facts, packaged in self._models:
            if not there.issuperset(pattern):
                continue
            near = contains(pattern, parts)
            if (len(pattern), near) < rank or not (near or contains_spread(pattern, parts)):
                continue
            if not packaged or stated.agrees(facts):
                best, rank = facts, (len(pattern), near)
        return best if best is not None else _estimated_model(stated)

    def accelerator(self, name: str | None) -> AcceleratorFacts:
        """The facts of the accelerator of this name; a memory size in the name overrides the entry's.

        Unless it is far more than the entry's: that of a board with its processor, or of several devices.
        """
        if name not in self._accelerator_of:
            self._accelerator_of[name] = self._accelerator(words(COUNT.sub("", (name or "").lower())))
        return self._accelerator_of[name]

    def _accelerator(self, parts: tuple[str, ...]) -> AcceleratorFacts:
        found: AcceleratorFacts | None = longest(parts, self._accelerators)
        memory = _memory_bytes(parts)
        if memory:
            # "A100-SXM4-80GB" means the entry "a100 80gb", whatever stands between
            told = words(f"{memory / 1e9:g}gb")
            for at in range(1, len(parts)):
                moved = longest((*parts[:at], *told, *parts[at:]), self._accelerators)
                if moved is not None and moved.memory_bytes == memory:
                    found = moved
                    break
        if found is None:
            size = memory or 64e9
            return AcceleratorFacts(size, 2.0e12, {"fp16": 300e12, "fp8": 600e12, "int8": 600e12}, 2e11, known=False)
        return (
            replace(found, memory_bytes=memory) if memory and memory < MAX_MEMORY_RATIO * found.memory_bytes else found
        )

    def alias(self, column: str, name: str) -> str | None:
        """What a name of a column is said to be the same as (`aliases` in the files); None where nothing is."""
        return self._aliases.get((column, _letters(name)))

    def memory_sizes(self, parts: tuple[str, ...]) -> set[float]:
        """The memory sizes, GB, of the accelerators of exactly this name (words without any memory size)."""
        out = set()
        for pattern, device in self._accelerators:
            told = _memory_bytes(pattern)
            if told is not None and pattern[-1] in ("gb", "gib", "g"):
                pattern = pattern[:-2]
            if pattern == parts:
                out.add(device.memory_bytes / 1e9)
        return out

    def digest(self, models: Iterable[str], accelerators: Iterable[str]) -> str:
        """What is held for known of models and accelerators, as a text that is another where any of it is."""
        told = [repr(self.model(name)) for name in sorted(models)]
        told += [repr(self.accelerator(name)) for name in sorted(accelerators)]
        return blake2b("\n".join(told).encode(), digest_size=8).hexdigest()

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
                self._models += [(words(str(name)), facts, path == PACKAGED) for name in entry["names"]]
            for entry in data.get("accelerators") or ():
                device = _accelerator(entry)
                self._accelerators += [(words(str(name)), device) for name in entry["names"]]
            for entry in data.get("aliases") or ():
                for name in entry["names"]:
                    self._aliases[str(entry["column"]), _letters(str(name))] = _letters(str(entry["names"][0]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                "an entry of a file of facts lacks a value or has a wrong one", got=f"{path}: {error!r}", hint=hint
            ) from error


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def user_files() -> tuple[str, ...]:
    """The users' files of facts that the variable `FEWMARK_FACTS` names, absolute, separated as in `PATH`."""
    told = os.environ.get(VARIABLE, "").split(os.pathsep)
    return tuple(str(Path(path).absolute()) for path in told if path)


@lru_cache(maxsize=8)
def load_facts(extra: tuple[str, ...] = ()) -> Facts:
    """The packaged facts and those of `extra` files, read once."""
    return Facts(extra)


def _loader() -> type[yaml.SafeLoader]:
    found: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return found


@dataclass(frozen=True, slots=True)
class _Stated:
    """The parameters that a model's name states: "30b-a3b" has 30 billion, 3 active; "8x7b" eight experts of 7."""

    sizes: tuple[float, ...]
    active: float | None
    experts: float

    @classmethod
    def by(cls, parts: tuple[str, ...]) -> _Stated:
        sizes: list[float] = []
        active, experts = None, 1.0
        for at, (number, unit) in enumerate(pairwise(parts)):
            if unit not in UNITS or not number[0].isdigit() or float(number) == 0:
                continue
            size, before = float(number) * UNITS[unit], parts[at - 1] if at else ""
            if before == "a" and sizes:
                active = size
            elif before == "x" and at > 1 and parts[at - 2].isdigit():
                experts = max(1.0, float(parts[at - 2]))
                sizes.append(SHARED * experts * size)
            else:
                sizes.append(size)
        return cls(tuple(sizes), active, experts)

    def agrees(self, facts: ModelFacts) -> bool:
        """Whether facts are of a stated size, all parameters or exactly the active ones, or none is stated."""
        return not self.sizes or any(
            1 / SIZE_TOLERANCE < size / facts.parameters < SIZE_TOLERANCE
            or 1 / ACTIVE_SIZE_TOLERANCE < size / facts.active_parameters < ACTIVE_SIZE_TOLERANCE
            for size in self.sizes
        )


def _positive(value: float) -> float:
    number = float(value)
    if not number > 0:
        raise ValueError(f"{value!r} must be positive")
    return number


def _share(value: float) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r} must be a share from 0 to 1")
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
        window=_positive(entry.get("window", math.inf)),
        full_layers=_share(entry.get("full_layers", 1.0 if "window" not in entry else 0.0)),
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


def _estimated_model(stated: _Stated) -> ModelFacts:
    """Shape from size: parameters = 12 layers hidden², hidden = 128 layers (the usual aspect), grouped heads of 128."""
    parameters = max(stated.sizes, default=7e9)
    active, experts, chosen = min(stated.active or parameters, parameters), stated.experts, 1.0
    if active < parameters:
        experts, chosen = EXPERTS
    elif experts > 1:
        chosen = min(2.0, experts)
        active = parameters * chosen / experts
    layers = max(2.0, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = (parameters / (12 * layers)) ** 0.5
    heads = max(1.0, round(hidden / 128))
    return ModelFacts(
        parameters, active, layers, hidden, heads, max(1.0, heads / 4), hidden / heads,
        experts=experts, experts_per_token=chosen, known=False,
    )  # fmt: skip


def _memory_bytes(parts: tuple[str, ...]) -> float | None:
    # "A100-80G" names its memory, "A10G" does not: a lone g counts only where its number stands by itself
    sizes = [
        float(a) * 1e9
        for at, (a, b) in enumerate(pairwise(parts))
        if a[0].isdigit() and (b in ("gb", "gib") or (b == "g" and at and parts[at - 1] != "a"))
    ]
    return max(sizes) if sizes and max(sizes) > 0 else None
