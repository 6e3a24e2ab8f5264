"""A few cells that stand for many: those that are measured in full as well where generations are cut short."""

from __future__ import annotations

from collections.abc import Sequence

from fewmark.core import Case


def spread(cases: Sequence[Case], n: int) -> list[Case]:
    """At most n cases, spread by the work that they ask for and, of those about alike, by their loads."""

    def work(case: Case) -> tuple[float, str]:
        asked = case.workload
        return asked.output_tokens * asked.load * (asked.input_tokens + asked.output_tokens / 2), case.case_id

    ordered = sorted(cases, key=work)
    n = min(n, len(ordered))
    out: list[Case] = []
    for part in range(n):
        near = ordered[part * len(ordered) // n : (part + 1) * len(ordered) // n]
        loads = {case.workload.load for case in out}
        new = [case for case in near if case.workload.load not in loads] or near
        out.append(new[len(new) // 2])
    return out


def in_full_as_well(cases: Sequence[Case], n: int) -> list[Case]:
    """At most n of the cases that are cut short: a third, since of two cells one in full would cost what it saves."""
    return spread(cases, max(0, min(n, len(cases) // 3)))
