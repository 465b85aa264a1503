"""Several estimators as one: the mean of their log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from routers.estimators.base import Estimator
from routers.outcomes import Features, Outcomes

_EPS = 0.01


class Ensemble:
    """Mean log-odds of the members; equal weights, because tuned ones overfit small pools."""

    def __init__(self, members: Sequence[Estimator]) -> None:
        self.members = members

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        for member in self.members:
            member.fit(features, outcomes)
        return self

    def predict(self, features: Features) -> np.ndarray:
        odds = [np.clip(m.predict(features), _EPS, 1 - _EPS) for m in self.members]
        mean = np.mean([np.log(p / (1 - p)) for p in odds], axis=0)
        result: np.ndarray = 1 / (1 + np.exp(-mean))
        return result
