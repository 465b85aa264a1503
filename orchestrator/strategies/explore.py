"""Ask the arm that is explored; if it fails, go on as if nothing had been explored."""

from __future__ import annotations

from dataclasses import replace

from experts.expert import Pool
from experts.values import Query
from orchestrator.aggregators import Belief, First
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps, Strategy
from routers.exploration import Exploration
from routers.scores import QueryScores


def explore(exploration: Exploration, belief: Belief, otherwise: Strategy) -> Strategy:
    """The explored arm's call may cost what was reserved for it; what is asked when it fails is no
    part of the exploration."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        if exploration.arm is None:
            raise ValueError("Nobody is explored: run the plan itself.")
        call = replace(
            ask(query, exploration.arm, streams_answer=True),
            purpose="explore",
            max_cost_usd=exploration.reserved_usd,
        )
        [completion] = yield [call]
        if completion.ok:
            return First(belief).merge(query, [completion], scores).with_history((completion,))
        answer = yield from otherwise(query, scores, pool)
        return answer.with_history((completion, *answer.completions))

    return strategy
