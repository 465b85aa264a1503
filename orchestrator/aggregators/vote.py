"""The plain vote."""

from __future__ import annotations

from collections.abc import Sequence

from experts.values import Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, agreed, by_answer, has_answer
from orchestrator.answer import Answer, no_answer
from routers.scores import QueryScores


class Vote:
    """The most frequent answer; ties go to the one heard first.

    It says nothing of how likely that is right: samples of one model share its mistakes.
    """

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        groups = by_answer(completions)
        if not groups:
            return no_answer(ALL_FAILED)
        return agreed(max(groups, key=len), None, groups)


def consistency(completions: Sequence[Completion]) -> float:
    """Share of the completions that say the most frequent answer, in [0, 1]; failed ones, and those
    without an answer, say none."""
    groups = by_answer([c for c in completions if has_answer(c)])
    return max(map(len, groups), default=0) / max(1, len(completions))
