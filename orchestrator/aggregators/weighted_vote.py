"""The vote of those who know better counts for more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experts.values import Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, Belief, agreed, by_answer, has_answer
from orchestrator.answer import Answer, no_answer
from routers.scores import QueryScores

_EPS = 1e-3


class WeightedVote:
    """The answer with the highest posterior, if completions err independently of each other.

    Each completion multiplies the odds of its answer by q / (1 - q), q its P(right): the weights
    of Nitzan & Paroush (1982) for independent voters. The chance that none is right keeps the
    prior odds of one vote, so that two weak voices who agree do not sound certain.
    """

    def __init__(self, belief: Belief) -> None:
        self.belief = belief

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        ranked = self.ranked(completions, scores)
        if not ranked:
            return no_answer(ALL_FAILED)
        groups = [group for _, group in ranked]
        return agreed(groups[0], ranked[0][0], groups)

    def ranked(
        self, completions: Sequence[Completion], scores: QueryScores
    ) -> list[tuple[float | None, list[Completion]]]:
        """Posterior and completions of each answer, the likeliest first; ties as heard. Where
        nobody has an answer there is no posterior."""
        groups = by_answer(completions)
        if groups and not has_answer(groups[0][0]):
            return [(None, group) for group in groups]
        logits = [sum(self._log_odds(c, scores) for c in group) for group in groups]
        top = max(0.0, *logits) if logits else 0.0
        total = math.exp(-top) + sum(math.exp(x - top) for x in logits)
        found = [(math.exp(x - top) / total, g) for x, g in zip(logits, groups, strict=True)]
        return [*sorted(found, key=lambda pair: -pair[0])]

    def _log_odds(self, completion: Completion, scores: QueryScores) -> float:
        q = min(max(self.belief(completion, scores), _EPS), 1 - _EPS)
        return math.log(q / (1 - q))
