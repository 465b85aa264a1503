"""Baselines that do not look at the question: the best single arm, and chance."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class BestSingle:
    """Every arm at its overall rate: the highest is the best single arm, always."""

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        self.rates_ = arm_rates(outcomes.scores)
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "rates_")
        return np.tile(self.rates_, (len(features), 1))

    def with_arm(self, features: Features, scores: np.ndarray) -> Self:
        grown = type(self)()
        grown.rates_ = np.append(self.rates_, arm_rates(scores[:, None]))
        return grown

    def without_arm(self, index: int) -> Self:
        shrunk = type(self)()
        shrunk.rates_ = np.delete(self.rates_, index)
        return shrunk


class Chance:
    """A random order of the arms for every query: what choosing blindly brings.

    The order depends on the query's features and the seed, not on the other queries of the batch.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        self.n_arms_ = outcomes.scores.shape[1]
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "n_arms_")
        keys = np.abs(features.embeddings.astype(np.float64)).sum(axis=1) * 1e6
        rows = [
            np.random.default_rng([self.seed, int(k), int(n)]).random(self.n_arms_)
            for k, n in zip(keys, features.n_chars, strict=True)
        ]
        return np.array(rows).reshape(len(features), self.n_arms_)
