"""A table in anybody's spelling to canonical columns: names, units, notations, words for failures.

Nothing is changed without a word: what was converted stands in each row's ``note``, what was decided from the values
in `Understanding.notes`, and columns that nobody understood in `Understanding.unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Final

import numpy as np

from fewmark.core import FormatError, Status
from fewmark.core.cells import Cell, Columns
from fewmark.core.columns import LOAD_COLUMNS, NUMERIC_COLUMNS, OPTION_PREFIX, WORKLOAD_PREFIX
from fewmark.interop.dialects.column_cells import floats, foreign, labels, numbers, status_cell
from fewmark.interop.dialects.headers import (
    LABEL,
    OWN_COLUMNS,
    REQUEST_RATE,
    STATUS,
    TIME,
    TOKEN_RATE,
    Meaning,
    fold,
    meaning_of,
    near_names,
)
from fewmark.interop.dialects.identities import FloatArray, kind_of_throughput, unit_of_times
from fewmark.interop.dialects.notation import Notation
from fewmark.interop.table.understanding import Understanding
from fewmark.interop.text.cells import is_unknown, text_to_cell, to_float
from fewmark.interop.text.decimal_mark import decimal_mark

TRUTH: Final = frozenset(("true", "false", "on", "off", "yes", "no"))


def normalise(
    columns: Columns,
    *,
    separator: str = ",",
    typed: bool = False,
    meanings: Mapping[str, Meaning | None] | None = None,
) -> tuple[dict[str, Sequence[Cell]], Understanding]:
    """The columns under canonical names and in canonical units, ready for `fewmark.interop.table.frame.build_frame`.

    Parameters
    ----------
    columns : own name → one cell a row, texts or JSON values
    separator : what stood between the columns of a text file; it tells the likelier decimal mark
    typed : whether texts are values already, and not a text file's
    meanings : what columns mean where a mapping says so; by default by their names

    Raises
    ------
    FormatError
        If a cell is not what its column says, or two columns stand for one; names the data row and the column.
    """
    told = Understanding()
    chosen = _choose(columns, meanings or {}, told)
    n_rows = max((len(cells) for cells in columns.values()), default=0)
    statuses: list[Status | None] = [None] * n_rows
    notes: list[list[str]] = [[] for _ in range(n_rows)]
    numeric = [own for own, m in chosen.items() if m is not None and m.kind not in (LABEL, STATUS)]
    plain = {own: floats(columns[own]) for own in numeric}
    notation = _notation(columns, plain, separator)
    out: dict[str, Sequence[Cell]] = {}
    open_units: dict[str, list[bool]] = {}
    for own, meaning in chosen.items():
        cells = columns[own]
        if meaning is None:
            out[own] = cells if typed else foreign(cells)
        elif meaning.kind == STATUS:
            out["status"] = [status_cell(cell, fold(own), row) for row, cell in enumerate(cells, start=1)]
        elif meaning.kind == LABEL:
            out[meaning.column] = labels(cells, typed)
        else:
            values, named = numbers(own, meaning, (cells, plain[own]), notation, statuses, notes)
            out[meaning.column] = values
            if meaning.factor is None:
                open_units[meaning.column] = named
    _load_of_rates(out, chosen, told)
    _one_load(out, columns, chosen, told)
    _decide_units(out, chosen, open_units, told)
    _decide_throughput(out, chosen, told)
    _whole_system(out, chosen, told)
    _merge_status(out, statuses, notes)
    _write_notes(out, chosen, notes, told)
    return out, told


def _choose(columns: Columns, given: Mapping[str, Meaning | None], told: Understanding) -> dict[str, Meaning | None]:
    """Which column stands for what: exact names first, then the surest spelling; the rest is kept as it is."""
    meanings = {own: given[own] if own in given else meaning_of(own) for own in columns}
    for own, meaning in meanings.items():
        if meaning and own not in given and meaning.column.startswith(OPTION_PREFIX) and _says_whether(columns[own]):
            meanings[own] = None  # a switch, such as vLLM's for expert parallelism, and not a degree
    best: dict[str, str] = {}
    for own, meaning in meanings.items():
        if meaning is None:
            continue
        rival = best.get(meaning.column)
        held = meanings[rival] if rival is not None else None
        if rival is None or held is None or meaning.rank < held.rank:
            best[meaning.column] = own
        elif meaning.rank == held.rank:
            raise FormatError(f"two columns stand for {meaning.column}", got=[rival, own], hint="remove one of the two")
    chosen = {own: meaning if meaning and best[meaning.column] == own else None for own, meaning in meanings.items()}
    for own, meaning in chosen.items():
        if meaning is not None and fold(own) != fold(meaning.column):
            told.taken[meaning.column] = own
        elif meaning is None and not own.startswith((OPTION_PREFIX, WORKLOAD_PREFIX)) and own not in OWN_COLUMNS:
            told.unknown[own] = near_names(own) if meanings[own] is None else []
    return chosen


def _says_whether(cells: Sequence[object]) -> bool:
    return any(str(cell).strip().lower() in TRUTH for cell in cells)


def _notation(columns: Columns, plain: Mapping[str, list[float | None] | None], separator: str) -> Notation:
    if separator == "," and all(values is not None for values in plain.values()):
        return Notation(".")  # what `decimal_mark` says of such texts
    texts = {own: [cell for cell in columns[own] if isinstance(cell, str)] for own in plain}
    return Notation(decimal_mark(texts, separator))


def _array(out: Columns, name: str) -> FloatArray | None:
    if name not in out:
        return None
    return np.array([math.nan if is_unknown(cell) else cell for cell in out[name]], dtype=np.float64)


def _arrays(out: Columns) -> dict[str, FloatArray]:
    """The table's numbers, failed values and zeros unknown, with the load that each row has."""
    names = [name for name in out if name in NUMERIC_COLUMNS]
    arrays = {}
    for name in names:
        try:
            found = _array(out, name)
        except (TypeError, ValueError):
            continue
        if found is not None:
            arrays[name] = np.where(found > 0, found, np.nan)
    batch, online = arrays.get("batch_size"), arrays.get("concurrency")
    if batch is not None and online is not None:
        arrays["load"] = np.where(np.isnan(batch), online, batch)
    elif batch is not None or online is not None:
        arrays["load"] = batch if batch is not None else online  # type: ignore[assignment]
    return arrays


def _load_of_rates(out: dict[str, Sequence[Cell]], chosen: dict[str, Meaning | None], told: Understanding) -> None:
    """A rate of requests beside a batch size or a concurrency is what was reached, not what was asked for."""
    for own, meaning in chosen.items():
        if meaning is None or meaning.column != "request_rate" or fold(own) not in ("qps", "rps"):
            continue
        loads = [out[name] for name in ("batch_size", "concurrency") if name in out]
        if any(not is_unknown(cell) for cells in loads for cell in cells):
            if "request_throughput_req_s" not in out:
                out["request_throughput_req_s"] = out["request_rate"]
                told.taken["request_throughput_req_s"] = own
            del out["request_rate"]
            told.taken.pop("request_rate", None)


def _one_load(
    out: dict[str, Sequence[Cell]],
    columns: Columns,
    chosen: Mapping[str, Meaning | None],
    told: Understanding,
) -> None:
    """A load under its own name beats another under some other name: the cap of an open loop, say, is no load."""
    named = {meaning.column: own for own, meaning in chosen.items() if meaning and meaning.column in LOAD_COLUMNS}
    for first, second in permutations([name for name in LOAD_COLUMNS if name in out and name in named], 2):
        if fold(named[first]) != first or fold(named[second]) == second:
            continue
        both = [not is_unknown(a) and not is_unknown(b) for a, b in zip(out[first], out[second], strict=True)]
        if any(both):
            out[second] = [None if two else cell for cell, two in zip(out[second], both, strict=True)]
            own = named[second]
            cells = columns[own]
            out[own] = [text_to_cell(cell) if isinstance(cell, str) else cell for cell in cells]
            told.notes.append(f"{own} is not a load where {first} is given")


def _decide_units(
    out: dict[str, Sequence[Cell]],
    chosen: dict[str, Meaning | None],
    open_units: Mapping[str, list[bool]],
    told: Understanding,
) -> None:
    undecided = {
        name: named
        for name, named in open_units.items()
        if any(not is_unknown(cell) and not has for cell, has in zip(out[name], named, strict=True))
    }
    if not undecided:
        return
    arrays = _arrays(out)
    for name, named in undecided.items():  # cells that name their unit are settled already
        arrays[name] = np.where(np.array(named), np.nan, arrays[name])
    known = {name: values for name, values in arrays.items() if name not in undecided or np.isfinite(values).any()}
    decided = unit_of_times(known, tuple(name for name in undecided if name in known))
    for name, named in undecided.items():
        own = told.taken.get(name, name)
        if name not in decided:
            cells = out.pop(name)
            out[own] = list(cells)
            told.taken.pop(name, None)
            told.unknown[own] = []
            told.notes.append(f"{own}: neither name nor values tell seconds from milliseconds; call it {name} or _ms")
            for key, meaning in chosen.items():
                if meaning is not None and meaning.column == name:
                    chosen[key] = None
            continue
        factor, reason = decided[name]
        told.notes.append(f"{own}: {reason}")
        if factor != 1.0:
            cells = out[name]
            out[name] = [
                cell if is_unknown(cell) or has else to_float(cell) / round(1 / factor)
                for cell, has in zip(cells, named, strict=True)
            ]


def _decide_throughput(out: dict[str, Sequence[Cell]], chosen: dict[str, Meaning | None], told: Understanding) -> None:
    """Output tokens, all tokens, or output tokens while decoding: by the identities, where the name leaves it open."""
    own = told.taken.get("throughput_tok_s")
    meaning = chosen.get(own) if own is not None else None
    if own is None or meaning is None or meaning.kind != TOKEN_RATE:
        return
    arrays = _arrays(out)
    rate = arrays.get("throughput_tok_s")
    if rate is None or meaning.per_accelerator:
        return
    online = "batch_size" not in arrays
    kind, reason = kind_of_throughput(arrays, rate, online)
    if kind == "decode_throughput_tok_s" and kind not in out:
        # Some count the first token among those of the decoding; by our definition it is not one of them.
        tokens = arrays["output_tokens"]
        share = (tokens - 1) / tokens
        out[kind] = [
            None if is_unknown(cell) else to_float(cell) * float(part)
            for cell, part in zip(out["throughput_tok_s"], share, strict=True)
        ]
        _rename(out, told, own, kind)
        told.notes.append(f"{own} taken as the throughput of decoding alone: {reason}")
    elif meaning.is_vague and kind == "total_throughput_tok_s" and kind not in out:
        out[kind] = out["throughput_tok_s"]
        _rename(out, told, own, kind)
        told.notes.append(f"{own} taken as input and output tokens: {reason}")
    elif meaning.is_vague:
        told.notes.append(f"{own} taken as output tokens a second: {reason}")


def _rename(out: dict[str, Sequence[Cell]], told: Understanding, own: str, column: str) -> None:
    del out["throughput_tok_s"]
    del told.taken["throughput_tok_s"]
    told.taken[column] = own


def _whole_system(out: dict[str, Sequence[Cell]], chosen: Mapping[str, Meaning | None], told: Understanding) -> None:
    """Values per accelerator times the accelerators; where their number is unknown, so is the value."""
    for own, meaning in chosen.items():
        if meaning is None or not meaning.per_accelerator or meaning.column not in out:
            continue
        counts = out.get("accelerator_count")
        cells = out[meaning.column]
        if counts is None or all(is_unknown(count) for count in counts):
            out[own] = out.pop(meaning.column)
            told.taken.pop(meaning.column, None)
            told.unknown[own] = []
            told.notes.append(f"{own}: per accelerator, and nothing says how many there are (accelerator_count)")
            continue
        out[meaning.column] = [
            None if is_unknown(cell) or is_unknown(count) else to_float(cell) * to_float(count)
            for cell, count in zip(cells, counts, strict=True)
        ]
        told.notes.append(f"{own}: times accelerator_count")


def _merge_status(out: dict[str, Sequence[Cell]], statuses: list[Status | None], notes: list[list[str]]) -> None:
    """A failure that a value's cell tells is the row's, whatever its status says."""
    if not any(statuses):
        return
    held = list(out.get("status", [None] * len(statuses)))
    for position, found in enumerate(statuses):
        if found is not None and held[position] in (None, str(Status.OK)):
            if held[position] is not None:
                notes[position].append("though the status said ok")
            held[position] = str(found)
    out["status"] = held


def _write_notes(
    out: dict[str, Sequence[Cell]],
    chosen: Mapping[str, Meaning | None],
    notes: list[list[str]],
    told: Understanding,
) -> None:
    converted = [
        f"{column} from {own}"
        for column, own in told.taken.items()
        if (meaning := chosen.get(own)) is not None
        and meaning.kind in (TIME, TOKEN_RATE, REQUEST_RATE)
        and (meaning.factor != 1.0 or meaning.column != column or meaning.per_accelerator)
    ]
    if not converted and not any(notes):
        return
    held = list(out.get("note", [None] * len(notes)))
    joined = [[str(old)] if not is_unknown(old) else [] for old in held]
    out["note"] = ["; ".join([*old, *converted, *own]) or None for old, own in zip(joined, notes, strict=True)]
