"""Experts that say what a test wants, and the three drivers that run a plan on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import numpy as np

from experts.cards import Prices
from experts.expert import Pool
from experts.fake import FakeExpert
from experts.modes import shipped_modes
from experts.values import NO_LIMITS, Arm, Call, Completion, Limits, Query
from orchestrator.answer import Answer
from orchestrator.drivers.live import run_live
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.fitted import Fitted
from orchestrator.strategies import make_strategy
from routers.competency import Competency
from routers.confidence import AnswerConfidence
from routers.plans import Plan
from routers.scores import QueryScores, Scores
from tests import pools

P_RIGHT = {"small": 0.5, "middle": 0.7, "large": 0.9}
ARMS = tuple(map(Arm, P_RIGHT))
COMPETENCY = Competency(arms=ARMS, skills=("sums",), margin=np.array([[2.0], [5.0], [9.0]]))
Says = Callable[[Call], str] | str
"""Of one expert; raising is failing."""


@dataclass
class World:
    """Three experts of rising price and skill, unless a test has its own."""

    says: Mapping[str, Says]
    p_correct: Mapping[str, float] = field(default_factory=lambda: P_RIGHT)
    """By arm."""
    sd: float = 0.0
    other_choice: Arm | None = None
    made: list[Completion] = field(default_factory=list)
    """What was recorded."""

    def __post_init__(self) -> None:
        arms = [Arm.parse(name) for name in self.p_correct]
        self.experts = {
            name: FakeExpert(
                name,
                _script(self.says.get(name, _down)),
                prices=Prices(input_usd_per_mtok=10.0**i, output_usd_per_mtok=10.0**i),
                modes=tuple(shipped_modes()[a.mode] for a in arms if a.expert == name),
            )
            for i, name in enumerate(dict.fromkeys(a.expert for a in arms))
        }
        self.pool = Pool.of(self.experts.values())
        self.scores = QueryScores(
            arms=tuple(arms),
            p_correct=np.array(list(self.p_correct.values())),
            sd=np.full(len(arms), self.sd),
            cost_usd=np.geomspace(1e-6, 1e-4, len(arms)),
            latency_s=np.zeros(len(arms)),
            novelty=0.0,
            is_general=False,
            skills={"sums": 1.0},
            other_choice=self.other_choice,
        )

    def run(self, plan: str | Plan, limits: Limits = NO_LIMITS, question: str = "?") -> Run:
        plan = Plan.parse(plan) if isinstance(plan, str) else plan
        query = pools.query(question)
        query = Query(
            query_id=query.query_id, messages=query.messages, fallback_price_usd=1e-3, limits=limits
        )
        steps = make_strategy(plan, believed, None, COMPETENCY)(query, self.scores, self.pool)
        return Run(steps, limits, self.pool)

    def live(self, plan: str | Plan, limits: Limits = NO_LIMITS, question: str = "?") -> Answer:
        """The answer; ``made`` and ``asked`` tell how it came."""
        run = self.run(plan, limits, question)
        return asyncio.run(run_live(run, self.experts, self.made.extend))

    def wave(self, plan: str) -> Answer:
        [answer] = asyncio.run(run_wave([self.run(plan)], self.experts, lambda made: None))
        return answer

    def replay(self, plan: str) -> Answer:
        """From what ``live`` recorded."""
        return run_replay(self.run(plan), Recording(self.made))

    @property
    def asked(self) -> list[str]:
        """Arms in the order of the calls that were made, with what for where it was no answer."""
        return [_named(c.call) for c in self.made]


def indifferent(pool: Pool) -> Fitted:
    """A router that thinks the same of all arms: what matters here is named by the plan."""
    arms = pool.arms

    def score(texts: list[str], n_chars: np.ndarray, embed: object) -> Scores:
        shape = len(texts), len(arms)
        return Scores(
            arms=arms, p_correct=np.full(shape, 0.5), sd=np.zeros(shape),
            cost_usd=np.full(shape, 1e-6), latency_s=np.zeros(shape), novelty=np.zeros(shape[0]),
            is_general=np.zeros(shape[0], bool), skills=("any",), p_skill=np.ones((shape[0], 1)),
        )  # fmt: skip

    outlooks = SimpleNamespace(arms=arms, expect=lambda scores, v: [])
    made = SimpleNamespace(
        score=score, outlooks=outlooks, confidence=AnswerConfidence({}), composer=None,
        competency=None, aggregator=None, state_id="indifferent",
    )  # fmt: skip
    return cast(Fitted, made)


def believed(completion: Completion, scores: QueryScores) -> float:
    arm = completion.call.arm
    return float(scores.p_correct[scores.index(arm)]) if arm in scores.arms else 0.5


def everybody(answer: str) -> dict[str, Says]:
    return dict.fromkeys(P_RIGHT, answer)


def in_turn(*texts: str) -> Says:
    """Each once, the last one for ever."""
    left = list(texts)
    return lambda call: left.pop(0) if len(left) > 1 else left[0]


def by_sample(*texts: str) -> Says:
    return lambda call: texts[call.sample]


def by_purpose(**texts: Says) -> Says:
    return lambda call: _script(texts[call.purpose])(call)


def _named(call: Call) -> str:
    return str(call.arm) if call.purpose == "answer" else f"{call.arm}/{call.purpose}"


def _script(says: Says) -> Callable[[Call], str]:
    return says if callable(says) else lambda call: says


def _down(call: Call) -> str:
    raise RuntimeError("down")


def texts_of(calls: Sequence[Call]) -> str:
    """All that was put to experts."""
    return "\n".join(m.content for call in calls for m in call.messages)
