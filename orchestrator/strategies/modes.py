"""One expert, several ways of asking it: which of its modes, and how many of them."""

from __future__ import annotations

from collections.abc import Sequence

from experts.expert import Pool
from experts.values import Arm, Completion, Query
from orchestrator.aggregators import Belief, Vote, WeightedVote, by_answer
from orchestrator.aggregators.base import agreed, without
from orchestrator.strategies.asking import ask, by_success, hear, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.scores import QueryScores


def modes(belief: Belief, *, sure: float = 0.35, gap: float = 0.1, most: float = 4) -> Strategy:
    """One mode, two or all: the likeliest if it reaches ``sure`` and leads by ``gap``; with the
    second if it reaches ``sure`` only, and the likelier one's answer counts where they differ; else
    ``most`` of them, the most frequent answer, or the likeliest mode's where none is said twice.

    PRISM's strategy routing with its thresholds, on calibrated beliefs in the place of a softmax
    over strategies. The modes are those of the expert that is likeliest to be right.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        ranked = of_best_expert(scores)[: max(1, int(most))]
        p = [float(scores.p_correct[scores.index(arm)]) for arm in ranked]
        n = len(ranked)
        if p and p[0] >= sure:
            n = 1 if n == 1 or p[0] - p[1] >= gap else 2
        heard = yield from hear([ask(query, arm) for arm in ranked[:n]])
        heard = yield from or_anyone(query, scores, heard)
        groups = by_answer(heard)
        if not groups or max(map(len, groups)) > 1:
            return Vote().merge(query, heard, scores)
        first = groups[0][0]
        voted = WeightedVote(belief).ranked(heard, scores)
        [p_first] = [p for p, group in voted if group[0] is first]
        return agreed([first], p_first, without([first], heard))

    return strategy


def mode_gate(belief: Belief, *, give: float = 0.05) -> Strategy:
    """The cheapest mode whose P(right) is at most ``give`` below the best mode's.

    A2FM's choice of instant, reasoning or agentic (arXiv:2510.12838) without its training: its
    reward punishes a dear mode on a question that the instant one solves, and this is that rule. An
    agent is a mode like another here, where an expert has one. The expert is as in ``modes``; where
    the mode fails, the next cheapest that is good enough, then anybody.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        arms = of_best_expert(scores)
        best = max((scores.p_correct[scores.index(a)] for a in arms), default=0.0)
        able = [a for a in arms if scores.p_correct[scores.index(a)] >= best - give]
        cheapest = sorted(able, key=lambda a: float(scores.cost_usd[scores.index(a)]))
        heard: list[Completion] = []
        for i, arm in enumerate(cheapest):
            heard += yield [ask(query, arm, streams_answer=i == 0)]
            if heard[-1].ok:
                break
        heard = yield from or_anyone(query, scores, heard)
        return WeightedVote(belief).merge(query, heard, scores)

    return strategy


def of_best_expert(scores: QueryScores) -> Sequence[Arm]:
    """The modes of the expert that is likeliest to be right, the likeliest first."""
    ranked = by_success(scores)
    return [arm for arm in ranked if arm.expert == ranked[0].expert]
