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
    latency_line: np.ndarray
    """(n_arms, 2): seconds = intercept + slope * output tokens, of a call made alone."""

    @classmethod
    def fit(cls, features: Features, outcomes: Outcomes, skills: Sequence[str]) -> Self:
        """Output tokens: means per arm and skill, shrunk towards the arm's mean. Prompt tokens and
        seconds: a line each."""
        index = {s: i for i, s in enumerate(skills)}
        labels = np.array([index[s] for s in outcomes.skills])
        arms = range(len(outcomes.arms))
        said = outcomes.output_tokens
        # Four characters a token is the usual rule of thumb.
        prompt = [_line(features.n_chars, outcomes.input_tokens[:, j], (0.0, 0.25)) for j in arms]
        seconds = [_line(said[:, j], outcomes.latency_s[:, j], (0.0, 0.0)) for j in arms]
        return cls(
            input_line=np.array(prompt),
            output_tokens=_means(said, labels, len(skills)),
            latency_line=np.array(seconds),
        )

    def expect(
        self, n_chars: np.ndarray, p_skill: np.ndarray, prices: Sequence[Prices]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dollars and seconds of one call, each (n_queries, n_arms)."""
        prompt = np.maximum(1.0, self.input_line[:, 0] + self.input_line[:, 1] * n_chars[:, None])
        answer = p_skill @ self.output_tokens.T
        price_in = np.array([p.input_usd_per_mtok for p in prices])
        price_out = np.array([p.output_usd_per_mtok for p in prices])
        a_call = np.array([p.call_usd for p in prices])
        seconds = self.latency_line[:, 0] + self.latency_line[:, 1] * answer
        return (prompt * price_in + answer * price_out) / 1e6 + a_call, np.maximum(seconds, 0.0)

    def state(self) -> Mapping[str, np.ndarray]:
        return {
            "input_line": self.input_line,
            "output_tokens": self.output_tokens,
            "latency_line": self.latency_line,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        return cls(state["input_line"], state["output_tokens"], state["latency_line"])


def _line(x: np.ndarray, y: np.ndarray, unknown: tuple[float, float]) -> tuple[float, float]:
    """Least squares with slope at least 0; a flat mean where x does not vary; ``unknown`` where
    nothing is known."""
    known = ~np.isnan(y) & ~np.isnan(x)
    if not known.any():
        return unknown
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
