"""One accelerator under two names that disagree with each other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from fewmark.core.columns import DEPLOYMENT_COLUMNS
from fewmark.screening.base import Finding
from fewmark.screening.grid import log_latency
from fewmark.screening.remembered import workload_codes
from fewmark.tables.identity import group_codes

DISAGREES: Final = float(np.log(1.8))  # median over shared cells; form factors of one chip differ by less
SHARED: Final = 4
_VENDORS: Final = r"nvidia|amd|intel|habana|google|aws|amazon|tesla|instinct|geforce|radeon"
_GENERIC: Final = (
    r"gpus?|hpu|tpu|npu|accelerator|card|device|data|center|datacenter|series|chip|oam|pcie|sxm\d*|hbm\d*e?"
)
# Names under which vendors sell or announce the same silicon. General knowledge, not any data's labels.
_CODE_NAMES: Final = (
    ("ponte vecchio", "max1550"),
    ("pvc", "max1550"),
    ("aqua vanjaram", "mi300x"),
    ("gaudi 2", "gaudi2"),
    ("gaudi 3", "gaudi3"),
    ("grace hopper", "gh200"),
)


def chip(label: str) -> str:
    """What remains of an accelerator's label without vendor, memory size, form factor and spelling."""
    text = re.sub(r"\b\d+\s*(gb|gib|g)\b", " ", re.sub(r"[^a-z0-9]+", " ", label.lower()))
    for name, chip_name in _CODE_NAMES:
        text = re.sub(rf"\b{name}\b", chip_name, text)
    return "".join(re.sub(rf"\b({_VENDORS}|{_GENERIC})\b", " ", text).split())


class LabelConflict:
    """Two labels of one chip should agree on the configurations that they share. Where they do not, one is wrong.

    Labels are one chip if they differ only in vendor, memory size, form factor or spelling, or are a product's name
    and its well-known code name. Different accelerators are never compared, however unlike they are. Which label is
    right cannot be told from the table, so the shared cells of both go.
    """

    name = "label-conflict"
    description = "one accelerator under two names which disagree on shared configurations"

    def find(self, frame: pd.DataFrame) -> Iterable[Finding]:
        """Exclude the shared cells of both labels."""
        labels = frame["accelerator"]
        chips = {label: chip(str(label)) for label in labels.dropna().unique()}
        latency = log_latency(frame)
        rest = group_codes(frame, [n for n in DEPLOYMENT_COLUMNS if n != "accelerator"] + _options(frame))[0]
        cell = group_codes(pd.DataFrame({"rest": rest, "work": workload_codes(frame)}, dtype=float), ["rest", "work"])[
            0
        ]
        for first, second in combinations(sorted(chips, key=str), 2):
            if not chips[first] or chips[first] != chips[second]:
                continue
            medians = [
                pd.Series(latency, index=cell)[(labels == label).to_numpy()].dropna().groupby(level=0).median()
                for label in (first, second)
            ]
            difference = (medians[0] - medians[1]).dropna()
            if len(difference) < SHARED or abs(float(difference.median())) < DISAGREES:
                continue
            low, high = np.exp(np.abs(difference).min()), np.exp(np.abs(difference).max())
            told = f"differ {low:.1f} to {high:.1f} times on {len(difference)} shared configurations"
            shared = pd.Series(np.isin(cell, difference.index), index=frame.index)
            for label in frame.index[labels.isin((first, second)) & shared]:
                name = frame.at[label, "accelerator"]
                other = second if name == first else first
                reason = f"{name!r} and {other!r} name one chip but {told}; which of the two is right is unknown"
                yield Finding(int(label) + 1, self.name, reason, "exclude")


def _options(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("option.")]
