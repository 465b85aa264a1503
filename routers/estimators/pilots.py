"""Pilots: the questions that an arm owns, as a few points in the space of embeddings.

RouterRetriever (arXiv:2409.02685): queries of each data set are grouped by the arm that won them,
each group's centre is a pilot of that arm, and a new query goes to the owner of the nearest pilot.
An arm joins or leaves with its pilots.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from routers.estimators.base import arm_rates, require_fitted
from routers.outcomes import Features, Outcomes


class Pilots:
    """The largest, over an arm's pilots, of exp(sharpness * cosine) times the pilot's share.

    The paper has graded scores and routes by the cosine alone. Right and wrong have ties: here all
    arms that are right share a question, and a pilot counts by how much of its data set its arm
    owns, or one lucky question would own a region.
    """

    def __init__(self, sharpness: float = 8.0, *, min_share: float = 0.01) -> None:
        self.sharpness, self.min_share = sharpness, min_share

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        self.n_arms_ = len(arm_rates(outcomes.scores))
        scores = np.nan_to_num(outcomes.scores)
        # Weighted by the square: an arm that is right alone, or more right, owns more.
        owned = scores**2 / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
        tasks = np.array(outcomes.skills)
        owners, points, shares = [], [], []
        for task in dict.fromkeys(outcomes.skills):
            rows = tasks == task
            for arm in range(self.n_arms_):
                weight = owned[rows, arm]
                share = float(weight.mean())
                if share >= self.min_share:
                    centre = weight @ features.embeddings[rows]
                    owners.append(arm)
                    shares.append(share)
                    points.append(centre / max(float(np.linalg.norm(centre)), 1e-12))
        self.owners_, self.shares_ = np.array(owners, int), np.array(shares)
        self.pilots_ = np.array(points).reshape(len(owners), features.embeddings.shape[1])
        return self

    def predict(self, features: Features) -> np.ndarray:
        require_fitted(self, "owners_")
        pull = np.exp(self.sharpness * (features.embeddings @ self.pilots_.T - 1)) * self.shares_
        result = np.zeros((len(features), self.n_arms_))
        for arm in np.unique(self.owners_):
            result[:, arm] = pull[:, self.owners_ == arm].max(axis=1)
        return np.minimum(result, 1.0)
