"""Ridge regression of success on the embedding, by sums that can be added to and taken from.

DUME's trick (sufficient statistics of a ridge router): learning a batch is adding X'X and X'Y, so
streaming is exact, and an arm joins or leaves without touching the others.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class Ridge:
    """P(right) = rate + w . embedding, per arm, with one penalty for all.

    Each arm has its own X'X, because arms may have been asked different questions; where all were
    asked the same ones they share it.
    """

    def __init__(self, penalty: float = 3.0) -> None:
        self.penalty = penalty

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        arm_rates(outcomes.scores)
        n_dims, n_arms = features.embeddings.shape[1] + 1, outcomes.scores.shape[1]
        self.xx_ = np.zeros((n_arms, n_dims, n_dims))
        self.xy_ = np.zeros((n_arms, n_dims))
        return self.add(features, outcomes.scores)

    def add(self, features: Features, scores: np.ndarray) -> Self:
        """Learn from more outcomes; the result is that of fitting everything at once."""
        x = _with_one(features.embeddings)
        known = ~np.isnan(scores)
        shared = x.T @ x if known.all() else None
        for j in range(scores.shape[1]):
            rows = known[:, j]
            self.xx_[j] += x[rows].T @ x[rows] if shared is None else shared
            self.xy_[j] += x[rows].T @ scores[rows, j]
        self._solve()
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "weights_")
        result: np.ndarray = np.clip(_with_one(features.embeddings) @ self.weights_.T, 0.0, 1.0)
        return result

    def with_arm(self, features: Features, scores: np.ndarray) -> Self:
        x = _with_one(features.embeddings)
        grown = type(self)(self.penalty)
        grown.xx_ = np.concatenate([self.xx_, (x.T @ x)[None]])
        grown.xy_ = np.concatenate([self.xy_, (x.T @ scores)[None]])
        grown._solve()
        return grown

    def without_arm(self, index: int) -> Self:
        shrunk = type(self)(self.penalty)
        shrunk.xx_ = np.delete(self.xx_, index, axis=0)
        shrunk.xy_ = np.delete(self.xy_, index, axis=0)
        shrunk._solve()
        return shrunk

    def _solve(self) -> None:
        n_dims = self.xx_.shape[1]
        penalty = self.penalty * np.eye(n_dims)
        penalty[-1, -1] = 1e-6  # the rate itself is not pulled towards zero
        self.weights_ = np.linalg.solve(self.xx_ + penalty, self.xy_[..., None])[..., 0]


def _with_one(embeddings: np.ndarray) -> np.ndarray:
    ones = np.ones((len(embeddings), 1))
    return np.concatenate([embeddings.astype(float), ones], axis=1)
