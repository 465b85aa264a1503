"""What routers learn from: queries as features, and what each arm made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experts.errors import DataError
from experts.values import Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Queries as a router sees them."""

    embeddings: np.ndarray
    """(n_queries, n_dims), unit rows."""
    n_chars: np.ndarray
    """(n_queries,) length of the whole conversation in characters: predicts prompt tokens."""

    def __len__(self) -> int:
        return len(self.n_chars)

    def __getitem__(self, rows: np.ndarray) -> Features:
        return Features(embeddings=self.embeddings[rows], n_chars=self.n_chars[rows])


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """Recorded outcomes; arrays are (n_queries, n_arms), NaN where an arm was not asked."""

    arms: tuple[Arm, ...]
    skills: tuple[str, ...]
    """(n_queries,) the skill that each query needs."""
    scores: np.ndarray
    """In [0, 1]; 1 is right."""
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    latency_s: np.ndarray
    """Of calls made alone, loading not included; NaN for others."""
    logprob: np.ndarray
    """Log-probability of the answer under the arm itself; NaN also where it is not told."""
    own_odds: np.ndarray
    """Log-odds of being right by the arm's own states; NaN also where nobody reads them."""

    def __post_init__(self) -> None:
        n = len(self.skills), len(self.arms)
        for name in ("scores", "input_tokens", "output_tokens", "latency_s", "logprob", "own_odds"):
            if getattr(self, name).shape != n:
                raise DataError(f"Outcomes.{name} has shape {getattr(self, name).shape}, not {n}.")
        known = self.scores[~np.isnan(self.scores)]
        if known.size and not (known.min() >= 0 and known.max() <= 1):
            raise DataError(
                f"Scores must lie in [0, 1]; found {known.min():g} to {known.max():g}. "
                "Rescale them before recording."
            )

    def __len__(self) -> int:
        return len(self.skills)

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> Outcomes:
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        return Outcomes(
            arms=self.arms,
            skills=tuple(self.skills[i] for i in rows),
            scores=self.scores[rows],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            latency_s=self.latency_s[rows],
            logprob=self.logprob[rows],
            own_odds=self.own_odds[rows],
        )
