"""Recorded questions to compare annotators on: embedded, graded, and priced."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experts.errors import DataError
from experts.expert import Pool
from experts.values import Query
from orchestrator.fitting import Recorded
from orchestrator.ledger import RecordedCall
from routers.outcomes import Features, Outcomes
from skills.embedders import Embedder


@dataclass(frozen=True, kw_only=True)
class Questions:
    """n questions that every arm was asked."""

    queries: Sequence[Query]
    features: Features
    outcomes: Outcomes
    cost_usd: np.ndarray
    """(n, n_arms)."""

    def __getitem__(self, rows: np.ndarray) -> Questions:
        return Questions(
            queries=[self.queries[int(i)] for i in rows],
            features=self.features[rows],
            outcomes=self.outcomes[rows],
            cost_usd=self.cost_usd[rows],
        )


def questions_of(calls: Sequence[RecordedCall], pool: Pool, embedder: Embedder) -> Questions:
    """Of those calls whose questions have a skill. Raises DataError where an arm was not asked."""
    recorded = Recorded([c for c in calls if c.skill], pool)
    outcomes = recorded.outcomes()
    if np.isnan(outcomes.scores).any():
        raise DataError(
            "Some outcomes are missing: annotators are compared where every expert was asked "
            "everything. Resume the recording: conclave record QUESTIONS.jsonl"
        )
    prices = {arm: card.prices for card in pool.cards for arm in card.arms}
    rates = np.array(
        [[prices[a].input_usd_per_mtok, prices[a].output_usd_per_mtok] for a in outcomes.arms]
    )
    cost_usd = (outcomes.input_tokens * rates[:, 0] + outcomes.output_tokens * rates[:, 1]) / 1e6
    features = Features(
        embeddings=embedder.embed([q.text for q in recorded.queries]),
        n_chars=np.array([sum(len(m.content) for m in q.messages) for q in recorded.queries]),
    )
    return Questions(
        queries=recorded.queries, features=features, outcomes=outcomes, cost_usd=cost_usd
    )


def embed_ms(embedder: Embedder, queries: Sequence[Query]) -> float:
    """Of one question alone, the median of ten."""
    taken = []
    for query in queries[:: max(1, len(queries) // 10)]:
        started = time.perf_counter()
        embedder.embed([query.text])
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))
