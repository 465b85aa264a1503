"""Aggregators: many completions to one answer. Pure; nothing is asked here.

A failed completion never counts. Completions agree when their extracted answers are the same by
``experts.equality``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from experts.equality import canonical
from experts.values import Completion, Query
from orchestrator.answer import Answer, no_answer
from routers.scores import QueryScores

Belief = Callable[[Completion, QueryScores], float]
"""P(right) of one completion in [0, 1], such as ``AnswerConfidence.p_right``."""

_EPS = 1e-3


class Aggregator(Protocol):
    """Makes one answer of several completions."""

    def merge(
        self, query: Query, completions: Sequence[Completion], scores: QueryScores
    ) -> Answer: ...


class First:
    """The first completion that succeeded."""

    def __init__(self, belief: Belief) -> None:
        self.belief = belief

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        for completion in completions:
            if completion.ok:
                p = self.belief(completion, scores)
                return agreed([completion], p)
        return no_answer("every expert that was asked failed")


class Vote:
    """The most frequent answer; ties go to the one heard first.

    It says nothing of how likely that is right: samples of one model share its mistakes.
    """

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        groups = _groups(completions)
        if not groups:
            return no_answer("every expert that was asked failed")
        return agreed(max(groups, key=len), None)


class WeightedVote:
    """The answer with the highest posterior, if completions err independently of each other.

    Each completion multiplies the odds of its answer by q / (1 - q), q its P(right): the weights
    of Nitzan & Paroush (1982) for independent voters. The chance that none is right keeps the
    prior odds of one vote, so that two weak voices who agree do not sound certain.
    """

    def __init__(self, belief: Belief) -> None:
        self.belief = belief

    def merge(self, query: Query, completions: Sequence[Completion], scores: QueryScores) -> Answer:
        groups = _groups(completions)
        if not groups:
            return no_answer("every expert that was asked failed")
        logits = [sum(self._log_odds(c, scores) for c in group) for group in groups]
        top = max(0.0, *logits)
        total = math.exp(-top) + sum(math.exp(x - top) for x in logits)
        best = max(range(len(groups)), key=logits.__getitem__)
        return agreed(groups[best], math.exp(logits[best] - top) / total)

    def _log_odds(self, completion: Completion, scores: QueryScores) -> float:
        q = min(max(self.belief(completion, scores), _EPS), 1 - _EPS)
        return math.log(q / (1 - q))


def _groups(completions: Sequence[Completion]) -> list[list[Completion]]:
    """Successful completions by answer, in order of first appearance."""
    heard = [c for c in completions if c.ok]
    groups: dict[str | None, list[Completion]] = {}
    for completion, key in zip(heard, canonical([c.answer for c in heard]), strict=True):
        groups.setdefault(key, []).append(completion)
    return list(groups.values())


def agreed(agreeing: Sequence[Completion], p_correct: float | None) -> Answer:
    """The answer that these completions, at least one, agree on."""
    arms = tuple(dict.fromkeys(c.call.arm for c in agreeing))
    return Answer(
        text=agreeing[0].text,
        answer=agreeing[0].answer,
        p_correct=p_correct,
        contributors=arms,
        completions=tuple(agreeing),
    )
