"""Conclave itself: experts, router, policies and ledger put together.

One object answers for every door (REST, CLI, batch): decide, run the strategy with a driver, record
every call as it happens and every decision with its reasons.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np

from experts.cards import ExpertCard
from experts.errors import (
    ContextTooLong,
    DataError,
    ExpertFailure,
    LimitReached,
    NotFitted,
    UnknownExpert,
    UserError,
)
from experts.expert import Expert, LoadingExpert, Pool, ReplaceableExpert
from experts.values import Arm, Call, Completion, Delta, Query
from orchestrator.answer import Answer
from orchestrator.config import Config, PolicySettings
from orchestrator.decision import Decision, Result
from orchestrator.drivers.calling import Recorder
from orchestrator.drivers.live import run_live, stream_live
from orchestrator.drivers.run import Recall, Run
from orchestrator.drivers.wave import MayAsk, run_waves
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.pool import make_experts
from orchestrator.records import answer_row, decision_row
from orchestrator.strategies import make_strategy
from orchestrator.strategies.single import only
from routers.loads import Load, share_loads
from routers.policy import choose_plan
from skills.embedders import Embedder, make_embedder

IN_FLIGHT = 1024
"""Queries that are worked on at a time, where many come: large enough that every expert's batches
are, small enough for memory and for what a kill can interrupt."""
_BLOCK = 256
"""Queries that are decided about together, so that the first experts need not wait for the rest."""
_LOAD_BYTES_PER_S = 1e9
"""Of a model that was never loaded here: about what a disk of a cloud machine reads."""
SHIPPED_STATE = Path(__file__).parent.parent / "routers" / "bundled"


class Conclave:
    """Answers queries with the pool, and keeps the books."""

    def __init__(
        self,
        experts: Mapping[str, Expert],
        ledger: Ledger,
        *,
        embedder: Embedder,
        fitted: Fitted | NotFitted,
        policies: Mapping[str, PolicySettings],
        host_usd_per_s: float,
    ) -> None:
        self.experts, self.ledger, self.embedder = experts, ledger, embedder
        self.fitted, self.policies = fitted, policies
        self.host_usd_per_s = host_usd_per_s
        self.pool = Pool.of(experts.values())

    @classmethod
    def from_config(cls, config: Config, *, ledger: Ledger | None = None) -> Conclave:
        """Everything from configuration; an unfitted pool still answers by expert name."""
        return cls._made(config, load_fitted, ledger or Ledger(config.ledger_path))

    @classmethod
    def shipped(cls, config: Config, *, ledger: Ledger) -> Conclave:
        """Like ``from_config``, with the shipped fitted state, whatever the owner has fitted."""

        def load(config: Config, pool: Pool, embedder: Embedder) -> Fitted:
            return Fitted.load(SHIPPED_STATE, pool, embedder.name)

        return cls._made(config, load, ledger)

    @classmethod
    def _made(
        cls, config: Config, load: Callable[[Config, Pool, Embedder], Fitted], ledger: Ledger
    ) -> Conclave:
        experts = make_experts(config)
        embedder = make_embedder(config.embedder)
        try:
            loaded = load(config, Pool.of(experts.values()), embedder)
            fitted: Fitted | NotFitted = (
                loaded if config.shortcut else replace(loaded, shortcut=None)
            )
        except NotFitted as reason:
            fitted = reason
        return cls(
            experts,
            ledger,
            embedder=embedder,
            fitted=fitted,
            policies=config.all_policies,
            host_usd_per_s=config.host_usd_per_s,
        )

    # Deciding.

    def decide(self, queries: Sequence[Query], target: str) -> list[Decision]:
        """A decision for each query, taken together; ``target`` is a policy or an expert, as
        ``check`` has found.

        The time it takes is charged to the queries in equal parts.
        """
        if target in self.experts:
            return [
                Decision(
                    decision_id=_new_id("dec"), query=q, policy=target, choice=None, scores=None
                )
                for q in queries
            ]
        fitted = self.require_fitted()
        started = time.perf_counter()
        n_chars = np.array([sum(len(m.content) for m in q.messages) for q in queries])
        scores = fitted.score([q.text for q in queries], n_chars, self.embedder.embed)
        prices_usd = [q.fallback_price_usd for q in queries]
        shares = share_loads(scores, prices_usd, self._loads_to_come())
        may_stand_in = self._may_stand_in()
        chosen = []
        for i, query in enumerate(queries):
            row = scores.row(i).allowed(query.limits.experts)
            # Limits are on tokens' dollars, so they are looked at before loads are added.
            row = row.affordable(query.limits.max_cost_usd).with_loads(shares[i])
            row = replace(row, may_stand_in=may_stand_in)
            chosen.append((query, row, choose_plan(query, row, fitted.outlooks)))
        router_s = (time.perf_counter() - started) / len(queries)
        return [
            Decision(
                decision_id=_new_id("dec"),
                query=query,
                policy=target,
                choice=choice,
                scores=row,
                router_cost_usd=router_s * self.host_usd_per_s,
                router_s=router_s,
            )
            for query, row, choice in chosen
        ]

    def _loads_to_come(self) -> dict[str, Load]:
        """Of experts that are not loaded."""
        loads = {}
        for name, expert in self.experts.items():
            outlook = expert.load_outlook() if isinstance(expert, LoadingExpert) else None
            if outlook is not None:
                load_s = outlook.load_s
                if load_s is None:
                    load_s = self._recorded_load_s(expert.card)
                loads[name] = Load(
                    outlook=outlook, load_s=load_s, usd_per_s=expert.card.prices.load_usd_per_s
                )
        return loads

    def _may_stand_in(self) -> dict[str, frozenset[str]]:
        """By expert, who can answer in its place."""
        return {
            name: expert.stand_ins
            for name, expert in self.experts.items()
            if isinstance(expert, ReplaceableExpert) and expert.stand_ins
        }

    def _recorded_load_s(self, card: ExpertCard) -> float:
        """The quickest of the last loads, or what reading its bytes takes."""
        # The first load of a process pays for imports of seconds, which are not that expert's.
        recorded = self.ledger.load_times_s(card.name, card.version)
        return min(recorded, default=(card.memory_bytes or 0) / _LOAD_BYTES_PER_S)

    def route(self, query: Query, target: str, *, source: str) -> Decision:
        """Decide about one query and record it, without asking anyone."""
        return self._opened([query], target, source)[0]

    # Answering.

    async def answer(
        self, query: Query, target: str, *, source: str, recalls: bool = False
    ) -> Result:
        """Decide and answer one query. recalls: as ``answer_each``."""
        started = time.perf_counter()
        # Embedding a question is milliseconds of computing: not on the event loop.
        decision = await asyncio.to_thread(self.route, query, target, source=source)
        run = self._run(decision, self._recall([query]) if recalls else None)
        answer = await run_live(run, self.experts, self._recorder(decision))
        return self._closed(decision, answer, started)

    async def stream(
        self, query: Query, target: str, *, source: str, recalls: bool = False
    ) -> AsyncGenerator[Delta | Result]:
        """Deltas of the answer, then the result. Closing the iterator frees all work. recalls: as
        ``answer_each``."""
        started = time.perf_counter()
        decision = await asyncio.to_thread(self.route, query, target, source=source)
        run = self._run(decision, self._recall([query]) if recalls else None)
        pieces = stream_live(run, self.experts, self._recorder(decision))
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if isinstance(piece, Answer):
                    yield self._closed(decision, piece, started)
                else:
                    yield piece

    async def answer_many(
        self,
        queries: Sequence[Query],
        target: str,
        *,
        source: str,
        on_progress: Callable[[int], None] = lambda n_answered: None,
    ) -> list[Result]:
        """Decide and answer many queries in waves; results in the queries' order."""
        if len({q.query_id for q in queries}) < len(queries):
            raise DataError("Two queries have one id; the ledger could not tell their calls apart.")
        for query in queries:
            self.check(query, target)
        asked = ((query, target) for query in queries)
        results: dict[str, Result] = {}
        answers = self.answer_each(asked, source=source, in_flight=max(1, len(queries)))
        async with aclosing(answers):
            async for result in answers:
                results[result.decision.query.query_id] = result
                on_progress(len(results))
        return [results[query.query_id] for query in queries]

    async def answer_each(
        self,
        asked: Iterable[tuple[Query, str]],
        *,
        source: str,
        in_flight: int = IN_FLIGHT,
        may_ask: MayAsk = lambda calls: True,
        on_calls: Recorder = lambda completions: None,
        recalls: bool = False,
    ) -> AsyncGenerator[Result]:
        """Results as they come of queries with their targets, taken from ``asked`` (in a thread)
        as there is room: however many there are, ``in_flight`` are in memory.

        may_ask: see ``run_waves``; a query that is held back to the end has no result. on_calls:
        told of every completion after the ledger. recalls: calls that the ledger has of a query of
        that id, of the weights that the pool has now, are not made again. Closing the iterator
        stops the experts; what they spent is recorded. Two queries must not have one id.
        """
        coming = iter(asked)
        opened: dict[Run, tuple[Decision, float]] = {}
        decision_of: dict[str, str] = {}

        def open_next(n: int) -> list[tuple[Decision, Run]]:
            return self._open_block(list(islice(coming, min(n, _BLOCK))), source, recalls)

        async def more(n: int) -> list[Run]:
            started = time.perf_counter()
            # Embedding is milliseconds a question: not on the event loop.
            work = asyncio.create_task(asyncio.to_thread(open_next, n))
            try:
                block = await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])  # a thread cannot be cancelled, and it uses the ledger
                raise
            for decision, run in block:
                opened[run] = decision, started
                decision_of[decision.query.query_id] = decision.decision_id
            return [run for _, run in block]

        def record(completions: Sequence[Completion]) -> None:
            self._record(completions, decision_of)
            on_calls(completions)

        runs = run_waves(more, self.experts, record, in_flight=in_flight, may_ask=may_ask)
        async with aclosing(runs):
            async for answered in runs:
                results = []
                for run in answered:
                    decision, started = opened.pop(run)
                    del decision_of[decision.query.query_id]
                    results.append(_result(decision, cast(Answer, run.answer), started))
                self.ledger.add_answers([answer_row(result) for result in results])
                for result in results:
                    yield result

    def check(self, query: Query, target: str) -> None:
        """Raises UserError for a query that cannot be asked of this pool, before anything is
        recorded or paid: an unknown target, experts that are unknown or forbid it, a policy while
        nothing is fitted."""
        if target not in self.experts:
            if target not in self.policies:
                raise UnknownExpert(
                    target, [*self.policies, *self.experts], what="model (policy or expert)"
                )
            self.require_fitted()
        self._check_extra(query, target)
        allowed = query.limits.experts
        for name in allowed or ():
            self.pool.card(name)  # raises with the nearest names
        if allowed and target in self.experts and target not in allowed:
            raise LimitReached(
                f"The model is the expert {target!r}, but only {', '.join(sorted(allowed))} may be "
                "asked. Name one of these, or a policy such as conclave."
            )

    def _check_extra(self, query: Query, target: str) -> None:
        """Fields that only some experts take are refused by name, never dropped in silence."""
        takes = self.pool.card(target).takes if target in self.experts else frozenset[str]()
        for name, _ in query.sampling.extra:
            if name not in takes:
                who = [card.name for card in self.pool.cards if name in card.takes]
                kinds = "openai and litellm may, of kind vllm unless they have `guided: false`"
                advice = (
                    f"Name one of these as the model: {', '.join(who)}."
                    if who
                    else f"No expert here takes it (those of kind {kinds})."
                )
                raise UserError(f"{name}: is not supported by {target!r}; leave it out. {advice}")

    def _open_block(
        self, asked: Sequence[tuple[Query, str]], source: str, recalls: bool
    ) -> list[tuple[Decision, Run]]:
        """Decide about queries of several targets; their runs, in any order."""
        by_target: dict[str, list[Query]] = {}
        for query, target in asked:
            by_target.setdefault(target, []).append(query)
        recall = self._recall([query for query, _ in asked]) if recalls else None
        return [
            (decision, self._run(decision, recall))
            for target, queries in by_target.items()
            for decision in self._opened(queries, target, source)
        ]

    def _opened(self, queries: Sequence[Query], target: str, source: str) -> list[Decision]:
        for query in queries:
            self.check(query, target)
        decisions = self.decide(queries, target)
        self.ledger.add_decisions(queries, [decision_row(d) for d in decisions], source=source)
        return decisions

    def _recall(self, queries: Sequence[Query]) -> Recall:
        """What the ledger has of these queries' calls, of the weights that the pool has now."""
        versions = self.pool.versions
        known = {
            _identity(_as_asked(recorded.completion)): recorded.completion
            for recorded in self.ledger.completions_of([q.query_id for q in queries])
            if versions.get(recorded.completion.call.arm.expert) == recorded.version
        }

        def recall(call: Call) -> Completion | None:
            found = known.get(_identity(call))
            return found and replace(found, call=replace(call, arm=found.call.arm))

        return recall

    def _run(self, decision: Decision, recall: Recall | None = None) -> Run:
        query = decision.query
        recall = recall or (lambda call: None)
        if decision.choice is None or decision.scores is None:
            return Run(only(query, Arm(decision.policy)), query.limits, self.pool, recall)
        fitted = self.require_fitted()
        strategy = make_strategy(decision.choice.plan, fitted.confidence.p_right, fitted.composer)
        return Run(strategy(query, decision.scores, self.pool), query.limits, self.pool, recall)

    def _closed(self, decision: Decision, answer: Answer, started: float) -> Result:
        result = _result(decision, answer, started)
        self.ledger.add_answers([answer_row(result)])
        return result

    def _recorder(self, decision: Decision) -> Recorder:
        decision_of = {decision.query.query_id: decision.decision_id}
        return lambda completions: self._record(completions, decision_of)

    def _record(self, completions: Sequence[Completion], decision_of: Mapping[str, str]) -> None:
        self.ledger.add_calls(
            completions,
            [decision_of[c.call.query_id] for c in completions],
            versions=self.pool.versions,
        )

    def require_fitted(self) -> Fitted:
        """Raises NotFitted with the reason, and who can be asked all the same."""
        if isinstance(self.fitted, NotFitted):
            raise NotFitted(
                f"{self.fitted} Until then ask an expert by name: {', '.join(self.experts)}."
            )
        return self.fitted


def load_fitted(config: Config, pool: Pool, embedder: Embedder) -> Fitted:
    """The owner's fitted state or, if the pool is the bundled one, the shipped one.

    Raises NotFitted, with what is wrong with the owner's.
    """
    try:
        return Fitted.load(config.fitted_dir, pool, embedder.name)
    except NotFitted as own:
        try:
            return Fitted.load(SHIPPED_STATE, pool, embedder.name)
        except NotFitted as shipped:
            raise NotFitted(f"{own} The shipped state does not serve: {shipped}") from None


def raise_if_failed(answer: Answer) -> None:
    """Turn an answer without text into the error that explains it; abstaining is no error."""
    if answer.succeeded or answer.abstained:
        return
    errors = [c for c in answer.completions if not c.ok]
    if not errors:
        raise LimitReached(
            f"Nobody could be asked: {'; '.join(answer.notes)}. Raise the limit, or leave it out."
        )
    if all(c.error_code == "context_too_long" for c in errors):
        raise ContextTooLong(
            "The conversation is too long for every expert that may answer: "
            + "; ".join(str(c.error) for c in errors)
            + ". Shorten it, or allow an expert with a longer context."
        )
    if all(c.error_code == "refused" for c in errors):
        raise UserError(
            "Whoever was asked refuses this request: "
            + "; ".join(f"{c.call.arm}: {c.error}" for c in errors)
            + ". Asking again will not help; change it."
        )
    raise ExpertFailure("; ".join(answer.notes) or "No expert answered.")


def _new_id(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:16]}"


def _result(decision: Decision, answer: Answer, started: float) -> Result:
    if answer.abstained and decision.choice:
        answer = replace(answer, notes=(decision.choice.reason,))
    return Result(decision=decision, answer=answer, latency_s=time.perf_counter() - started)


def _as_asked(completion: Completion) -> Call:
    """The call as it was made, whoever answered."""
    return replace(completion.call, arm=completion.asked)


def _identity(call: Call) -> tuple[str, Arm, int, float, int]:
    """What a recorded call must have in common with one that is to be made."""
    sampling = call.sampling
    return call.query_id, call.arm, call.sample, sampling.temperature, sampling.seed
