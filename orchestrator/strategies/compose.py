"""Ask in waves while what the next ones are expected to bring is worth their price."""

from __future__ import annotations

from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators import agreed
from orchestrator.answer import no_answer
from orchestrator.strategies.asking import ask, by_success
from orchestrator.strategies.base import Steps, Strategy
from routers.composer import Composing
from routers.scores import QueryScores


def compose(composer: Composing, *, sequence: float = 0) -> Strategy:
    """A learned sequence of waves. After each the answer model weighs who said what, and the
    strategy goes on while some of the further waves gain more than they cost, at the query's own
    price of a wrong answer: one call, a cascade or a vote of many, as it turns out."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        number, stage, history = int(sequence), 0, list[Completion]()
        waves = composer.waves(number)
        for stage, wave in enumerate(waves):
            arms = [arm for arm in wave if arm in scores.arms]
            if arms:
                history += yield [ask(query, arm) for arm in arms]
            p_right = composer.leading(query.text, history, scores).p_right
            last = stage + 1 == len(waves)
            if last or not composer.goes_on(number, stage, p_right, query.fallback_price_usd):
                break
        for arm in by_success(scores):  # all of them failed: anyone else
            if any(c.ok for c in history):
                break
            if arm not in {c.call.arm for c in history}:
                history += yield [ask(query, arm)]
        leading = composer.leading(query.text, history, scores)
        if not leading.completions:
            answer = no_answer("every expert that was asked failed")
        else:
            p_right = composer.believed(number, stage, leading.p_right)
            answer = agreed(leading.completions, p_right)
        return answer.with_history(tuple(history))

    return strategy
