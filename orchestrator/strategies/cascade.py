"""Cheapest first; stop as soon as the answer can be believed."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Arm, Completion, Query
from orchestrator.aggregators import Belief, First, WeightedVote, has_answer
from orchestrator.strategies.asking import ask, ladder, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores


def cascade(belief: Belief, *, stop_at: float = 0.9) -> Strategy:
    """Climb the ladder of arms (``asking.ladder``) until the leading answer's P(right), with the
    agreement of all answers so far, reaches ``stop_at``.

    FrugalGPT (``frugal``) accepts on a score of the last answer alone; here earlier answers keep
    their say, so two rungs that agree may stop what neither could alone.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        heard: list[Completion] = []
        merge = WeightedVote(belief).merge
        for arm in ladder(scores):
            heard += yield [ask(query, arm)]
            answer = merge(query, heard, scores)
            if answer.succeeded and (answer.p_correct or 0) >= stop_at:
                break
        heard = yield from or_anyone(query, scores, heard)
        return merge(query, heard, scores)

    return strategy


def frugal(belief: Belief, *, stop_at: float = 0.9, rungs: float = 3) -> Strategy:
    """Climb at most ``rungs`` of the ladder, its lowest and its highest among them; the first
    answer whose own score reaches ``stop_at`` is it, and of the highest rung any.

    FrugalGPT, arXiv:2305.05176: a chain of at most three, each answer judged by itself, earlier
    ones forgotten. Its scorer is a fitted model; here it is the confidence in answers.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        heard: list[Completion] = []
        last: list[Completion] = []
        for arm in _spread(ladder(scores), int(rungs)):
            heard += yield [ask(query, arm)]
            if heard[-1].ok:
                last = [heard[-1]]
                if has_answer(heard[-1]) and belief(heard[-1], scores) >= stop_at:
                    break
        heard = yield from or_anyone(query, scores, heard)
        return First(belief).merge(query, [*last, *heard], scores)

    return strategy


def _spread(rungs: list[Arm], n: int) -> list[Arm]:
    """At most n of them, evenly, both ends included; the highest where there is one."""
    if len(rungs) <= n:
        return rungs
    if n <= 1:
        return rungs[-1:] if n else []
    step = (len(rungs) - 1) / (n - 1)
    return [rungs[round(i * step)] for i in range(n)]
