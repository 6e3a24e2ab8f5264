"""Which names mean the same model, accelerator, engine or precision.

Spelling, letter case, a publisher before a slash and a vendor's name tell nothing apart. Sizes, memory variants, form
factors, quantisations and fine-tunes do: whatever else a name says is part of what it names. A memory size that is the
only one of its accelerator tells nothing; where there are several ("A100"), a name without one is by itself. What words
cannot tell ("trt-llm") stands under `aliases` in the file of facts, which users extend with their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from fewmark.facts.facts import Facts
from fewmark.facts.names import COUNT, words

NAMED: Final = ("engine", "model", "precision", "accelerator")
"""The columns that hold names."""
_VENDORS: Final = frozenset(
    (
        *("nvidia", "amd", "intel", "habana", "google", "aws", "amazon", "apple", "qualcomm", "huawei"),
        *("tesla", "instinct", "geforce", "radeon"),
    )
)
_GENERIC: Final = frozenset(("gpu", "gpus", "hpu", "accelerator", "card", "tensor", "core", "graphics"))
_MEMORY: Final = ("gb", "gib", "g")
_SUFFIX: Final = frozenset(("hf",))  # of checkpoints in the format of transformers: the same weights

Key = tuple[str, ...]


def key_of(column: str, name: str, facts: Facts) -> Key:
    """What a name of one of `NAMED` means; equal for names that mean the same, publishers of models apart.

    Raises
    ------
    KeyError
        If the column holds no names.
    """
    alias = facts.alias(column, name)
    if alias is not None:
        return ("alias", alias)
    return {"engine": _plain, "model": _model, "precision": _plain, "accelerator": _accelerator}[column](name, facts)


def same_names(column: str, names: Iterable[str], facts: Facts) -> dict[str, str]:
    """Each name → the first of those that mean the same. Order matters: earlier ones are kept.

    A model's publisher tells apart what the facts do not know and several publish ("org/a", "other/a").
    """
    names = list(dict.fromkeys(names))
    keys = {name: key_of(column, name, facts) for name in names}
    if column == "model":
        publishers: dict[Key, set[str]] = {}
        for name in names:
            publishers.setdefault(keys[name], set()).add(_publisher(name))
        for name in names:
            several = publishers[keys[name]] - {""}
            if len(several) > 1 and not facts.model(name).known:
                keys[name] = (*keys[name], "by", _publisher(name))
    first: dict[Key, str] = {}
    return {name: first.setdefault(keys[name], name) for name in names}


def near_names(name: str, known: Sequence[str], n: int = 3) -> list[str]:
    """Names that look like this one, the nearest first."""
    spelled = {" ".join(words(other.rsplit("/", 1)[-1])): other for other in known}
    asked = " ".join(words(name.rsplit("/", 1)[-1]))
    return [spelled[found] for found in get_close_matches(asked, list(spelled), n, 0.6)]


def _plain(name: str, facts: Facts) -> Key:
    return ("".join(letter for letter in name.lower() if letter.isalnum()),)


def _publisher(name: str) -> str:
    return name.rsplit("/", 1)[0].lower() if "/" in name else ""


def _model(name: str, facts: Facts) -> Key:
    if ":" in name:  # a tag chooses a quantisation that the name does not say
        return (name.lower(),)
    parts = list(words(name.rstrip("/").rsplit("/", 1)[-1]))
    if parts[:2] == ["meta", "llama"]:
        del parts[0]
    while len(parts) > 1 and parts[-1] in _SUFFIX:
        del parts[-1]
    return tuple(parts) or (name.lower(),)


def _accelerator(name: str, facts: Facts) -> Key:
    if COUNT.search(name.lower()):  # "8xH100" says more than what it is
        return (name.lower(),)
    parts = list(words(name))
    kept: list[str] = []
    memory: float | None = None
    at = 0
    while at < len(parts):
        word, after = parts[at], parts[at + 1] if at + 1 < len(parts) else ""
        if word[0].isdigit() and after in _MEMORY and not (after == "g" and kept[-1:] == ["a"]):
            memory = float(word)
            at += 2
        elif word in ("hbm", "sxm", "gddr", "oam"):  # with the number of the standard behind it, and "e" of HBM3e
            at += 2 if after[:1].isdigit() else 1
            if word == "hbm" and at < len(parts) and parts[at] == "e":
                at += 1
        elif word in _VENDORS or word in _GENERIC:
            at += 1
        else:
            kept.append(word)
            at += 1
    if not kept:
        return tuple(parts) or (name.lower(),)
    sizes = facts.memory_sizes(tuple(kept))
    if memory is not None and sizes == {memory}:
        memory = None
    return (*kept, f"{memory:g}gb") if memory is not None else tuple(kept)


def shown(taken: Mapping[str, str], column: str) -> list[str]:
    """What was taken for what, as sentences."""
    return [f"{column} {name!r} is taken for {other!r}" for name, other in taken.items() if name != other]
