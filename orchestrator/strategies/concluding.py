"""How a strategy that heard several ends: the aggregator that its settings name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experts.expert import Pool
from experts.values import Arm, Completion, Query
from orchestrator.aggregators import ASKING, Belief, make_aggregator
from orchestrator.steps import Steps
from orchestrator.strategies.asking import named
from routers.scores import QueryScores

Conclusion = Callable[[Query, Sequence[Completion], QueryScores, Pool], Steps]


def concluding(belief: Belief, merge: str, by: str) -> Conclusion:
    """``merge`` names an aggregator; ``by`` the arm that it asks, the likeliest where it is empty.

    Raises UnknownName for an aggregator that there is not; so does nothing later.
    """
    aggregator = make_aggregator(merge, belief, Arm(by))

    def conclude(
        query: Query, heard: Sequence[Completion], scores: QueryScores, pool: Pool
    ) -> Steps:
        if merge in ASKING and scores.arms:
            asking = make_aggregator(merge, belief, named(by, scores, pool))
            return (yield from asking(query, heard, scores))
        return (yield from aggregator(query, heard, scores))

    return conclude
