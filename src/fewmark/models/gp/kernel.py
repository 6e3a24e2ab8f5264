"""The covariance of `auto`: a sum of stationary and linear components, each within groups of like deployments.

Notation:
    n, m        cells of two sets; q columns of `Inputs.values`; g columns of `Inputs.codes`
    component c      a mask (columns of `codes` that two cells must share), columns of `values`, and a kind
    theta (t,)  every component's hyperparameters one after another: the log standard deviation of a stationary one and
                the log length scale of each of its columns; a linear one's log standard deviation of each of its own

    stationary  k_c(x, x') = [same mask] a_c² exp(-1/2 sum_j (x_j - x'_j)² / l_cj²)
    linear      k_c(x, x') = [same mask] sum_j s_cj² x_j x'_j

A component may be scaled: k_c(x, x') g(x) g(x') with a column g of `values`, the amplitude multiplier of the cell's
group. Hyperparameters are learned at g = 1.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections 4.2 and 5.1 for the kernels;
additive multi-task structure as in Duvenaud (2014), chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewmark.tables.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the covariance sees of n cells: numbers (n, q) and group codes (n, g); equal codes mean the same group.

    `known_noise` (n,) is the variance of what each learned value is off by for itself, beside the noise, where it is
    known to be off: a component of the covariance that no cell shares with another. None: of no cell.
    """

    values: FloatArray
    codes: IntArray
    known_noise: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: IntArray | BoolArray | slice) -> Inputs:
        """The cells at these positions."""
        return Inputs(
            self.values[index], self.codes[index], None if self.known_noise is None else self.known_noise[index]
        )

    def join(self, other: Inputs) -> Inputs:
        """These cells and then the other ones."""
        values, codes = np.vstack([self.values, other.values]), np.vstack([self.codes, other.codes])
        if self.known_noise is None and other.known_noise is None:
            return Inputs(values, codes)
        doubts = (np.zeros(len(each)) if each.known_noise is None else each.known_noise for each in (self, other))
        return Inputs(values, codes, np.concatenate(list(doubts)))


@dataclass(frozen=True, slots=True)
class Component:
    """One summand: which groups two cells must share, which columns it looks at, and how."""

    name: str
    mask: tuple[int, ...]
    columns: tuple[int, ...]
    linear: bool = False
    scaled: int | None = None  # the column g

    @property
    def size(self) -> int:
        """How many hyperparameters it has."""
        return len(self.columns) + (0 if self.linear else 1)


class Kernel:
    """A sum of components; `components` fixes the layout of theta."""

    def __init__(self, components: tuple[Component, ...]) -> None:
        self.components = components
        ends = np.cumsum([component.size for component in components])
        self.slices = tuple(
            slice(int(end) - component.size, int(end)) for component, end in zip(components, ends, strict=True)
        )
        self.size = int(ends[-1])
        self._by_mask: dict[tuple[int, ...], list[tuple[Component, slice]]] = {}
        for component, at in zip(components, self.slices, strict=True):
            self._by_mask.setdefault(component.mask, []).append((component, at))

    def matrix(self, theta: FloatArray, a: Inputs, b: Inputs | None = None) -> FloatArray:
        """The covariance of each cell of a with each of b, (n, m); of a with itself, its doubts included, without b."""
        other = a if b is None else b
        out = np.zeros((len(a), len(other)))
        for mask, summands in self._by_mask.items():
            if not mask:
                for component, at in summands:
                    out += _block(component, theta[at], a.values, other.values)
                continue
            for rows, columns in _blocks(mask, a, other):
                left, right = a.values[rows], other.values[columns]
                block = _block(summands[0][0], theta[summands[0][1]], left, right)
                for component, at in summands[1:]:
                    block += _block(component, theta[at], left, right)
                out[np.ix_(rows, columns)] += block
        if b is None and a.known_noise is not None:
            out[np.diag_indices(len(a))] += a.known_noise
        return out

    def within(
        self, theta: FloatArray, values: FloatArray, other: FloatArray, *, only_scaled: bool = False
    ) -> FloatArray:
        """The covariance between cells that share every group, as those of one deployment do, (n, m)."""
        out = np.zeros((len(values), len(other)))
        for component, at in zip(self.components, self.slices, strict=True):
            if component.scaled is not None or not only_scaled:
                out += _block(component, theta[at], values, other)
        return out

    def diagonal(self, theta: FloatArray, a: Inputs) -> FloatArray:
        """The prior variance of each cell, without doubts, (n,)."""
        out = np.zeros(len(a))
        for component, at in zip(self.components, self.slices, strict=True):
            if component.linear:
                own = (a.values[:, component.columns] ** 2) @ np.exp(2 * theta[at])
            else:
                own = np.full(len(a), np.exp(2 * theta[at.start]))
            out += own if component.scaled is None else own * a.values[:, component.scaled] ** 2
        return out


class Pairs:
    """The covariance of n cells with themselves, laid out for many evaluations with gradients.

    Each component keeps only those pairs (i >= j) that its mask lets through, with their squared distances (or
    products) by column, so that a value or a gradient is one pass over memory.
    """

    def __init__(self, kernel: Kernel, inputs: Inputs) -> None:
        self.kernel = kernel
        self.n, self.known_noise = len(inputs), inputs.known_noise
        lower_i, lower_j = np.tril_indices(self.n)
        self._flat = lower_i * self.n + lower_j
        self._count = np.where(lower_i == lower_j, 1.0, 2.0)  # how often a pair stands in the matrix
        self._components: list[tuple[IntArray | slice, FloatArray]] = []
        same = {
            column: inputs.codes[lower_i, column] == inputs.codes[lower_j, column]
            for column in sorted({column for component in kernel.components for column in component.mask})
        }
        pairs: dict[tuple[int, ...], tuple[IntArray | slice, IntArray, IntArray]] = {
            (): (slice(None), lower_i, lower_j)
        }
        for component in kernel.components:
            if component.mask not in pairs:
                where = np.flatnonzero(np.logical_and.reduce([same[column] for column in component.mask]))
                pairs[component.mask] = where, lower_i[where], lower_j[where]
            kept, i, j = pairs[component.mask]
            table = np.empty((len(component.columns), len(i)))
            for row, column in enumerate(component.columns):
                x = inputs.values[:, column]
                table[row] = x[i] * x[j] if component.linear else (x[i] - x[j]) ** 2
            self._components.append((kept, table))
        self._kept: list[FloatArray] = []

    def matrix(self, theta: FloatArray) -> FloatArray:
        """The covariance (n, n), its lower triangle only; keeps what the gradient at the same theta needs."""
        total = np.zeros(len(self._flat))
        self._kept = []
        for component, at, (where, table) in zip(
            self.kernel.components, self.kernel.slices, self._components, strict=True
        ):
            if component.linear:
                value = np.exp(2 * theta[at]) @ table
            else:
                value = (-0.5 * np.exp(-2 * theta[at.start + 1 : at.stop])) @ table
                value += 2 * theta[at.start]
                np.exp(value, out=value)
            self._kept.append(value)
            total[where] += value
        out = np.zeros((self.n, self.n))
        out.reshape(-1)[self._flat] = total
        if self.known_noise is not None:
            out[np.diag_indices(self.n)] += self.known_noise
        return out

    def gradient(self, theta: FloatArray, weights: FloatArray) -> FloatArray:
        """d/dtheta of sum_ij weights_ij K_ij for symmetric weights, at the theta of the last `matrix`.

        Of `weights` (n, n) only the lower triangle is looked at.
        """
        flat = weights.reshape(-1)[self._flat]
        flat *= self._count
        out = np.empty(self.kernel.size)
        for component, at, (where, table), value in zip(
            self.kernel.components, self.kernel.slices, self._components, self._kept, strict=True
        ):
            if component.linear:
                out[at] = 2 * np.exp(2 * theta[at]) * (table @ flat[where])
            else:
                weighted = flat[where] * value
                out[at.start] = 2 * weighted.sum()
                out[at.start + 1 : at.stop] = np.exp(-2 * theta[at.start + 1 : at.stop]) * (table @ weighted)
        return out


class Within:
    """The covariance of cells with others that share every group with them, as `Kernel.within`, for very many.

    All stationary components' exponents are one product: with r = 1 / l² of each column, both sides centred,

        2 theta_0 - sum_j r_j (x_j - z_j)² / 2 = [x², x, 1] · [-r / 2; r z; 2 theta_0 - sum_j r_j z_j² / 2]

    Attributes
    ----------
    rates : (c, q) r of each of c stationary components; 0 for a column that it does not look at
    varies : the columns that any of them looks at and in which the cells differ
    tops : (c,) their 2 theta_0
    own : (c,) 1 for those that are scaled, else 0
    linear : (2, q) variances of the linear components, of those that are not scaled and of those that are
    """

    def __init__(self, kernel: Kernel, theta: FloatArray, values: FloatArray) -> None:
        n_columns = values.shape[1]
        parts = list(zip(kernel.components, kernel.slices, strict=True))
        stationary = [(component, theta[at]) for component, at in parts if not component.linear]
        # one column scales all that are scaled
        self.scaled = next((component.scaled for component, _ in parts if component.scaled is not None), None)
        self.rates, self.linear = np.zeros((len(stationary), n_columns)), np.zeros((2, n_columns))
        for number, (component, own) in enumerate(stationary):
            self.rates[number, list(component.columns)] = np.exp(-2 * own[1:])
        self.tops = np.array([2 * own[0] for _, own in stationary])
        self.own = np.array([float(component.scaled is not None) for component, _ in stationary])
        for component, at in parts:
            if component.linear:
                self.linear[int(component.scaled is not None), list(component.columns)] += np.exp(2 * theta[at])
        # those that all have for themselves last, so that both kinds are slices
        order = np.argsort(self.own, kind="stable")
        self.rates, self.tops, self.own = self.rates[order], self.tops[order], self.own[order]
        self.varies = np.flatnonzero((self.rates > 0).any(0) & (values != values[:1]).any(0))

    def column(self, values: FloatArray, one: FloatArray) -> FloatArray:
        """The covariance of each cell with a single other one, (n,); values (n, q), one (q,)."""
        apart = values[:, self.varies] - one[self.varies]
        each = np.exp(self.tops - 0.5 * (apart**2 @ self.rates[:, self.varies].T))
        plain, own = each @ (1.0 - self.own) + values @ (self.linear[0] * one), each @ self.own
        if self.scaled is None:
            return np.asarray(plain)
        own += values @ (self.linear[1] * one)
        return np.asarray(plain + own * values[:, self.scaled] * one[self.scaled])

    def against(self, other: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """A function from the values of many cells (m, q) to the covariance of these others (p, q) with them, (p, m).

        Exponentials are taken in single precision, whose error of 1e-7 of the variance is below what pivots leave.
        """
        seen, rates = other[:, self.varies], self.rates[:, self.varies]  # the others add nothing to any distance
        centre, count, n_columns = seen.mean(0), len(other), seen.shape[1]
        z = seen - centre
        weights = np.empty((len(self.tops), count, 2 * n_columns + 1))
        weights[..., :n_columns] = -0.5 * rates[:, None, :]
        weights[..., n_columns:-1] = rates[:, None, :] * z
        weights[..., -1] = self.tops[:, None] - 0.5 * (rates @ (z**2).T)
        weights = weights.reshape(-1, 2 * n_columns + 1)
        linear = self.linear[:, None, :] * other
        first_own = int((self.own == 0).sum())

        def covariance(values: FloatArray) -> FloatArray:
            terms = np.ones((2 * n_columns + 1, len(values)))
            x = np.subtract(values[:, self.varies].T, centre[:, None], out=terms[n_columns:-1])
            np.multiply(x, x, out=terms[:n_columns])
            each = (weights @ terms).astype(np.float32)
            np.exp(each, out=each)
            each = each.reshape(len(self.tops), count, -1)
            out = each[:first_own].sum(0) + linear[0] @ values.T
            if self.scaled is not None:
                scaled = each[first_own:].sum(0) + linear[1] @ values.T
                out += scaled * (other[:, self.scaled, None] * values[:, self.scaled])
            return np.asarray(out)

        return covariance


def _block(component: Component, theta: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    block = _unscaled(component, theta, a, b)
    return block if component.scaled is None else block * a[:, component.scaled, None] * b[:, component.scaled]


def _unscaled(component: Component, theta: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    left, right = a[:, component.columns], b[:, component.columns]
    if component.linear:
        return np.asarray((left * np.exp(2 * theta)) @ right.T)
    scale, top = np.exp(-theta[1:]), 2 * theta[0]
    left, right = left * scale, right * scale
    # 2 theta_0 - |l - r|² / 2 as one product: l·r - |l|² / 2 · 1 + 1 · (2 theta_0 - |r|² / 2)
    left = np.column_stack([left, -0.5 * (left**2).sum(1), np.ones(len(left))])
    right = np.column_stack([right, np.ones(len(right)), top - 0.5 * (right**2).sum(1)])
    out = left @ right.T
    np.minimum(out, top, out=out)
    return np.exp(out, out=out)


def _blocks(mask: tuple[int, ...], a: Inputs, b: Inputs) -> list[tuple[IntArray, IntArray]]:
    """The rows of a and of b in each group of the mask that both have."""
    in_a, in_b = np.zeros(len(a), dtype=np.int64), np.zeros(len(b), dtype=np.int64)
    for column in mask:
        size = 1 + max(int(a.codes[:, column].max(initial=0)), int(b.codes[:, column].max(initial=0)))
        in_a, in_b = in_a * size + a.codes[:, column], in_b * size + b.codes[:, column]
    order_a, order_b = np.argsort(in_a, kind="stable"), np.argsort(in_b, kind="stable")
    shared = np.intersect1d(in_a, in_b)
    from_a, to_a = np.searchsorted(in_a[order_a], shared), np.searchsorted(in_a[order_a], shared, side="right")
    from_b, to_b = np.searchsorted(in_b[order_b], shared), np.searchsorted(in_b[order_b], shared, side="right")
    return [
        (order_a[f:t], order_b[u:v]) for f, t, u, v in zip(from_a, to_a, from_b, to_b, strict=True)
    ]  # fmt: skip
