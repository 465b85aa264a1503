"""Runs for drivers to drive: a cascade over three experts, and a strategy of one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Limits, Query
from orchestrator.answer import Answer
from orchestrator.drivers.run import Run
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.cascade import cascade
from routers.scores import QueryScores
from tests import pools

NAMES = ("small", "medium", "large")


def record_nothing(completions: Sequence[Completion]) -> None:
    """For runs whose books are not looked at."""


def scores() -> QueryScores:
    return QueryScores(
        arms=tuple(map(Arm, NAMES)),
        p_correct=np.array([0.5, 0.7, 0.9]),
        sd=np.zeros(3),
        cost_usd=np.array([1e-6, 1e-5, 1e-4]),
        latency_s=np.zeros(3),
        novelty=0.0,
        is_general=False,
        skills={},
    )


def believed(completion: Completion, _: QueryScores) -> float:
    """Confidence as the experts below state it in their log-probability."""
    return 0.95 if (completion.logprob or -9) > -1 else 0.4


def pool(n: int) -> dict[str, FakeExpert]:
    """Question i is sure at the small expert when i % 3 == 0, at the medium when i % 3 == 1."""

    def sure_when(remainder: int | None):
        def logprob(call: Call) -> float:
            i = int(call.query_id)
            return -0.1 if remainder is None or i % 3 == remainder else -5.0

        return logprob

    def says(name: str):
        return lambda call: f"{name} on {call.query_id}"

    surest = {"small": 0, "medium": 1, "large": None}
    return {n: FakeExpert(n, says(n), logprob=sure_when(surest[n])) for n in NAMES}


CASCADE = cascade(believed, stop_at=0.9)


def runs(n: int, strategy: Strategy = CASCADE) -> list[Run]:
    cards = Pool.of(pool(1).values())
    queries = [pools.query(f"question {i}", query_id=str(i)) for i in range(n)]
    return [Run(strategy(q, scores(), cards), Limits()) for q in queries]


def iter_only(query: Query) -> Steps:
    [c] = yield [ask(query, Arm("small"), streams_answer=True)]
    return Answer(text=c.text, answer=c.text, p_correct=None, contributors=(), completions=(c,))
