"""Model-Switch: while a model agrees with itself it is believed, and else another is asked, too."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Query
from orchestrator.aggregators import Belief, Vote, consistency
from orchestrator.strategies.asking import by_success, hear, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.vote import samples
from routers.scores import QueryScores


def switch(
    belief: Belief, *, n: float = 5, consistent: float = 0.8, arms: float = 2, team: float = 1
) -> Strategy:
    """``n`` samples of the likeliest arm; where less than a share of ``consistent`` of them say the
    same, as many of the next one, up to ``arms``; the most frequent of all answers wins.

    Model-Switch, arXiv:2504.00762, which stops at 0.8 of five samples and asks two models. ``team``
    puts several arms in the place of each: with ``n=1``, different models for samples of one.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        ranked, size = by_success(scores), max(1, int(team))
        heard = []
        for k in range(int(arms)):
            some = ranked[k * size : (k + 1) * size]
            said = yield from hear(samples(query, some, int(n)))
            heard += said
            if said and consistency(said) >= consistent:
                break
        heard = yield from or_anyone(query, scores, heard)
        return Vote().merge(query, heard, scores)

    return strategy
