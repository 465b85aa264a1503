"""Strategies played on questions: many at once, in waves, on completions that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.benchmarks.remembering import Memory, remembering
from eval.benchmarks.strategies_questions import TWO, Drawn
from eval.questions import Question
from experts.expert import Expert
from experts.values import NO_LIMITS, Arm, Completion
from orchestrator.answer import no_answer
from orchestrator.conclave import Conclave
from orchestrator.decision import Decision
from orchestrator.drivers.run import Run
from orchestrator.drivers.wave import run_wave
from orchestrator.strategies import make_strategy
from orchestrator.strategies.single import only
from routers.plans import Plan

Way = tuple[Run, float]
"""A strategy on a question, and what its router spent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """A strategy on all questions; arrays are (n,)."""

    score: np.ndarray
    cost_usd: np.ndarray
    n_calls: np.ndarray
    n_failed: np.ndarray
    """Of the calls, those that brought nothing: prompts that are too long for who is to judge."""
    seconds: np.ndarray
    """Of computing, each call's part of its batch; the router's not included."""

    def objective(self, fallback_price_usd: float) -> np.ndarray:
        result: np.ndarray = self.cost_usd + (1 - self.score) * fallback_price_usd
        return result


class Bench:
    """Plays strategies on questions, all of them in the same waves; completions are shared."""

    def __init__(self, conclave: Conclave) -> None:
        self._conclave = conclave
        self._memory = Memory()
        self._experts: dict[str, Expert] = remembering(conclave.experts, self._memory)
        self._fitted = conclave.require_fitted()
        self.arms = conclave.pool.arms

    def price_usd(self, policy: str) -> float:
        """Of a failure."""
        return self._conclave.policies[policy].fallback_price_usd

    def decide(self, drawn: Drawn, policy: str) -> list[Decision]:
        v = self.price_usd(policy)
        return self._conclave.decide([q.query(v) for q in drawn.questions], policy)

    def by_plan(self, decisions: Sequence[Decision], plan: Plan) -> list[Way]:
        """One plan for all questions, on the router's beliefs."""
        fitted, pool = self._fitted, self._conclave.pool
        ways = []
        for decision in decisions:
            if decision.scores is None:
                raise ValueError(f"{decision.policy} is no policy: strategies need its beliefs.")
            strategy = make_strategy(
                plan, fitted.confidence.p_right, fitted.composer, fitted.competency
            )
            steps = strategy(decision.query, decision.scores, pool)
            ways.append((Run(steps, NO_LIMITS, pool), decision.router_cost_usd))
        return ways

    def by_own_choice(self, decisions: Sequence[Decision]) -> list[Way]:
        """The plan that was chosen for each question."""
        return [(self._conclave.run_of(d), d.router_cost_usd) for d in decisions]

    def alone(self, drawn: Drawn, arm: Arm) -> list[Way]:
        """One expert, without a router."""
        return [(Run(only(q.query(1.0), arm), NO_LIMITS), 0.0) for q in drawn.questions]

    async def play(self, plays: Mapping[Any, Sequence[Way]], drawn: Drawn) -> dict[Any, Played]:
        """What came of each, on the same questions."""
        runs = [run for ways in plays.values() for run, _ in ways]
        await run_wave(runs, self._experts, _nobody)
        return {key: self._played(drawn.questions, ways) for key, ways in plays.items()}

    async def told_parts(
        self, drawn: Drawn, policies: Sequence[str]
    ) -> tuple[dict[str, Played], Drawn]:
        """Sequences by each policy, each part by itself, the second with what was said to the
        first: what could be had if somebody took the questions apart. With the questions as they
        are graded, whole."""

        def alike(questions: Iterable[Question]) -> Drawn:
            some = tuple(questions)
            return Drawn(questions=some, kinds=(TWO,) * len(some), two_parts=())

        parts = drawn.two_parts
        whole, first = alike(t.question for t in parts), alike(t.first for t in parts)
        ways = {p: self.by_own_choice(self.decide(first, p)) for p in policies}
        one = await self.play(ways, first)
        for policy, some in ways.items():
            said = [run.answer.answer if run.answer else "" for run, _ in some]
            second = alike(
                t.question.model_copy(update={"question": t.second(answer), "id": None})
                for t, answer in zip(parts, said, strict=True)
            )
            ways[policy] = self.by_own_choice(self.decide(second, policy))
        two = await self.play(ways, whole)
        both = {
            p: Played(
                score=two[p].score,
                cost_usd=one[p].cost_usd + two[p].cost_usd,
                n_calls=one[p].n_calls + two[p].n_calls,
                n_failed=one[p].n_failed + two[p].n_failed,
                seconds=one[p].seconds + two[p].seconds,
            )
            for p in policies
        }
        return both, whole

    def _played(self, questions: Sequence[Question], ways: Sequence[Way]) -> Played:
        answers = [run.answer or no_answer("it did not end") for run, _ in ways]
        right = [
            q.score(a.text) if a.succeeded else 0.0 for q, a in zip(questions, answers, strict=True)
        ]
        return Played(
            score=np.array(right),
            cost_usd=np.array(
                [a.cost_usd + usd for a, (_, usd) in zip(answers, ways, strict=True)]
            ),
            n_calls=np.array([float(len(a.completions)) for a in answers]),
            n_failed=np.array([float(sum(not c.ok for c in a.completions)) for a in answers]),
            seconds=np.array([self._memory.seconds_of(a.completions) for a in answers]),
        )


def oracle(alone: Sequence[Played]) -> Played:
    """The cheapest arm that is right, the cheapest of all where none is: nobody does better with
    one call."""
    score, cost = np.array([p.score for p in alone]), np.array([p.cost_usd for p in alone])
    best = np.where(score > 0, cost, cost + cost.max()).argmin(axis=0)
    rows = np.arange(score.shape[1])
    return Played(
        score=score[best, rows],
        cost_usd=cost[best, rows],
        n_calls=np.ones(len(rows)),
        n_failed=np.zeros(len(rows)),
        seconds=np.array([p.seconds for p in alone])[best, rows],
    )


def _nobody(completions: Sequence[Completion]) -> None:
    """The books of a benchmark are its report."""
