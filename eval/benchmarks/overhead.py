"""What a step of a strategy costs in processor time, outside of its experts.

A step is one time that a strategy yields calls and is sent what became of them, however many calls
those are: its own thinking (who is asked next, which answer leads, whether to stop), the limits,
the driver, and the ledger on a file. Opening the strategy and making its last word an answer are in
it, too: a question's seconds are shared out to its steps. Experts here answer at once, and their
own time is taken off. What is not in it: deciding (`conclave bench decision`), and what is recorded
once a question, before and after.

Three ways to follow the same plan tell the parts apart: all of it, without the ledger, and the
strategy alone, without a driver. The floor is asyncio with nothing of ours: a task a step, in which
an expert answers at once. A durable cascade stands beside the live one: what is kept so that a kill
does no harm.

Every contestant is given every question, in an order drawn anew for each, so that whatever else the
machine does hits all alike: the processor's clock runs on while neighbours take caches and
frequency away. It is given each question several times in a row. The first one finds everything
cold, as in a process that had been waiting; the median of the others is what counts, as in one that
is busy, where what a step costs matters. Both are told.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.questions import lab_questions
from eval.statistics import Z95
from experts.answers import extract_answer
from experts.cards import ExpertCard
from experts.values import Call, Completion, Delta, Message, Query, Usage
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config
from orchestrator.decision import Decision
from orchestrator.drivers.durable import checkpoints, run_durable
from orchestrator.drivers.live import run_live
from orchestrator.drivers.run import Run
from orchestrator.ledger import Ledger
from orchestrator.queries import new_query_id
from orchestrator.records import decision_row
from orchestrator.runs.frozen import decision_state
from orchestrator.runs.runs import Runs
from orchestrator.runs.store import new_run_id
from orchestrator.strategies.asking import ask
from routers.plans import Plan
from skills.embedders import make_embedder

GOAL_S = 0.0002
"""Of a step, live."""
N_WARM_UP = 5
N_PASSES = 5
"""Of each question, after a first one."""
PLANS = {
    "single": Plan.of("single"),
    "cascade": Plan.of("cascade", stop_at=0.99),
    "compose": Plan.of("compose", sequence=0),
    "vote of 5": Plan.of("vote", n=5),
    "recruit 3": Plan.of("recruit", k=3),
}
FLOOR, DURABLE = "asyncio alone", "cascade, durable"
_FLOOR_STEPS = 3
_WHOLE, _NO_LEDGER, _ALONE = "whole", "no ledger", "strategy alone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """One contestant; seconds are of the processor, a step."""

    name: str
    n: int
    """Questions."""
    n_steps: int
    n_calls: int
    cpu_p50_s: float
    """Median over questions of the median of each one's passes but the first."""
    cpu_p50_interval_s: tuple[float, float]
    """95 %, from order statistics."""
    cpu_p95_s: float
    cpu_cold_p50_s: float
    """Of the first passes."""
    strategy_s: float | None = None
    """Its part, and what the next two add to it: medians of differences on the same question."""
    driver_s: float | None = None
    ledger_s: float | None = None
    goal_s: float | None = None


class Instant:
    """An expert that answers at once, and knows what that took."""

    def __init__(self, card: ExpertCard) -> None:
        self._card = card
        self.cpu_s, self.n_calls = 0.0, 0

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        return self.answers(calls)

    def answers(self, calls: Sequence[Call]) -> list[Completion]:
        """At once."""
        started = time.process_time()
        done = [self._answer(call) for call in calls]
        self.n_calls += len(calls)
        self.cpu_s += time.process_time() - started
        return done

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        """Never asked for here."""
        yield self._answer(call)

    def _answer(self, call: Call) -> Completion:
        # No two say the same, so no strategy stops early because they agree.
        text = f"{call.arm.expert} {call.sample}"
        usage = Usage(input_tokens=20, output_tokens=4)
        return Completion(
            call=call,
            text=text,
            answer=extract_answer(text),
            usage=usage,
            cost_usd=self._card.prices.cost_usd(usage),
            latency_s=0.01,
            logprob=-6.0,
        )


def run_bench(n: int, *, seed: int = 0) -> list[Overhead]:
    """Measure on ``n`` questions."""
    with tempfile.TemporaryDirectory(prefix="conclave-overhead-") as name:
        return asyncio.run(_Bench(Path(name)).run(n, seed))


Follow = Callable[[Decision], Awaitable[int]]
"""Follow a decision to its answer; the number of its steps."""
Way = tuple[str, str]
"""A contestant: what is followed, and how."""


@dataclass(frozen=True, slots=True)
class _Spent:
    """On one question, once."""

    cpu_s: float
    """A step."""
    n_steps: int
    n_calls: int


class _Bench:
    def __init__(self, folder: Path) -> None:
        self._config = Config(data_dir=folder)
        self._ledger = Ledger(self._config.ledger_path)
        shipped = Conclave.shipped(self._config, ledger=self._ledger)
        self._experts = {card.name: Instant(card) for card in shipped.pool.cards}
        self._conclave = Conclave(
            self._experts,
            self._ledger,
            embedder=make_embedder(self._config.embedder),
            fitted=shipped.fitted,
            policies=DEFAULT_POLICIES,
            host_usd_per_s=self._config.host_usd_per_s,
        )
        self._versions = self._conclave.pool.versions

    async def run(self, n: int, seed: int) -> list[Overhead]:
        asked = self._decisions(n + N_WARM_UP, seed)
        rng = np.random.default_rng(seed)
        ways = [(plan, how) for plan in PLANS for how in (_WHOLE, _NO_LEDGER, _ALONE)]
        ways += [(FLOOR, _WHOLE), (DURABLE, _WHOLE)]
        told: dict[Way, list[list[_Spent]]] = {way: [] for way in ways}
        with self._ledger, Runs(self._conclave, self._config) as runs:
            async with checkpoints(runs.store.checkpoints) as saver:
                for i, decision in enumerate(asked):
                    for j in rng.permutation(len(ways)):
                        passes = await self._passes(decision, ways[j], runs, saver)
                        if i >= N_WARM_UP:
                            told[ways[j]].append(passes)
        return [
            *(_overhead(p, *(told[p, how] for how in (_WHOLE, _NO_LEDGER, _ALONE))) for p in PLANS),
            *(_overhead(name, told[name, _WHOLE]) for name in (FLOOR, DURABLE)),
        ]

    async def _passes(self, decision: Decision, way: Way, runs: Runs, saver: Any) -> list[_Spent]:
        """The first one, and as many as count."""
        name, how = way
        plan, follow = PLANS.get(name, PLANS["cascade"]), self._follower(name, how, runs, saver)
        planned = [self._planned(decision, plan) for _ in range(1 + N_PASSES)]
        return [await self._timed(follow, one) for one in planned]

    def _decisions(self, n: int, seed: int) -> list[Decision]:
        questions = lab_questions(-(-n // 10), "val", held_out_wording=True, seed=seed)
        drawn = np.random.default_rng(seed).permutation(len(questions))[:n]
        queries = [
            Query(
                query_id=new_query_id(),
                messages=(Message(role="user", content=questions[i].question),),
                fallback_price_usd=10.0,  # a strategy that may stop early would have fewer steps
            )
            for i in drawn
        ]
        return self._conclave.decide(queries, "conclave")

    def _planned(self, decision: Decision, plan: Plan) -> Decision:
        """The same, of another query id and with this plan; what a door records before is there."""
        assert decision.choice is not None  # noqa: S101 - a policy was asked
        query = replace(decision.query, query_id=new_query_id())
        planned = replace(
            decision,
            decision_id=f"dec-{query.query_id}",
            query=query,
            choice=replace(decision.choice, plan=plan),
        )
        self._ledger.add_decisions([query], [decision_row(planned)], source="bench")
        return planned

    def _follower(self, name: str, how: str, runs: Runs, saver: Any) -> Follow:
        if name == DURABLE:
            return lambda decision: self._durable(decision, runs, saver)
        if name == FLOOR:
            return self._floor
        if how == _ALONE:
            return self._alone
        return lambda decision: self._live(decision, keeps=how == _WHOLE)

    async def _live(self, decision: Decision, *, keeps: bool) -> int:
        n_steps = 0

        def on_asked(calls: Sequence[Call]) -> None:
            nonlocal n_steps
            n_steps += 1

        def record(completions: Sequence[Completion]) -> None:
            if keeps:
                ids = [decision.decision_id] * len(completions)
                self._ledger.add_calls(completions, ids, versions=self._versions)

        run = self._conclave.run_of(decision)
        await run_live(run, self._experts, record, on_asked=on_asked)
        return n_steps

    async def _alone(self, decision: Decision) -> int:
        run, n_steps = self._conclave.run_of(decision), 0
        while run.answer is None:
            n_steps += 1
            run.send([self._experts[c.arm.expert].answers([c])[0] for c in run.pending])
        return n_steps

    async def _floor(self, decision: Decision) -> int:
        calls = [ask(decision.query, self._conclave.pool.arms[0])]
        expert = self._experts[calls[0].arm.expert]
        for _ in range(_FLOOR_STEPS):
            await asyncio.create_task(expert.complete(calls))
        return _FLOOR_STEPS

    async def _durable(self, decision: Decision, runs: Runs, saver: Any) -> int:
        n_steps, run_id = 0, new_run_id()
        runs.store.add(run_id, decision_state(decision))

        def opened() -> Run:
            run = self._conclave.run_of(decision)
            send = run.send

            def counted(completions: Sequence[Completion]) -> None:
                nonlocal n_steps
                n_steps += 1
                send(completions)

            run.send = counted  # type: ignore[method-assign]
            return run

        await run_durable(replace(runs.durable(run_id, decision), open=opened), saver)
        return n_steps

    async def _timed(self, follow: Follow, decision: Decision) -> _Spent:
        """Processor seconds of all threads outside of experts."""
        experts = self._experts.values()
        cpu_s, n_calls = sum(e.cpu_s for e in experts), sum(e.n_calls for e in experts)
        started = time.process_time()
        n_steps = await follow(decision)
        spent_s = time.process_time() - started - (sum(e.cpu_s for e in experts) - cpu_s)
        n_made = sum(e.n_calls for e in experts) - n_calls
        return _Spent(spent_s / n_steps, n_steps, n_made)


def _overhead(
    name: str,
    whole: Sequence[Sequence[_Spent]],
    no_ledger: Sequence[Sequence[_Spent]] = (),
    alone: Sequence[Sequence[_Spent]] = (),
) -> Overhead:
    """Of each question all its passes."""
    warm, n = _warm(whole), len(whole)
    a_step = np.sort(warm)
    # Ranks of the interval of a median: binomial, by its normal approximation.
    half = Z95 * np.sqrt(n) / 2
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(n / 2 + half))
    parts = {}
    if alone:
        parts = {
            "strategy_s": float(np.median(_warm(alone))),
            "driver_s": float(np.median(_warm(no_ledger) - _warm(alone))),
            "ledger_s": float(np.median(warm - _warm(no_ledger))),
        }
    return Overhead(
        name=name,
        n=n,
        n_steps=sum(passes[0].n_steps for passes in whole),
        n_calls=sum(passes[0].n_calls for passes in whole),
        cpu_p50_s=float(np.median(a_step)),
        cpu_p50_interval_s=(float(a_step[low]), float(a_step[high])),
        cpu_p95_s=float(np.quantile(a_step, 0.95)),
        cpu_cold_p50_s=float(np.median([passes[0].cpu_s for passes in whole])),
        goal_s=GOAL_S if alone else None,
        **parts,
    )


def _warm(told: Sequence[Sequence[_Spent]]) -> np.ndarray:
    """(n_questions,) seconds a step, the median of each question's passes but the first."""
    return np.array([np.median([one.cpu_s for one in passes[1:]]) for passes in told])
