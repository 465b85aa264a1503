"""Gradient boosting on the embedding's main directions, one model for all arms."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class Boosting:
    """Trees over (main directions of the embedding, length of the question, which arm, its rate).

    One model for all arms lets them share what makes a question hard.
    """

    def __init__(
        self,
        n_components: int = 24,
        *,
        n_trees: int = 120,
        learning_rate: float = 0.06,
        seed: int = 0,
    ) -> None:
        self.n_components, self.n_trees = n_components, n_trees
        self.learning_rate, self.seed = learning_rate, seed

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self.rates_ = arm_rates(outcomes.scores)
        self.centre_ = features.embeddings.mean(axis=0)
        axes = np.linalg.svd(features.embeddings - self.centre_, full_matrices=False)[2]
        self.axes_ = axes[: self.n_components].T
        known = ~np.isnan(outcomes.scores)
        rows, arms = np.nonzero(known)
        self.model_: Any = HistGradientBoostingRegressor(
            loss="squared_error",
            learning_rate=self.learning_rate,
            max_iter=self.n_trees,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            l2_regularization=1.0,
            categorical_features=[0],
            random_state=self.seed,
        ).fit(self._columns(features)[rows * len(self.rates_) + arms], outcomes.scores[known])
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "model_")
        shape = len(features), len(self.rates_)
        if not len(features):
            return np.zeros(shape)
        predicted = self.model_.predict(self._columns(features)).reshape(shape)
        result: np.ndarray = np.clip(predicted, 0.0, 1.0)
        return result

    def _columns(self, features: Features) -> np.ndarray:
        """(n_queries * n_arms, n_columns), query by query."""
        n, m = len(features), len(self.rates_)
        directions = (features.embeddings - self.centre_) @ self.axes_
        asked = np.column_stack([np.log1p(features.n_chars), directions])
        return np.column_stack(
            [np.tile(np.arange(m), n), np.tile(self.rates_, n), np.repeat(asked, m, axis=0)]
        )
