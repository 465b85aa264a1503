"""Cheapest first; stop as soon as the answer can be believed."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import Belief, WeightedVote
from orchestrator.strategies.asking import ask, by_success, ladder
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores


def cascade(belief: Belief, *, stop_at: float = 0.9) -> Strategy:
    """Climb the ladder of arms (``asking.ladder``) until the leading answer's P(right), with the
    agreement of all answers so far, reaches ``stop_at``.

    FrugalGPT (arXiv:2305.05176) accepts on a score of the last answer alone; here earlier answers
    keep their say, so two rungs that agree may stop what neither could alone.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        history: list[Completion] = []
        merge = WeightedVote(belief).merge
        for arm in ladder(scores):
            history += yield [ask(query, arm)]
            answer = merge(query, history, scores)
            if answer.succeeded and (answer.p_correct or 0) >= stop_at:
                break
        for arm in by_success(scores):  # the whole ladder failed: anyone else
            if any(c.ok for c in history):
                break
            if arm not in {c.call.arm for c in history}:
                history += yield [ask(query, arm)]
        return merge(query, history, scores).with_history(tuple(history))

    return strategy
