"""How likely is this completion right, now that it is here?

A logistic model per arm over what was believed before the answer (the router's p) and how sure the
expert itself was (the log-probability of its text), fitted on recorded outcomes whose p was
predicted blindly. Arms that tell no log-probability keep the router's p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from experts.values import Arm, Completion
from routers.outcomes import Outcomes
from routers.scores import QueryScores, Scores

MIN_OUTCOMES = 30
"""Fewer outcomes than this and an arm shares the model of all arms."""
_MIN_LOGPROB = -20.0
_EPS = 0.005
_LEAST = -700.0
"""Below it a float has no exponential."""


@dataclass(frozen=True, slots=True)
class AnswerConfidence:
    """P(right | arm, router's p, log-probability)."""

    weights: Mapping[Arm, tuple[float, float, float]]
    """Intercept, weight of logit p, weight of the transformed log-probability; per arm."""

    @classmethod
    def fit(cls, scores: Scores, outcomes: Outcomes) -> Self:
        """``scores`` must have been predicted without seeing these outcomes."""
        told = ~np.isnan(outcomes.scores) & ~np.isnan(outcomes.logprob)
        if not told.any():
            return cls({})
        features = _features(scores.p_correct, outcomes.logprob)
        pooled = _logistic(features[told], outcomes.scores[told])
        weights = {}
        for j, arm in enumerate(outcomes.arms):
            rows = told[:, j]
            enough = rows.sum() >= MIN_OUTCOMES
            weights[arm] = (
                _logistic(features[rows, j], outcomes.scores[rows, j]) if enough else pooled
            )
        return cls(weights)

    def p_right(self, completion: Completion, scores: QueryScores) -> float:
        """In (0, 1); 0 for a failed completion."""
        if not completion.ok:
            return 0.0
        arm = completion.call.arm
        p = scores.p_of(arm, 0.5)
        weights = self.weights.get(arm)
        if completion.logprob is None or weights is None:
            return p
        # The features of ``_features``, without arrays: votes and cascades ask this of everything
        # they have heard, after every answer, and an array of one number costs 20 us.
        p = min(max(p, _EPS), 1 - _EPS)
        logprob = min(max(completion.logprob, _MIN_LOGPROB), 0.0)
        intercept, a, b = weights
        x = intercept + a * math.log(p / (1 - p)) - b * math.log1p(-10 * logprob)
        return 1 / (1 + math.exp(-max(x, _LEAST)))

    def state(self) -> dict[str, list[float]]:
        return {str(arm): list(w) for arm, w in self.weights.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, list[float]]) -> Self:
        return cls({Arm.parse(k): (v[0], v[1], v[2]) for k, v in state.items()})


def _features(p: np.ndarray, logprob: np.ndarray) -> np.ndarray:
    """(..., 2): logit of p, and log of the surprise: sure answers differ on a log scale."""
    p = np.clip(p, _EPS, 1 - _EPS)
    surprise = np.log1p(-np.clip(logprob, _MIN_LOGPROB, 0) * 10)
    return np.stack([np.log(p / (1 - p)), -surprise], axis=-1)


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Ridge-penalised logistic regression of scores in [0, 1] (fractions count as weights)."""
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([x, x])
    labels = np.repeat([1, 0], len(x))
    weights = np.concatenate([y, 1 - y])
    used = weights > 0
    if len(set(labels[used])) < 2:  # always right, or never: only the prior can say how surely
        rate = (y.sum() + 1) / (len(y) + 2)
        return float(np.log(rate / (1 - rate))), 0.0, 0.0
    model = LogisticRegression(C=1.0).fit(rows[used], labels[used], sample_weight=weights[used])
    return float(model.intercept_[0]), float(model.coef_[0, 0]), float(model.coef_[0, 1])
