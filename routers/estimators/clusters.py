"""Clusters of questions, and how the arms rank in them (Avengers, arXiv:2505.19797)."""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import PRIOR_QUERIES, arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class ClusterRates:
    """k-means on the embeddings; a query takes the rates of its nearest clusters.

    Rates are shrunk towards each arm's overall rate: the paper's raw ones crown whoever was lucky
    in a small cluster. ``by_rank`` scores as the paper does, 1 / (rank + 0.1), scaled to [0, 1]:
    it discards how large the differences are.
    """

    def __init__(
        self,
        n_clusters: int = 64,
        *,
        n_nearest: int = 3,
        sharpness: float = 6.0,
        by_rank: bool = False,
        seed: int = 0,
    ) -> None:
        self.n_clusters, self.n_nearest, self.sharpness = n_clusters, n_nearest, sharpness
        self.by_rank, self.seed = by_rank, seed

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        from sklearn.cluster import KMeans

        prior = arm_rates(outcomes.scores)
        n_clusters = min(self.n_clusters, len(np.unique(features.embeddings, axis=0)))
        means = KMeans(n_clusters, n_init=3, random_state=self.seed).fit(features.embeddings)
        members = np.eye(n_clusters)[means.labels_]
        known = ~np.isnan(outcomes.scores)
        wins = members.T @ np.nan_to_num(outcomes.scores)
        counts = members.T @ known.astype(float)
        rates = (wins + PRIOR_QUERIES * prior) / (counts + PRIOR_QUERIES)
        if self.by_rank:
            ranks = (-rates).argsort(axis=1).argsort(axis=1)
            rates = 0.1 / (ranks + 0.1)
        centres = means.cluster_centers_
        self.centres_ = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        self.rates_ = rates
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "rates_")
        cosine = features.embeddings @ self.centres_.T
        k = min(self.n_nearest, cosine.shape[1])
        cut = np.partition(cosine, -k, axis=1)[:, [-k]]
        weights = np.where(cosine >= cut, np.exp(self.sharpness * (cosine - 1)), 0.0)
        means = weights @ self.rates_ / weights.sum(axis=1, keepdims=True)
        result: np.ndarray = np.minimum(means, 1.0)  # a mean of ones may be 1 + 2e-16
        return result
