"""What a latency process sees of a table: features on a roofline, the queue of a closed loop, errors known before."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Final, Self

import numpy as np
import pandas as pd

from fewmark.core.errors import ModelError
from fewmark.facts.facts import Facts, load_facts
from fewmark.models.analytic.closed_loop import Saturation
from fewmark.models.analytic.relatives import keys_of
from fewmark.models.auto.features import COLUMNS, Encoder, Features, featurise
from fewmark.models.auto.hidden_cells import queued
from fewmark.models.state import Arrays, State, floats, part, real, under
from fewmark.tables.arrays import FloatArray
from fewmark.tables.cells import check_target
from fewmark.tables.columns import numbers_of
from fewmark.tables.metrics import E2E, TTFT, latency_of
from fewmark.tables.precision import log_sd

CHUNK_ROWS: Final = 20_000  # of which the wait is worked out at once
PRESSURE: Final = COLUMNS.index("pressure")
MIN_DECODE_SHARE: Final = 0.1  # of a projected latency
UNUSABLE: Final = "input_tokens, output_tokens and batch_size or concurrency must be known and positive"


class Featuriser:
    """Turns cells into what a process learns from, and is asked about.

    Parameters
    ----------
    target : str
        The metric that is learned.
    facts : sequence of str
        Files with further facts of models and accelerators (`fewmark.facts.facts`).
    step : float
        The step that the values are rounded to, in the target's unit; 0 where they are not.
    encoder : Encoder, optional
        The numbers of names met so far.
    saturation : Saturation, optional
        What closed loops have taught of how many users a deployment serves at once.
    """

    def __init__(
        self,
        target: str,
        facts: Sequence[str] = (),
        *,
        step: float = 0.0,
        encoder: Encoder | None = None,
        saturation: Saturation | None = None,
    ) -> None:
        self.target, self.files, self.step = target, tuple(facts), step
        self.encoder = Encoder() if encoder is None else encoder
        self.saturation = saturation
        self.refuted: frozenset[tuple[int, int]] = frozenset()  # deployments and accelerators faster than facts allow

    def of(self, target: str) -> Featuriser:
        """What it has learned, for another metric of the same latency, whose values are not known to be rounded."""
        found = Featuriser(target, self.files, encoder=self.encoder, saturation=self.saturation)
        found.refuted = self.refuted
        return found

    @property
    def facts(self) -> Facts:
        """Published facts, and those of the files."""
        return load_facts(self.files)

    def learn(self, X: pd.DataFrame, y: FloatArray) -> tuple[Features, FloatArray]:
        """As `measured`, once these cells have taught how many users each deployment serves at once."""
        self.saturation = Saturation.learn(X, self.facts)
        return self.measured(X, y)

    def measured(self, X: pd.DataFrame, y: FloatArray) -> tuple[Features, FloatArray]:
        """The features of measured cells and the residuals (n,) of their log latency to the roofline.

        Raises
        ------
        ModelError
            If a row has no workload or a value is not finite and positive.
        """
        values = check_target(y, len(X))
        table = featurise(X, self.target, self.facts, self.encoder)
        if table.unusable.any():
            raise ModelError(f"row {int(np.flatnonzero(table.unusable)[0])} cannot be learned from", got=UNUSABLE)
        log_latency = table.to_latency + table.sign * np.log(values)
        below = log_latency < table.floor
        found = zip(table.deployment[below].tolist(), table.accelerator[below].tolist(), strict=True)
        self.refuted = self.refuted | set(found)
        self._add_queue(table, X)
        residual = log_latency - table.log_roofline
        known_noise = self.projected_variance(X) + self.rounded_variance(np.log(values)) + table.waiting
        if known_noise.any():
            table = replace(table, inputs=replace(table.inputs, known_noise=known_noise))
        return table, residual

    def asked(self, X: pd.DataFrame) -> Features:
        """The features of cells that are asked about."""
        # names that are only asked for are numbered for this call alone: asking changes nothing
        encoder = Encoder({column: dict(known) for column, known in self.encoder.names.items()})
        table = featurise(X, self.target, self.facts, encoder)
        self._add_queue(table, X)
        return replace(table, inputs=replace(table.inputs, known_noise=table.waiting)) if table.waiting.any() else table

    def floor(self, table: Features, measured: Container[int]) -> FloatArray:
        """The log of the least seconds of cells, (m,); -inf where measurements below it refute the published facts.

        `measured`: the numbers of deployments of which cells are known.
        """
        if not self.refuted:
            return table.floor
        chips = {chip for _, chip in self.refuted}
        pairs = zip(table.deployment.tolist(), table.accelerator.tolist(), strict=True)
        void = [pair in self.refuted or (pair[1] in chips and pair[0] not in measured) for pair in pairs]
        return np.where(void, -np.inf, table.floor)

    def projected_variance(self, X: pd.DataFrame) -> FloatArray:
        """The variance of the log latency where it was projected; 0 elsewhere, (n,)."""
        sd, latency = log_sd(X), latency_of(self.target)
        if latency == E2E or not sd.any():
            return sd**2
        if latency == TTFT or not {TTFT, E2E} <= set(map(str, X.columns)):
            return np.zeros(len(sd)) if latency == TTFT else sd**2
        # the first token was measured, so that the error is the decoding's
        first, last = numbers_of(X, TTFT), numbers_of(X, E2E)
        share = np.clip(np.nan_to_num(1 - first / last, nan=1.0), MIN_DECODE_SHARE, 1.0)
        return np.asarray((sd / share) ** 2)

    def rounded_variance(self, log_y: FloatArray) -> FloatArray:
        """The variance of the logs of values (n,) that are rounded as the learned ones are, uniformly within a step."""
        if not self.step:
            return np.zeros(len(log_y))
        return np.asarray(np.exp(2 * np.minimum(np.log(self.step) - log_y, 0.0)) / 12.0)

    def _add_queue(self, table: Features, X: pd.DataFrame) -> None:
        """Replace the roofline's estimate of how far users outnumber the batch by what closed loops have taught.

        A first token's mean function has the expected wait, too.
        """
        if self.saturation is None or "concurrency" not in X:
            return
        users = numbers_of(X, "concurrency")
        known = np.flatnonzero((users > 0) & ~table.unusable)
        for rows in np.array_split(known, len(known) // CHUNK_ROWS + 1):
            if not len(rows):
                continue
            own = X.iloc[rows]
            names = keys_of(own)
            told = self.saturation.told(own, names)
            reach = self.saturation.reach_at(own, self.facts, names)
            table.inputs.values[rows, PRESSURE], wait, variance = queued(reach, users[rows], told[:, 1])
            table.loop[rows, :-2] = told
            if latency_of(self.target) == TTFT and self.saturation.sharp:
                table.log_roofline[rows] += wait
                table.loop[rows, -2], table.loop[rows, -1] = wait, variance

    def to_state(self) -> tuple[State, Arrays]:
        """What was learned beside the names, as JSON values and arrays."""
        own: Arrays = {"refuted": np.array(sorted(self.refuted), dtype=np.int64)} if self.refuted else {}
        if self.saturation is None:
            return {"step": self.step}, own
        state, arrays = self.saturation.to_state()
        named = {f"saturation/{name}": values for name, values in arrays.items()}
        return {"step": self.step, "saturation": state}, own | named

    @classmethod
    def from_state(
        cls,
        target: str,
        facts: Sequence[str],
        encoder: Encoder,
        state: State,
        arrays: Arrays,
    ) -> Self:
        """The featuriser behind `to_state`."""
        saturation = None
        if "saturation" in state:
            saturation = Saturation.from_state(part(state, "saturation"), under(arrays, "saturation/"))
        found = cls(target, facts, step=real(state, "step"), encoder=encoder, saturation=saturation)
        if "refuted" in arrays:
            found.refuted = frozenset((int(code), int(chip)) for code, chip in floats(arrays, "refuted").tolist())
        return found
