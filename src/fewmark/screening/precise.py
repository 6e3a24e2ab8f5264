"""When two equal numbers are too precise to be equal by accident."""

from __future__ import annotations

from typing import Final

import numpy as np

CHANCE: Final = 0.01  # expected number of equal pairs in the whole table by accident


def needed_digits(n_rows: int) -> int:
    """So many significant digits that less than one accident in a hundred tables of this size is expected."""
    return int(np.ceil(np.log10(max(n_rows, 10) ** 2 / 2 / CHANCE)))


def is_precise(value: float, digits: int) -> bool:
    """Whether a number was written with at least so many significant digits."""
    return float(f"{value:.{max(digits - 2, 0)}e}") != value
