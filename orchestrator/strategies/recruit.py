"""Ask several arms at once and merge what they say: the likeliest k, the likeliest few that hold a
share of all hope, or those that the question's skills call for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experts.expert import Pool
from experts.values import Arm, Query
from orchestrator.aggregators import Belief
from orchestrator.seeded import seeded
from orchestrator.strategies.asking import ask, by_success, hear, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.concluding import concluding
from orchestrator.strategies.vote import SAMPLE_TEMPERATURE
from routers.competency import Competency
from routers.scores import QueryScores

WEIGHTED = "weighted_vote"
_EPS = 1e-3


def recruit(belief: Belief, *, k: float = 2, merge: str = WEIGHTED, by: str = "") -> Strategy:
    """The ``k`` arms that are likeliest to be right; more are asked only while all fail."""
    return _team(lambda query, scores: by_success(scores)[: int(k)], belief, merge, by)


def recruit_top_p(
    belief: Belief, *, p: float = 0.4, k: float = 4, merge: str = WEIGHTED, by: str = ""
) -> Strategy:
    """The likeliest arms until their shares of all arms' odds of being right exceed ``p``, at most
    ``k``: one for a question that somebody stands out on, more where nobody does.

    Huang et al. 2024, arXiv:2403.07652, whose shares are a gate's; these are p / (1 - p) of
    calibrated beliefs, because those need not sum to 1.
    """

    def choose(query: Query, scores: QueryScores) -> list[Arm]:
        ranked = by_success(scores)
        right = np.clip([scores.p_correct[scores.index(a)] for a in ranked], _EPS, 1 - _EPS)
        odds = right / (1 - right)
        held = np.cumsum(odds) / odds.sum()
        n = int((held <= p).sum()) + 1  # the arm that crosses the bar is asked, too
        return ranked[: min(n, int(k))]

    return _team(choose, belief, merge, by)


def recruit_by_skill(
    competency: Competency,
    belief: Belief,
    *,
    k: float = 3,
    temperature: float = 0.5,
    distinct: float = 0,
    seed: float = 0,
    merge: str = WEIGHTED,
    by: str = "",
) -> Strategy:
    """``k`` arms, drawn with their weights for the question's skills (``routers.competency``); one
    that is drawn twice gives two samples, or is not drawn twice if they are to be ``distinct``.

    Symbolic-MoE, arXiv:2503.05641; ``merge="synthesis"`` is how they end.
    """

    def choose(query: Query, scores: QueryScores) -> list[Arm]:
        weights = competency.weights(scores.skills, scores.arms, temperature=temperature)
        rng = seeded(query.query_id, int(seed), "recruit")
        most = int((weights > 0).sum()) if distinct else int(k)
        drawn = rng.choice(len(weights), size=min(int(k), most), replace=not distinct, p=weights)
        return [scores.arms[int(i)] for i in drawn]

    return _team(choose, belief, merge, by)


def _team(
    choose: Callable[[Query, QueryScores], list[Arm]], belief: Belief, merge: str, by: str
) -> Strategy:
    conclude = concluding(belief, merge, by)

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        team = choose(query, scores) if scores.arms else []
        hot = query.sampling.temperature or SAMPLE_TEMPERATURE
        calls = []
        for i, arm in enumerate(team):
            sample = team[:i].count(arm)
            calls.append(ask(query, arm, sample=sample, temperature=hot if sample else None))
        heard = yield from hear(calls)
        heard = yield from or_anyone(query, scores, heard)
        return (yield from conclude(query, heard, scores, pool))

    return strategy
