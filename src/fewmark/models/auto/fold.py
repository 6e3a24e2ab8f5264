"""A posterior out of fold: its hyperparameters never saw the deployments that it scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from fewmark.models.gp.posterior import Posterior
from fewmark.tables.arrays import FloatArray


class Fold:
    """A posterior whose hyperparameters never saw some deployments, so that their scores are out of fold.

    Parameters
    ----------
    log_scale : the log of the common noise scale
    members : the numbers of the deployments it did not see
    solve : gives the posterior, and each measured cell's noise scale (n,); called when first needed
    """

    def __init__(
        self, log_scale: float, members: frozenset[int], solve: Callable[[], tuple[Posterior, FloatArray]]
    ) -> None:
        self.log_scale, self.members, self._solve = log_scale, members, solve

    @cached_property
    def _solved(self) -> tuple[Posterior, FloatArray]:
        return self._solve()

    @property
    def posterior(self) -> Posterior:
        """The posterior."""
        return self._solved[0]

    @property
    def noise(self) -> FloatArray:
        """Each measured cell's noise scale, (n,)."""
        return self._solved[1]
