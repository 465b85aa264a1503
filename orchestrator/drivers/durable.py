"""The durable driver: LangGraph follows a strategy, with a checkpoint after every call.

A process that is killed is followed by another, which follows the strategy again: calls that came
back are taken from the ledger, and the first that did not is made. When people are to be asked, the
run is interrupted, and the process may end.

Two stores are written, so a kill can come between them. Of what was paid, only the ledger is
believed: a task of LangGraph that runs again looks there first, and its result is no more than the
call's number and digest. So a checkpoint can be lost without harm, and one that does not fit is
dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.digests import call_digest
from experts.errors import UserError
from experts.expert import Expert, Pool
from experts.human.desk import Question
from experts.values import Call, Completion, failed_completion
from orchestrator.answer import Answer, no_answer
from orchestrator.decision import Decision
from orchestrator.drivers.calling import Experts, Numbered, ask_batch
from orchestrator.drivers.run import Run
from orchestrator.drivers.till import Till
from orchestrator.runs.journal import Journal
from orchestrator.runs.people import People, is_granted

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

log = logging.getLogger(__name__)
INSTALL = "pip install 'conclave-coe[durable]'"
_LANGGRAPH = (
    "aiosqlite",
    "langgraph.checkpoint.serde.jsonplus",
    "langgraph.checkpoint.sqlite.aio",
    "langgraph.func",
    "langgraph.types",
    "langsmith",
)
"""All that is imported of it in this module, where it is used."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run can go on when these questions are settled."""

    question_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DurableRun:
    """One run, and what it needs."""

    run_id: str
    decision: Decision
    open: Callable[[], Run]
    """The strategy from its beginning, always the same."""
    experts: Experts
    pool: Pool
    journal: Journal
    people: People
    till: Till
    check: Callable[[], None]
    """Called before anybody is asked; what it raises ends the work."""


@asynccontextmanager
async def checkpoints(path: Path) -> AsyncGenerator[AsyncSqliteSaver]:
    """LangGraph's checkpoints in an SQLite file. Raises UserError where LangGraph is not installed,
    or the file is damaged."""
    try:
        await asyncio.to_thread(_load_langgraph)  # most of a second, which others would wait for
    except ImportError as error:
        raise UserError(f"Durable runs need LangGraph ({error}). Install it: {INSTALL}") from None
    import aiosqlite
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    # With no module allowed: by default it would import, and call, whatever a checkpoint names.
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    # Without transactions: LangGraph gives its writes up between their beginning and their commit
    # when a run fails, and the file would be locked for as long as anything refers to it.
    async with aiosqlite.connect(path, timeout=30, isolation_level=None) as connection:
        saver = AsyncSqliteSaver(connection, serde=serde)
        try:
            await connection.execute("PRAGMA synchronous=NORMAL")  # as the ledger
            await saver.setup()
        except sqlite3.OperationalError:
            raise  # others keep it locked, or the disk is full: it is not damaged
        except sqlite3.DatabaseError as error:
            raise _damaged(path, error) from None
        yield saver


def _load_langgraph() -> None:
    """Raises ImportError."""
    for name in _LANGGRAPH:
        importlib.import_module(name)


async def run_durable(durable: DurableRun, saver: AsyncSqliteSaver) -> Answer | Waiting:
    """Follow a run to its answer, or to where it has to wait for people.

    Raises RunChanged, before anybody is asked, when the strategy does not make the calls that are
    recorded, and what ``durable.check`` raises. Cancelling it stops the experts and records what
    they spent.
    """
    config = {"configurable": {"thread_id": durable.run_id}}
    is_begun = await _is_readable(durable.run_id, saver)
    while True:
        follower = _Follower(durable)
        with _untraced():
            try:
                told = await follower.graph(saver).ainvoke(
                    None if is_begun else durable.run_id, config, durability="sync"
                )
            except Exception as error:
                # Not the strategy's, nor the ledger's: LangGraph's own, over what it has kept.
                is_of_checkpoint = isinstance(error, _Misfit) or follower.error is None
                if not (is_begun and is_of_checkpoint):
                    raise
                told = None
        if told and (interrupts := told.get("__interrupt__")):
            return Waiting(tuple(i for one in interrupts for i in one.value["questions"]))
        if follower.answer is not None:
            return follower.answer
        # It had come to its end, or is of other calls; the answer is in the ledger's calls.
        log.info("%s: the checkpoint is of no use, the run is followed from the ledger", config)
        await saver.adelete_thread(durable.run_id)
        is_begun = False


class _Misfit(Exception):
    """A checkpoint is not of these calls."""


class _Follower:
    """One time that a strategy is followed."""

    def __init__(self, durable: DurableRun) -> None:
        self._durable = durable
        self.answer: Answer | None = None
        self.error: Exception | None = None
        """That following raised."""

    def graph(self, saver: AsyncSqliteSaver) -> Any:
        from langgraph.func import entrypoint, task

        coming: dict[int, asyncio.Future[Completion]] = {}

        @task
        async def call(seq: int, digest: str) -> dict[str, Any]:
            await coming[seq]
            return {"seq": seq, "digest": digest}

        async def completed(numbered: Sequence[tuple[int, Call]]) -> None:
            """Checkpointed, in the order of their numbers."""
            wanted = [{"seq": seq, "digest": call_digest(c)} for seq, c in numbered]
            # A call that is not awaited would go on when another fails, and be forgotten.
            found = await asyncio.gather(*(call(**one) for one in wanted), return_exceptions=True)
            for one in found:
                if isinstance(one, BaseException):
                    raise one
            if found != wanted:
                raise _Misfit

        @entrypoint(checkpointer=saver)
        async def follow(run_id: str) -> dict[str, Any]:
            try:
                return {"n_calls": await self._follow(coming, completed)}
            except Exception as error:
                self.error = error
                raise

        return follow

    async def _follow(self, coming: dict[int, asyncio.Future[Completion]], completed: Any) -> int:
        durable, n_calls = self._durable, 0
        is_begun = durable.journal.is_begun(0)
        approval = None if is_begun else durable.people.approval_of_plan(durable.decision)
        if approval is not None:
            _wait_for([approval])
            if not is_granted(approval):
                self.answer = no_answer(f"the plan was not approved ({_why(approval)})")
                return 0
        run = durable.open()
        try:
            while run.answer is None:
                numbered = list(enumerate(run.pending, n_calls))
                completions = await self._step(numbered, coming, completed)
                n_calls += len(numbered)
                run.send(completions)
        finally:
            run.close()
        durable.journal.check_end(n_calls)
        # On its bill is what earlier processes broke off, too.
        made = (*durable.journal.cut_short, *run.answer.completions)
        self.answer = replace(run.answer, completions=made)
        return n_calls

    async def _step(
        self,
        numbered: Sequence[tuple[int, Call]],
        coming: dict[int, asyncio.Future[Completion]],
        completed: Any,
    ) -> list[Completion]:
        """Completions of what a strategy wants at once, in order. Whoever is no person is asked
        first, so that nothing but people is waited for."""
        durable = self._durable
        durable.journal.check(numbered)
        declined = self._declined(numbered)
        asked = [(seq, call) for seq, call in numbered if seq not in declined]
        of_people = [(seq, call) for seq, call in asked if durable.people.is_person(call)]
        others = [(seq, call) for seq, call in asked if not durable.people.is_person(call)]
        questions = [
            durable.people.asked(call)
            for seq, call in of_people
            if durable.journal.completion(seq, call) is None
        ]
        await self._ask(others, coming, completed)
        # Others may have taken an hour; whoever answered meanwhile found the run busy.
        _wait_for([durable.people.desk.look(q.question_id) for q in questions])
        await self._ask(of_people, coming, completed)
        return [declined.get(seq) or coming[seq].result() for seq, _ in numbered]

    def _declined(self, numbered: Sequence[tuple[int, Call]]) -> dict[int, Completion]:
        """Failed completions of calls that a person does not want to be made, by number."""
        durable = self._durable
        approvals = {
            seq: approval
            for seq, call in numbered
            if not durable.journal.is_begun(seq)
            and (approval := durable.people.approval_of_call(call, durable.pool))
        }
        _wait_for(list(approvals.values()))
        return {
            seq: _not_approved(call, approvals[seq])
            for seq, call in numbered
            if seq in approvals and not is_granted(approvals[seq])
        }

    async def _ask(
        self,
        numbered: Sequence[tuple[int, Call]],
        coming: dict[int, asyncio.Future[Completion]],
        completed: Any,
    ) -> None:
        """Make those that are not known, a batch an expert; checkpoint each as it comes."""
        if not numbered:
            return
        journal, loop = self._durable.journal, asyncio.get_running_loop()
        batches: dict[str, list[tuple[int, Call]]] = {}
        limits, beside = self._durable.decision.query.limits, list[Call]()
        for seq, call in numbered:
            coming[seq] = loop.create_future()
            known = journal.completion(seq, call) or self._not_repeated(seq, call)
            if known is None and (why := journal.past_limit(call, limits, beside)):
                known = failed_completion(call, why, "over_limit")
            if known is not None:
                coming[seq].set_result(known)
            else:
                beside.append(call)
                batches.setdefault(call.arm.expert, []).append((seq, call))
        if batches:
            self._durable.check()
            journal.begin([one for batch in batches.values() for one in batch])
        work = [
            asyncio.create_task(self._asked(self._durable.experts[name], batch, coming))
            for name, batch in batches.items()
        ]
        try:
            await completed(numbered)
            # A checkpoint may know of calls that the ledger has lost to a power cut.
            await asyncio.gather(*(coming[seq] for seq, _ in numbered))
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def _not_repeated(self, seq: int, call: Call) -> Completion | None:
        """A failed completion, recorded, of a call that may have been done by a process that is
        gone, to a tool that must not be called twice; None of all others."""
        durable = self._durable
        tool = durable.pool.card(call.arm.expert).tool
        if tool is None or tool.is_repeatable or not durable.journal.is_begun(seq):
            return None
        failed = failed_completion(
            call,
            f"{call.arm} was being called when the process that called it ended. Whether it was "
            "done is not known, so it is not tried again",
        )
        # A row of its own: what the first one may have cost stays told as lost.
        durable.journal.begin([(seq, call)])
        durable.journal.settle(seq, failed)
        return failed

    async def _asked(
        self,
        expert: Expert,
        batch: Sequence[tuple[int, Call]],
        coming: dict[int, asyncio.Future[Completion]],
    ) -> None:
        journal = self._durable.journal

        def hear(told: Sequence[Numbered]) -> None:
            for place, completion in told:
                seq, _ = batch[place]
                journal.settle(seq, completion)
                if not coming[seq].done():
                    coming[seq].set_result(completion)

        try:
            calls, till = [call for _, call in batch], self._durable.till
            await ask_batch(expert, calls, lambda completions: None, hear, till)
        except Exception as error:  # the ledger's: whoever waits for a call must not wait for ever
            for seq, _ in batch:
                if not coming[seq].done():
                    coming[seq].set_exception(error)


def _wait_for(questions: Sequence[Question]) -> None:
    """Interrupt the run unless all of these are settled."""
    from langgraph.types import interrupt

    if open_ones := [q.question_id for q in questions if not q.is_settled]:
        interrupt({"questions": open_ones})


def _why(approval: Question) -> str:
    said = "no answer in time" if approval.answer is None else f"answered {approval.answer}"
    return f"{approval.question_id}: {said}"


def _not_approved(call: Call, approval: Question) -> Completion:
    return Completion(
        call=call,
        finish_reason="error",
        error=f"asking {call.arm} was not approved ({_why(approval)})",
        error_code="over_limit",
    )


async def _is_readable(run_id: str, saver: AsyncSqliteSaver) -> bool:
    """Whether there is a checkpoint; one that cannot be read is dropped."""
    try:
        return await saver.aget_tuple({"configurable": {"thread_id": run_id}}) is not None
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise _damaged(run_id, error) from None
    except Exception as error:  # of whatever reads the bytes
        log.warning("%s: its checkpoint cannot be read (%s); the ledger's calls do", run_id, error)
        await saver.adelete_thread(run_id)
        return False


def _damaged(what: Path | str, error: Exception) -> UserError:
    return UserError(
        f"The checkpoints of {what} cannot be read: {error}. Move checkpoints.sqlite away, out of "
        "the data folder's `runs`, and resume the run: calls that came back are in the ledger, and "
        "are not made again."
    )


@contextlib.contextmanager
def _untraced() -> Any:
    """LangGraph would tell LangSmith, elsewhere, of every run when the environment says so; people
    who set that for another program do not mean this one."""
    from langsmith import tracing_context

    with tracing_context(enabled=False):
        yield
