"""Ask the k likeliest arms at once; the weighted vote decides."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import Belief, WeightedVote
from orchestrator.strategies.asking import ask, by_success
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores


def recruit(belief: Belief, *, k: float = 2) -> Strategy:
    """The ``k`` arms that are likeliest to be right; more are asked only while all fail."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        ranked = by_success(scores)
        chosen = ranked[: int(k)]
        history: list[Completion] = list((yield [ask(query, arm) for arm in chosen]))
        for arm in ranked[int(k) :]:
            if any(c.ok for c in history):
                break
            history += yield [ask(query, arm)]
        return WeightedVote(belief).merge(query, history, scores).with_history(tuple(history))

    return strategy
