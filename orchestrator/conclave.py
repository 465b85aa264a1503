"""Conclave itself: experts, router, policies and ledger put together.

One object answers for every door (REST, CLI, MCP, batch): decide, run the strategy with a driver,
record every call as it happens and every decision with its reasons. What is known is in
``knowledge``, who is asked is decided in ``deciding``, and decisions become strategies in
``opening``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import cast

from experts.errors import DataError, NotFitted, UnknownDecision
from experts.expert import Expert, Pool
from experts.values import Completion, Delta, Query
from orchestrator.answer import Answer
from orchestrator.config import Config, ExplorationSettings, LearningSettings, PolicySettings
from orchestrator.conversations import Conversations
from orchestrator.deciding import Decider
from orchestrator.decision import Decision, Result
from orchestrator.drivers.calling import Recorder
from orchestrator.drivers.live import OnAsked, run_live, stream_live
from orchestrator.drivers.run import Recall, Run
from orchestrator.drivers.till import NO_TILL, Till
from orchestrator.drivers.wave import Helping, MayAsk, run_waves
from orchestrator.fitted import Fitted
from orchestrator.intake import Intake
from orchestrator.keywords import KeywordStep
from orchestrator.knowledge import Changed, Knowledge
from orchestrator.learning.exploring import Explorer
from orchestrator.learning.learner import Learner
from orchestrator.ledger import Ledger
from orchestrator.metrics.meters import NAMED, Meters
from orchestrator.named_plans import check_named_plans
from orchestrator.opening import Opener
from orchestrator.pool import make_experts
from orchestrator.recalling import recall_from
from orchestrator.records import answer_row, decision_row
from orchestrator.states import Load, StateSource, load_fitted, load_shipped
from routers.policy import ABSTAIN
from skills.embedders import Embedder, make_embedder
from skills.taxonomy import Taxonomy

IN_FLIGHT = 1024
"""Queries that are worked on at a time, where many come: large enough that every expert's batches
are, small enough for memory and for what a kill can interrupt."""
IN_FLIGHT_BYTES = 64 << 20
"""Of their lines, where these come from a file: four megabytes a line are allowed."""
_BLOCK = 256
"""Queries that are decided about together, so that the first experts need not wait for the rest."""


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
        keyword_step: KeywordStep | None = None,
        learning: LearningSettings | None = None,
        exploration: ExplorationSettings | None = None,
        changed: Changed | None = None,
    ) -> None:
        """keyword_step: whom to ask for keywords before a policy decides who answers. changed:
        asked now and then for another fitted state."""
        self.experts, self.ledger, self.embedder = experts, ledger, embedder
        self.policies, self.host_usd_per_s = policies, host_usd_per_s
        self.pool = Pool.of(experts.values())
        self._versions = self.pool.versions
        self.till: Till = NO_TILL
        """Whoever pays; a door that knows accounts puts its own here."""
        self.meters = Meters()
        self.conversations = Conversations()
        self.explorer = Explorer(exploration or ExplorationSettings(), ledger, self.pool)
        self.knowledge = Knowledge(
            fitted,
            ledger,
            versions=self._versions,
            embed=embedder.embed,
            settings=learning or LearningSettings(),
            changed=changed,
        )
        self.decider = Decider(
            experts=experts,
            pool=self.pool,
            knowledge=self.knowledge,
            ledger=ledger,
            conversations=self.conversations,
            policies=policies,
            embed=embedder.embed,
            host_usd_per_s=host_usd_per_s,
            counts=self.explorer.is_on,
        )
        self.opener = Opener(self.decider, keyword_step)

    @classmethod
    def from_config(cls, config: Config, *, ledger: Ledger | None = None) -> Conclave:
        """Everything from configuration; an unfitted pool still answers by expert name."""
        return cls._made(config, load_fitted, ledger or Ledger(config.ledger_path), learns=True)

    @classmethod
    def shipped(cls, config: Config, *, ledger: Ledger) -> Conclave:
        """Like ``from_config``, with the shipped fitted state, whatever the owner has fitted, and
        whatever was learned since."""
        return cls._made(config, load_shipped, ledger, learns=False)

    @classmethod
    def _made(cls, config: Config, load: Load, ledger: Ledger, *, learns: bool) -> Conclave:
        experts = make_experts(config)
        pool, embedder = Pool.of(experts.values()), make_embedder(config.embedder)
        states = StateSource(config, pool, embedder, load)
        fitted = states.now()
        known = fitted if isinstance(fitted, Fitted) else None
        check_named_plans(config.all_policies, pool, known)
        return cls(
            experts,
            ledger,
            embedder=embedder,
            fitted=fitted,
            policies=config.all_policies,
            host_usd_per_s=config.host_usd_per_s,
            keyword_step=_keyword_step(config, pool, known, embedder),
            learning=config.learning if learns else LearningSettings(enabled=False),
            exploration=config.exploration if learns else None,
            changed=states.changed if learns else None,
        )

    # What is known.

    @property
    def fitted(self) -> Fitted | NotFitted:
        """The state in use, or why there is none. It can be set: see ``Knowledge.fitted``."""
        return self.knowledge.fitted

    @fitted.setter
    def fitted(self, fitted: Fitted | NotFitted) -> None:
        self.knowledge.fitted = fitted

    @property
    def learner(self) -> Learner | None:
        """What was learned since the fit; None where nothing is fitted."""
        return self.knowledge.learner

    def learn(self) -> None:
        """See ``Knowledge.learn``: not on the event loop."""
        self.knowledge.learn()

    def require_fitted(self) -> Fitted:
        """Raises NotFitted with the reason, and who can be asked all the same."""
        return self.decider.require_learner().fitted

    # Deciding.

    def check(self, query: Query, target: str) -> None:
        """See ``Decider.check``."""
        self.decider.check(query, target)

    def decide(self, queries: Sequence[Query], target: str) -> list[Decision]:
        """See ``Decider.decide``."""
        return self.decider.decide(queries, target)

    def route(self, query: Query, target: str, *, source: str) -> Decision:
        """Decide about one query and record it, without asking anyone."""
        return self._opened([query], target, source)[0]

    async def _decided(
        self, query: Query, target: str, source: str, recalls_since_s: float | None
    ) -> Decision:
        decide = partial(self._route_to_answer, query, target, source, recalls_since_s)
        if target in self.experts and recalls_since_s is None:
            return decide()  # nothing to compute: a thread would be most of the work
        # Embedding a question is milliseconds of computing: not on the event loop.
        return await asyncio.to_thread(decide)

    def _route_to_answer(
        self, query: Query, target: str, source: str, recalls_since_s: float | None
    ) -> Decision:
        """As ``route``; it may become an exploration. Not where calls may have been paid already by
        a process that was killed: exploring now what was not explored then would pay twice."""
        is_new = recalls_since_s is None
        return self._opened([query], target, source, may_explore=is_new, are_new=is_new)[0]

    # Answering.

    async def answer(
        self,
        query: Query,
        target: str,
        *,
        source: str,
        recalls_since_s: float | None = None,
        on_decision: Callable[[Decision], None] = lambda decision: None,
        on_asked: OnAsked = lambda calls: None,
        on_calls: Recorder = lambda completions: None,
    ) -> Result:
        """Decide and answer one query. on_decision: told before anyone is asked. on_asked: as
        ``run_live``. recalls_since_s, on_calls: as ``answer_each``."""
        started = time.perf_counter()
        decision = await self._decided(query, target, source, recalls_since_s)
        on_decision(decision)
        run = self.run_of(decision, self._recall([query], recalls_since_s))
        to_ledger = self._recorder(decision)

        def record(completions: Sequence[Completion]) -> None:
            to_ledger(completions)
            on_calls(completions)

        answer = await run_live(run, self.experts, record, on_asked=on_asked, till=self.till)
        return self._closed(decision, answer, started)

    async def stream(
        self, query: Query, target: str, *, source: str, recalls_since_s: float | None = None
    ) -> AsyncGenerator[Delta | Result]:
        """Deltas of the answer, then the result. Closing the iterator frees all work.
        recalls_since_s: as ``answer_each``."""
        started = time.perf_counter()
        decision = await self._decided(query, target, source, recalls_since_s)
        run = self.run_of(decision, self._recall([query], recalls_since_s))
        pieces = stream_live(run, self.experts, self._recorder(decision), till=self.till)
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
        in_flight_bytes: float = math.inf,
        n_bytes_of: Callable[[Query], int] = lambda query: 0,
        may_ask: MayAsk = lambda calls: True,
        on_calls: Recorder = lambda completions: None,
        recalls_since_s: float | None = None,
    ) -> AsyncGenerator[Result]:
        """Results as they come of queries with their targets, taken from ``asked`` (in a thread)
        as there is room: however many there are, ``in_flight`` are in memory, of
        ``in_flight_bytes`` together (``n_bytes_of`` each), and one that is larger goes alone.

        may_ask: see ``run_waves``; a query that is held back to the end has no result. on_calls:
        told of every completion after the ledger. recalls_since_s: calls that the ledger has of a
        query of that id, since that time (Unix seconds) and of the weights that the pool has now,
        are not made again; None makes all. Closing the iterator stops the experts; what they spent
        is recorded. Two queries must not have one id.
        """
        coming = Intake(asked, lambda item: n_bytes_of(item[0]))
        opened: dict[Run, tuple[Decision, float]] = {}
        n_bytes: dict[Run, int] = {}
        decision_of: dict[str, str] = {}

        def open_next(n: int, room: float) -> tuple[list[tuple[Decision, Run]], bool]:
            taken, is_last = coming.take(min(n, _BLOCK), room, at_least=not opened)
            return self._open_block(taken, source, recalls_since_s), is_last

        async def more(n: int) -> Helping:
            started = time.perf_counter()
            room = in_flight_bytes - sum(n_bytes.values())
            if opened and room < in_flight_bytes / 4:  # in large helpings, as by number
                return Helping((), is_last=False)
            # Embedding is milliseconds a question: not on the event loop.
            work = asyncio.create_task(asyncio.to_thread(open_next, n, room))
            try:
                block, is_last = await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])  # a thread cannot be cancelled, and it uses the ledger
                raise
            for decision, run in block:
                opened[run] = decision, started
                n_bytes[run] = n_bytes_of(decision.query)
                decision_of[decision.query.query_id] = decision.decision_id
            return Helping([run for _, run in block], is_last)

        def record(completions: Sequence[Completion]) -> None:
            self._record(completions, decision_of)
            on_calls(completions)

        runs = run_waves(
            more, self.experts, record, in_flight=in_flight, may_ask=may_ask, till=self.till
        )
        async with aclosing(runs):
            async for answered in runs:
                results = []
                for run in answered:
                    decision, started = opened.pop(run)
                    del n_bytes[run]
                    del decision_of[decision.query.query_id]
                    results.append(_result(decision, cast(Answer, run.answer), started))
                self.ledger.record_answers([answer_row(result) for result in results])
                for result in results:
                    yield result

    def _open_block(
        self, asked: Sequence[tuple[Query, str]], source: str, recalls_since_s: float | None
    ) -> list[tuple[Decision, Run]]:
        """Decide about queries of several targets; their runs, in any order."""
        by_target: dict[str, list[Query]] = {}
        for query, target in asked:
            by_target.setdefault(target, []).append(query)
        recall = self._recall([query for query, _ in asked], recalls_since_s)
        self.learn()
        may_explore = recalls_since_s is None
        return [
            (decision, self.run_of(decision, recall))
            for target, queries in by_target.items()
            for decision in self._opened(queries, target, source, may_explore=may_explore)
        ]

    def _opened(
        self,
        queries: Sequence[Query],
        target: str,
        source: str,
        *,
        may_explore: bool = False,
        are_new: bool = False,
    ) -> list[Decision]:
        """are_new: no query of theirs can be in the ledger."""
        for query in queries:
            self.check(query, target)
        decisions = self.decide(queries, target)
        if may_explore and self.decider.may_explore(target):
            decisions = [self.explorer.considered(d) for d in decisions]
        add = self.ledger.record_decisions if are_new else self.ledger.add_decisions
        add(queries, [decision_row(d) for d in decisions], source=source)
        for decision in decisions:
            choice = decision.choice
            policy, strategy = (decision.policy, choice.plan.strategy) if choice else NAMED
            self.meters.decided(policy, strategy, decision.router_cost_usd)
            self.till.charge(decision.query.account, decision.router_cost_usd)
        return decisions

    def run_of(
        self, decision: Decision, recall: Recall | None = None, *, keywords_first: bool = True
    ) -> Run:
        """See ``Opener.run_of``."""
        return self.opener.run_of(decision, recall, keywords_first=keywords_first)

    def _recall(self, queries: Sequence[Query], since_s: float | None) -> Recall | None:
        """None where nothing is to be recalled."""
        if since_s is None:
            return None
        return recall_from(self.ledger, queries, since_s=since_s, versions=self._versions)

    def _closed(self, decision: Decision, answer: Answer, started: float) -> Result:
        result = _result(decision, answer, started)
        self.ledger.record_answers([answer_row(result)])
        self.conversations.answered(decision.query, result.answer)
        return result

    def _recorder(self, decision: Decision) -> Recorder:
        decision_of = {decision.query.query_id: decision.decision_id}
        return lambda completions: self._record(completions, decision_of)

    def _record(self, completions: Sequence[Completion], decision_of: Mapping[str, str]) -> None:
        self.meters.called(completions)
        self.ledger.record_calls(
            completions,
            [decision_of[c.call.query_id] for c in completions],
            versions=self._versions,
        )

    def feedback(
        self, decision_id: str, verdict: float, comment: str | None, *, caller: str = ""
    ) -> None:
        """Record whether an answer was right, and learn of it. Blocks on the ledger.

        verdict: in [0, 1]. caller: digest of who says so. Raises UnknownDecision, and
        sqlite3.OperationalError where the ledger cannot be written now.
        """
        if not self.ledger.add_feedback(decision_id, verdict, comment, caller=caller):
            raise UnknownDecision(decision_id)
        self.learn()


def _result(decision: Decision, answer: Answer, started: float) -> Result:
    if answer.abstained and decision.choice and decision.choice.plan == ABSTAIN:
        answer = replace(answer, notes=(decision.choice.reason,))
    decision = answer.decision or decision
    return Result(decision=decision, answer=answer, latency_s=time.perf_counter() - started)


def _keyword_step(
    config: Config, pool: Pool, fitted: Fitted | None, embedder: Embedder
) -> KeywordStep | None:
    if config.keywords is None or not config.keywords.first_step:
        return None
    pool.card(config.keywords.expert)  # raises with the nearest names
    if fitted is None:
        return None
    return KeywordStep(
        settings=config.keywords,
        skills=fitted.router.annotator_.skills,
        taxonomy=Taxonomy.load(config.taxonomy),
        embedder=embedder,
    )
