"""k nearest questions: how the arms did on what is most like this one.

A tuned kNN is on the plateau of published routers (arXiv:2505.12601), so it is what a learned one
must beat. The guarded form only follows its neighbours where their advice is beyond luck.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import PRIOR_QUERIES, arm_rates, require_fitted
from routers.outcomes import Features, Outcomes

_CHUNK = 1024
"""Rows compared at a time: bounds memory to a few MB whatever the batch."""


class KNearest:
    """Rates among the k nearest known questions, the weight falling with exp(sharpness * cosine),
    shrunk towards each arm's overall rate."""

    def __init__(self, k: int = 40, *, sharpness: float = 10.0) -> None:
        self.k, self.sharpness = k, sharpness

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        self.rates_ = arm_rates(outcomes.scores)
        self.embeddings_, self.scores_ = features.embeddings, outcomes.scores
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "rates_")
        parts = [
            self.rates_near(features.embeddings[i : i + _CHUNK])
            for i in range(0, len(features), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.rates_)))

    def with_arm(self, features: Features, scores: np.ndarray) -> Self:
        """The probes join the known questions; the other arms are unknown on them."""
        grown = type(self)(self.k, sharpness=self.sharpness)
        old = np.column_stack([self.scores_, np.full(len(self.scores_), np.nan)])
        new = np.full((len(scores), old.shape[1]), np.nan)
        new[:, -1] = scores
        grown.scores_ = np.concatenate([old, new])
        grown.embeddings_ = np.concatenate([self.embeddings_, features.embeddings])
        grown.rates_ = np.append(self.rates_, arm_rates(scores[:, None]))
        return grown

    def without_arm(self, index: int) -> Self:
        shrunk = type(self)(self.k, sharpness=self.sharpness)
        shrunk.embeddings_ = self.embeddings_
        shrunk.scores_ = np.delete(self.scores_, index, axis=1)
        shrunk.rates_ = np.delete(self.rates_, index)
        return shrunk

    def rates_near(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, n_arms); all at once."""
        rates = np.empty((len(embeddings), len(self.rates_)))
        cosine = embeddings @ self.embeddings_.T
        # Per arm only the questions that it was asked count as neighbours; arms that were asked
        # the same ones (nearly always all of them) share the search.
        known = ~np.isnan(self.scores_)
        patterns, group = np.unique(known, axis=1, return_inverse=True)
        for g in range(patterns.shape[1]):
            arms = np.flatnonzero(group.ravel() == g)
            asked = np.flatnonzero(patterns[:, g])
            weights, near = self.nearest(cosine[:, asked])
            rows = asked[near]
            votes = self.scores_[rows][:, :, arms]
            wins = np.einsum("nk,nka->na", weights, votes)
            total = weights.sum(axis=1, keepdims=True)
            rates[:, arms] = (wins + PRIOR_QUERIES * self.rates_[arms]) / (total + PRIOR_QUERIES)
        return rates

    def nearest(self, cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) weights, at most 1, and rows of the nearest."""
        k = min(self.k, cosine.shape[1])
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        chosen = np.take_along_axis(cosine, near, axis=1)
        return np.exp(self.sharpness * (chosen - chosen.max(axis=1, keepdims=True))), near


class GuardedKNearest:
    """kNN that leaves the best single arm only for an advantage beyond luck.

    Where no arm's paired advantage over the best single arm, among the neighbours, is more than
    ``z`` standard errors, all arms keep their overall rates. Source of the idea: a guarded kNN was
    the one family of five that kept a gain in a study of some 1500 configurations
    (experientiallabs/experiential, PR 256).
    """

    def __init__(self, k: int = 60, *, sharpness: float = 5.0, z: float = 1.0) -> None:
        self.k, self.sharpness, self.z = k, sharpness, z

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        self.nearest_ = KNearest(self.k, sharpness=self.sharpness).fit(features, outcomes)
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "nearest_")
        near = self.nearest_
        parts = [
            np.where(
                self._beyond_luck(features.embeddings[i : i + _CHUNK])[:, None],
                near.rates_near(features.embeddings[i : i + _CHUNK]),
                near.rates_,
            )
            for i in range(0, len(features), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(near.rates_)))

    def _beyond_luck(self, embeddings: np.ndarray) -> np.ndarray:
        """(n,) bool: some arm is better than the best single one around here."""
        known = self.nearest_
        best = int(known.rates_.argmax())
        weights, rows = known.nearest(embeddings @ known.embeddings_.T)
        gaps = known.scores_[rows] - known.scores_[rows][:, :, [best]]
        share = weights[:, :, None] * ~np.isnan(gaps)
        total = np.maximum(share.sum(axis=1), 1e-9)
        gaps = np.nan_to_num(gaps)
        mean = (share * gaps).sum(axis=1) / total
        variance = (share * (gaps - mean[:, None, :]) ** 2).sum(axis=1) / total
        n_effective = total**2 / np.maximum((share**2).sum(axis=1), 1e-9)
        error = np.sqrt(variance / np.maximum(n_effective, 1.0)) + 1e-9
        result: np.ndarray = (mean / error > self.z).any(axis=1)
        return result
