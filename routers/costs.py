"""What a call to each arm will cost: tokens predicted from outcomes, prices read from the cards.

Prices are never learned, so a price change takes effect without refitting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from experts.cards import Prices
from routers.outcomes import Features, Outcomes

_PRIOR_QUERIES = 3.0
"""How many observations the arm's overall mean is worth against a skill's own."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Expected tokens and seconds of arms on skills."""

    input_line: np.ndarray
    """(n_arms, 2): prompt tokens = intercept + slope * characters."""
    output_tokens: np.ndarray
    """(n_arms, n_skills)."""
    latency_s: np.ndarray
    """(n_arms, n_skills)."""

    @classmethod
    def fit(cls, features: Features, outcomes: Outcomes, skills: Sequence[str]) -> Self:
        """Means per arm and skill, shrunk towards the arm's mean; a line for prompt tokens."""
        index = {s: i for i, s in enumerate(skills)}
        labels = np.array([index[s] for s in outcomes.skills])
        lines = [
            _line(features.n_chars, outcomes.input_tokens[:, j]) for j in range(len(outcomes.arms))
        ]
        return cls(
            input_line=np.array(lines),
            output_tokens=_means(outcomes.output_tokens, labels, len(skills)),
            latency_s=_means(outcomes.latency_s, labels, len(skills)),
        )

    def expect(
        self, n_chars: np.ndarray, p_skill: np.ndarray, prices: Sequence[Prices]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dollars and seconds of one call, each (n_queries, n_arms)."""
        prompt = np.maximum(1.0, self.input_line[:, 0] + self.input_line[:, 1] * n_chars[:, None])
        answer = p_skill @ self.output_tokens.T
        price_in = np.array([p.input_usd_per_mtok for p in prices])
        price_out = np.array([p.output_usd_per_mtok for p in prices])
        return (prompt * price_in + answer * price_out) / 1e6, p_skill @ self.latency_s.T

    def state(self) -> Mapping[str, np.ndarray]:
        return {
            "input_line": self.input_line,
            "output_tokens": self.output_tokens,
            "latency_s": self.latency_s,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        return cls(state["input_line"], state["output_tokens"], state["latency_s"])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least squares with slope at least 0; a flat mean where x does not vary."""
    known = ~np.isnan(y)
    if not known.any():
        return 0.0, 0.25  # four characters a token, the usual rule of thumb
    x, y = x[known].astype(float), y[known]
    spread = x.var()
    slope = max(0.0, float(np.cov(x, y, bias=True)[0, 1] / spread)) if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope


def _means(values: np.ndarray, labels: np.ndarray, n_skills: int) -> np.ndarray:
    """(n_arms, n_skills) means of the known values, shrunk towards each arm's mean."""
    one_hot = np.eye(n_skills)[labels]
    known = ~np.isnan(values)
    sums, counts = np.nan_to_num(values).T @ one_hot, known.T.astype(float) @ one_hot
    n = counts.sum(axis=1)
    overall = np.divide(sums.sum(axis=1), n, out=np.zeros(len(n)), where=n > 0)
    means: np.ndarray = (sums + _PRIOR_QUERIES * overall[:, None]) / (counts + _PRIOR_QUERIES)
    return means
