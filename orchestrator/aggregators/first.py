"""First come: the first completion that succeeded."""

from __future__ import annotations

from collections.abc import Sequence

from experts.values import Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, Belief, agreed, by_answer, has_answer
from orchestrator.answer import Answer, no_answer
from routers.scores import QueryScores


class First:
    """The first completion that succeeded."""

    def __init__(self, belief: Belief) -> None:
        self.belief = belief

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        groups = by_answer(completions)
        if not groups:
            return no_answer(ALL_FAILED)
        first = groups[0][0]
        p_right = self.belief(first, scores) if has_answer(first) else None
        return agreed([first], p_right, groups[1:])
