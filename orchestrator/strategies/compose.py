"""Ask in waves while what the next ones are expected to bring is worth their price."""

from __future__ import annotations

from experts.errors import UserError
from experts.expert import Pool
from experts.values import Completion, Query
from orchestrator.aggregators.base import ALL_FAILED, agreed, has_answer, without
from orchestrator.answer import no_answer
from orchestrator.strategies.asking import ask, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from routers.composer import Composing
from routers.scores import QueryScores


def composer_of(composer: Composing | None) -> Composing:
    """Raises UserError where nothing was learned of composing."""
    if composer is None:
        raise UserError(
            "compose needs what `conclave fit` learns from recorded answers, some right and some "
            "wrong, and nothing of that is fitted. Record more questions and fit again, or name "
            "another strategy."
        )
    return composer


def compose(composer: Composing, *, sequence: float = 0) -> Strategy:
    """A learned sequence of waves. After each the answer model weighs who said what, and the
    strategy goes on while some of the further waves gain more than they cost, at the query's own
    price of a wrong answer: one call, a cascade or a vote of many, as it turns out."""

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        number, stage, history = int(sequence), 0, list[Completion]()
        waves, weigh = composer.waves(number), composer.weighing(query.text, scores)
        leading, price_usd = weigh(history), query.fallback_price_usd
        for stage, wave in enumerate(waves):
            arms = [arm for arm in wave if arm in scores]
            if arms:
                history += yield [ask(query, arm) for arm in arms]
            leading = weigh(history)
            last = stage + 1 == len(waves)
            if last or not composer.goes_on(number, stage, leading.p_right, price_usd):
                break
        if not leading.completions:
            history = yield from or_anyone(query, scores, history)
            leading = weigh(history)
        if not leading.completions:
            return no_answer(ALL_FAILED)
        if not has_answer(leading.completions[0]):
            first, *others = leading.completions
            return agreed([first], None, [[c] for c in others])
        p_right = composer.believed(number, stage, leading.p_right)
        return agreed(leading.completions, p_right, without(leading.completions, history))

    return strategy
