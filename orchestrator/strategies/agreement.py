"""Ask on until enough of them agree."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Query
from orchestrator.aggregators import Belief, WeightedVote, by_answer, has_answer
from orchestrator.strategies.asking import ask, hear, ladder, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores


def agreement(belief: Belief, *, agree: float = 2, most: float = 4) -> Strategy:
    """The lowest ``agree`` rungs of the ladder at once, then rung by rung up to ``most`` arms,
    until ``agree`` of them give the same answer. Where they never do, the weighted vote.

    Agreement alone stops it, so it needs no calibrated belief: what cascades of ensembles do
    (agreement-based cascading, arXiv:2407.02348).
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        n, rungs = max(1, int(agree)), ladder(scores)
        # The highest rung is the best that there is: whoever asks on must be able to get there.
        climbed = [*rungs[: max(n, int(most)) - 1], rungs[-1]] if len(rungs) > most else rungs
        heard = yield from hear([ask(query, arm) for arm in climbed[:n]])
        for arm in climbed[n:]:
            if max(map(len, by_answer([c for c in heard if has_answer(c)])), default=0) >= n:
                break
            heard += yield [ask(query, arm)]
        heard = yield from or_anyone(query, scores, heard)
        return WeightedVote(belief).merge(query, heard, scores)

    return strategy
