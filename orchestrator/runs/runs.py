"""Durable runs: begun, and gone on with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from experts.errors import ConclaveError, DataError, RunBusy, RunChanged
from experts.values import Query
from orchestrator.answer import Answer
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.decision import Decision, Result
from orchestrator.drivers.durable import DurableRun, Waiting, checkpoints, run_durable
from orchestrator.failures import raise_if_failed
from orchestrator.records import answer_row
from orchestrator.runs.frozen import answer_state, decision_state, read_decision
from orchestrator.runs.journal import Journal
from orchestrator.runs.people import People
from orchestrator.runs.store import FINAL, RunRow, new_run_id
from orchestrator.runs.views import RunList, RunView
from orchestrator.states import find_fitted

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

SOURCE = "runs"
_AT_ONCE = 16
"""Runs that are gone on with together."""


class _Cancelled(ConclaveError):
    """Somebody gave the run up while it was under way."""


class Runs(RunList):
    """The durable runs of a data folder, with those who can go on with them."""

    def __init__(self, conclave: Conclave, config: Config) -> None:
        super().__init__(conclave.ledger, config)
        self.conclave, self._config = conclave, config

    def start(self, query: Query, target: str) -> str:
        """Decide about a query and put it on the list; nobody is asked yet. Returns the run's id.

        Raises what ``Conclave.check`` raises.
        """
        self.conclave.check(query, target)
        decision = self.conclave.route(query, target, source=SOURCE)
        run_id = new_run_id()
        self.store.add(run_id, decision_state(decision))
        return run_id

    async def go_on(self, run_id: str) -> RunView:
        """Work on a run until it has its answer or waits for people; on one that has come to its
        end, not at all.

        Raises RunBusy while another process does, RunChanged when the run cannot be followed any
        more. Cancelling it stops the experts; going on another time is safe, and so is a kill.
        """
        async with checkpoints(self.store.checkpoints) as saver:
            await self._go_on(run_id, saver)
        return await asyncio.to_thread(self.view, run_id)

    def open_ones(self) -> list[str]:
        """Ids of runs that have not come to their end, the newest first."""
        return [row.run_id for row in self.store.all() if row.state not in FINAL]

    def ready(self) -> list[str]:
        """Ids of runs that are put down as waiting, and have nobody to wait for any more."""
        waiting = self.store.waiting()  # before the desk: a run asks before it waits
        asked = {question.run_id for question in self.desk.waiting()}
        return [run_id for run_id in waiting if run_id not in asked]

    async def go_on_with_all(self) -> tuple[list[RunView], dict[str, ConclaveError]]:
        """Every run that has not come to its end: what became of it, or why nothing could. Those
        that another process works on are left to it."""
        problems: dict[str, ConclaveError] = {}
        slots = asyncio.Semaphore(_AT_ONCE)
        open_ones = await asyncio.to_thread(self.open_ones)

        async def one(run_id: str, saver: AsyncSqliteSaver) -> None:
            async with slots:
                try:
                    await self._go_on(run_id, saver)
                except RunBusy:
                    pass
                except ConclaveError as error:
                    problems[run_id] = error

        async with checkpoints(self.store.checkpoints) as saver:
            done = await asyncio.gather(
                *(one(run_id, saver) for run_id in open_ones), return_exceptions=True
            )
        for outcome in done:
            if isinstance(outcome, BaseException):  # a full disk: when the others have ended
                raise outcome
        left = [run_id for run_id in open_ones if run_id not in problems]
        return await asyncio.to_thread(lambda: [self.view(r) for r in left]), problems

    async def _go_on(self, run_id: str, saver: AsyncSqliteSaver) -> None:
        if self.store.get(run_id).state in FINAL:
            return
        with await self.store.lease(run_id):
            row = self.store.get(run_id)  # as it is now that nobody else changes it
            if row.state in FINAL:
                self.store.change(run_id, row.state)  # for the lease's file
                return
            self.store.change(run_id, "open")
            try:
                frozen = read_decision(row.decision)
                decision = await asyncio.to_thread(self._with_state, frozen)
                outcome = await self._followed(run_id, decision, saver)
            except _Cancelled:
                await saver.adelete_thread(run_id)
                return
            except (DataError, RunChanged) as error:
                self.store.change(run_id, "open", problem=str(error))
                raise
            if outcome is not None:
                self._close(row, decision, outcome)
                await saver.adelete_thread(run_id)

    async def _followed(
        self, run_id: str, decision: Decision, saver: AsyncSqliteSaver
    ) -> Answer | None:
        """To its answer; None while it waits for people."""
        while True:
            outcome = await run_durable(self.durable(run_id, decision), saver)
            if not isinstance(outcome, Waiting):
                return outcome
            if not self.store.change(run_id, "waiting"):  # given up meanwhile
                self.desk.withdraw(outcome.question_ids)
                return None
            # Whoever answers from now on goes on with it; who did before found it busy.
            if not all(self.desk.look(i).is_settled for i in outcome.question_ids):
                return None
            self.store.change(run_id, "open")

    def _with_state(self, decision: Decision) -> Decision:
        """With the fitted state that it was taken by, if that is kept; else the run goes on with
        the one in use."""
        conclave, learner = self.conclave, self.conclave.learner
        if decision.state is None:
            return decision
        if learner and learner.state_id == decision.state:
            return replace(decision, fitted=learner.fitted)
        fitted = find_fitted(self._config, decision.state, conclave.pool, conclave.embedder)
        return replace(decision, fitted=fitted)

    def durable(self, run_id: str, decision: Decision) -> DurableRun:
        """What following a run needs."""
        conclave, settings = self.conclave, self._config.runs

        def check() -> None:
            if self.store.get(run_id).state == "cancelled":
                raise _Cancelled(run_id)

        return DurableRun(
            run_id=run_id,
            decision=decision,
            # After keywords it would be decided anew, each time that the run is followed, by what
            # is learned then, and by nobody's leave.
            open=lambda: conclave.run_of(decision, keywords_first=False),
            experts=conclave.experts,
            pool=conclave.pool,
            journal=Journal(conclave.ledger, run_id, decision.decision_id, conclave.pool),
            people=People(
                desk=self.desk,
                experts=conclave.experts,
                run_id=run_id,
                approval_usd=settings.approval_usd,
                approval_deadline_s=settings.approval_deadline_s,
            ),
            till=conclave.till,
            check=check,
        )

    def _close(self, row: RunRow, decision: Decision, answer: Answer) -> None:
        latency_s = time.time() - row.started_at
        decided = answer.decision or decision
        result = Result(decision=decided, answer=answer, latency_s=latency_s)
        # A kill may have come between this and the next line.
        if not self.conclave.ledger.has_answer(decision.decision_id):
            self.conclave.ledger.add_answers([answer_row(result)])
        try:
            raise_if_failed(answer)
        except ConclaveError as error:
            self.store.change(row.run_id, "failed", answer=answer_state(answer), problem=str(error))
        else:
            self.store.change(row.run_id, "done", answer=answer_state(answer))
