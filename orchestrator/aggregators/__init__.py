"""Aggregators: many completions to one answer.

A failed completion never counts. Completions agree when their extracted answers are the same by
``experts.equality``. Those that ask nobody are functions of what was said (``merge``); all of them
have one form for strategies, ``Aggregator``, and a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from experts.errors import UnknownName
from experts.values import Arm
from orchestrator.aggregators.base import (
    Aggregator,
    Belief,
    Merge,
    agreed,
    asking_nobody,
    by_answer,
    has_answer,
)
from orchestrator.aggregators.best_of import best_of
from orchestrator.aggregators.first import First
from orchestrator.aggregators.ranked_choice import RankedChoice
from orchestrator.aggregators.synthesis import synthesis
from orchestrator.aggregators.vote import Vote, consistency
from orchestrator.aggregators.weighted_vote import WeightedVote

__all__ = [
    "AGGREGATORS", "ASKING", "Aggregator", "Belief", "First", "Merge", "RankedChoice", "Vote",
    "WeightedVote", "agreed", "asking_nobody", "best_of", "by_answer", "consistency",
    "has_answer", "make_aggregator", "synthesis",
]  # fmt: skip

AGGREGATORS: Mapping[str, Callable[[Belief], Aggregator]] = {
    "first": lambda belief: asking_nobody(First(belief).merge),
    "vote": lambda belief: asking_nobody(Vote().merge),
    "weighted_vote": lambda belief: asking_nobody(WeightedVote(belief).merge),
    "ranked_choice": lambda belief: asking_nobody(RankedChoice().merge),
}
"""Those that ask nobody, by name."""
ASKING: Mapping[str, Callable[[Belief, Arm], Aggregator]] = {
    "best_of": best_of,
    "synthesis": synthesis,
}
"""Those that ask an arm, by name."""


def make_aggregator(name: str, belief: Belief, by: Arm) -> Aggregator:
    """``by``: who is asked, where somebody is. Raises UnknownName."""
    if name in ASKING:
        return ASKING[name](belief, by)
    if name in AGGREGATORS:
        return AGGREGATORS[name](belief)
    raise UnknownName(name, (*AGGREGATORS, *ASKING), what="aggregator")
