"""An outcome matrix as routers are fitted on one: features of questions, outcomes of arms."""

from __future__ import annotations

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from experts.values import Arm
from routers.outcomes import Features, Outcomes


def for_routers(matrix: OutcomeMatrix, embeddings: np.ndarray) -> tuple[Features, Outcomes]:
    """embeddings: (n_queries, n_dims) of the prompts. Tasks stand for skills; latencies and
    log-probabilities are unknown."""
    unknown = np.full(matrix.score.shape, np.nan)
    features = Features(
        embeddings=embeddings.astype(float),
        n_chars=np.array([len(q.prompt) for q in matrix.queries]),
    )
    outcomes = Outcomes(
        arms=tuple(Arm(m) for m in matrix.models),
        skills=tuple(matrix.tasks),
        scores=matrix.score,
        input_tokens=matrix.input_tokens,
        output_tokens=matrix.output_tokens,
        latency_s=unknown,
        logprob=unknown,
        own_odds=unknown,
    )
    return features, outcomes
