"""Self-consistency: several samples, the most frequent answer wins."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import Belief, Vote
from orchestrator.strategies.asking import ask, by_success
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores

SAMPLE_TEMPERATURE = 0.7
"""Samples must differ to be worth their price; Wang et al. use the same. A temperature that the
query asks for goes before it."""


def vote(belief: Belief, *, n: float = 3, arms: float = 1) -> Strategy:
    """``n`` samples of each of the ``arms`` likeliest arms; first comes each arm's greedy answer.

    Wang et al. 2022, arXiv:2203.11171, with a greedy first sample: it is the arm's best guess, and
    ties go to it.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        chosen = by_success(scores)[: int(arms)]
        hot = query.sampling.temperature or SAMPLE_TEMPERATURE
        history: list[Completion] = list(
            (
                yield [
                    ask(query, arm, sample=i, temperature=hot if i else None)
                    for i in range(int(n))
                    for arm in chosen
                ]
            )
        )
        if not any(c.ok for c in history):
            for arm in by_success(scores)[int(arms) :]:
                history += yield [ask(query, arm)]
                if history[-1].ok:
                    break
        return Vote().merge(query, history, scores).with_history(tuple(history))

    return strategy
