"""How likely is this completion right, now that it is here?

A logistic model per arm over what was believed before the answer (the router's p), how sure the
expert itself was (the log-probability of its text) and, where a scorer reads its states, what that
says; fitted on recorded outcomes whose p was predicted blindly. Arms that tell no log-probability
keep the router's p.
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
_MOST_ODDS = 6.0
"""A scorer that is surer than 400 to 1 has not seen enough to be."""
_LEAST = -700.0
"""Below it a float has no exponential."""


Weights = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class AnswerConfidence:
    """P(right | arm, router's p, log-probability, own odds)."""

    weights: Mapping[Arm, Weights]
    """Intercept, weight of logit p, of the transformed log-probability, and of the own odds; per
    arm."""

    @classmethod
    def fit(cls, scores: Scores, outcomes: Outcomes) -> Self:
        """``scores`` must have been predicted without seeing these outcomes."""
        told = ~np.isnan(outcomes.scores) & ~np.isnan(outcomes.logprob)
        if not told.any():
            return cls({})
        features = _features(scores.p_correct, outcomes.logprob, outcomes.own_odds)
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
        intercept, a, b, c = weights
        x = intercept + a * math.log(p / (1 - p)) - b * math.log1p(-10 * logprob)
        if completion.own_odds is not None:
            x += c * min(max(completion.own_odds, -_MOST_ODDS), _MOST_ODDS)
        return 1 / (1 + math.exp(-max(x, _LEAST)))

    def state(self) -> dict[str, list[float]]:
        return {str(arm): list(w) for arm, w in self.weights.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, list[float]]) -> Self:
        return cls({Arm.parse(k): (v[0], v[1], v[2], v[3]) for k, v in state.items()})


def _features(p: np.ndarray, logprob: np.ndarray, own_odds: np.ndarray) -> np.ndarray:
    """(..., 3): logit of p, log of the surprise (sure answers differ on a log scale), and own odds,
    even where nobody tells them."""
    p = np.clip(p, _EPS, 1 - _EPS)
    surprise = np.log1p(-np.clip(logprob, _MIN_LOGPROB, 0) * 10)
    own = np.clip(np.nan_to_num(own_odds), -_MOST_ODDS, _MOST_ODDS)
    return np.stack([np.log(p / (1 - p)), -surprise, own], axis=-1)


def _logistic(x: np.ndarray, y: np.ndarray) -> Weights:
    """Ridge-penalised logistic regression of scores in [0, 1] (fractions count as weights)."""
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([x, x])
    labels = np.repeat([1, 0], len(x))
    weights = np.concatenate([y, 1 - y])
    used = weights > 0
    if len(set(labels[used])) < 2:  # always right, or never: only the prior can say how surely
        rate = (y.sum() + 1) / (len(y) + 2)
        return float(np.log(rate / (1 - rate))), 0.0, 0.0, 0.0
    model = LogisticRegression(C=1.0).fit(rows[used], labels[used], sample_weight=weights[used])
    a, b, c = (float(w) for w in model.coef_[0])
    return float(model.intercept_[0]), a, b, c
