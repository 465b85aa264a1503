"""Several samples, the most frequent answer wins: self-consistency, and Avengers' vote."""

from __future__ import annotations

from collections.abc import Sequence

from experts.expert import Pool
from experts.values import Arm, Call, Query
from orchestrator.aggregators import Belief
from orchestrator.strategies.asking import ask, by_success, hear, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.concluding import concluding
from routers.scores import QueryScores

SAMPLE_TEMPERATURE = 0.7
"""Samples must differ to be worth their price; Wang et al. use the same. A temperature that the
query asks for goes before it."""


def vote(
    belief: Belief, *, n: float = 3, arms: float = 1, merge: str = "vote", by: str = ""
) -> Strategy:
    """``n`` samples of each of the ``arms`` likeliest arms; first comes each arm's greedy answer.

    Wang et al. 2022, arXiv:2203.11171, with a greedy first sample: it is the arm's best guess, and
    ties go to it. Where the likeliest arm is found by clusters or categories of questions, this is
    Avengers' vote (arXiv:2505.19797). In the mode ``ranked``, ``merge="ranked_choice"``.
    """
    conclude = concluding(belief, merge, by)

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        chosen = by_success(scores)[: int(arms)]
        heard = yield from hear(samples(query, chosen, int(n)))
        heard = yield from or_anyone(query, scores, heard)
        return (yield from conclude(query, heard, scores, pool))

    return strategy


def samples(query: Query, arms: Sequence[Arm], n: int) -> list[Call]:
    """``n`` of each arm, the greedy ones first."""
    hot = query.sampling.temperature or SAMPLE_TEMPERATURE
    return [
        ask(query, arm, sample=i, temperature=hot if i else None) for i in range(n) for arm in arms
    ]
