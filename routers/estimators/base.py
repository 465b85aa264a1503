"""What an estimator is: P(right) of every arm for every query, learned from outcomes.

Scikit-learn's bargain: the constructor stores its settings, ``fit`` learns and returns self, what
was learned ends in ``_``. Estimators are pure and deterministic: randomness comes from a seed that
they are given. Costs, calibration and novelty are the router's business (``routers.pool``).
"""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import numpy as np

from experts.errors import DataError, NotFitted
from routers.outcomes import Features, Outcomes

PRIOR_QUERIES = 4.0
"""How many observations an arm's overall rate is worth against those of a neighbourhood."""


class Estimator(Protocol):
    """Learns from (n_queries, n_arms) scores, NaN where an arm was not asked."""

    def fit(self, features: Features, outcomes: Outcomes) -> Self: ...

    def predict(self, features: Features) -> np.ndarray:
        """(n_queries, n_arms) in [0, 1], not yet calibrated.

        Raises NotFitted before ``fit``.
        """
        ...


@runtime_checkable
class Growing(Protocol):
    """An estimator that takes an arm in or out without being fitted anew."""

    def with_arm(self, features: Features, scores: np.ndarray) -> Self:
        """One more arm, last, from k labelled probes: scores (k,) in [0, 1]."""
        ...

    def without_arm(self, index: int) -> Self:
        """One arm less; predictions for the others stay exactly as they were."""
        ...


def require_fitted(estimator: object, attribute: str) -> None:
    """Raises NotFitted unless ``fit`` has set the attribute."""
    if not hasattr(estimator, attribute):
        raise NotFitted(f"{type(estimator).__name__}.predict was called before fit.")


def arm_rates(scores: np.ndarray) -> np.ndarray:
    """(n_arms,) mean score of each arm, shrunk towards one half by two pseudo-observations.

    Raises DataError when there are no queries, or an arm has no outcome at all.
    """
    known = ~np.isnan(scores)
    if len(scores) == 0:
        raise DataError("There are no outcomes to learn from.")
    counts = known.sum(axis=0)
    if (counts == 0).any():
        column = int(np.flatnonzero(counts == 0)[0])
        raise DataError(
            f"Arm number {column} has no outcome at all. Record some, or leave it out of the pool."
        )
    result: np.ndarray = (np.nansum(scores, axis=0) + 1.0) / (counts + 2.0)
    return result
