"""Routes of durable runs, and of what people are asked: ``/v1/runs`` and ``/v1/human``."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from experts.errors import ConclaveError, RunBusy, UnknownName
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.keys.key import VirtualKey
from orchestrator.rest.gate import virtual_key_of
from orchestrator.rest.schemas import HumanAnswer, RunRequest, to_query
from orchestrator.runs.runs import Runs
from orchestrator.runs.store import FINAL, runs_path
from orchestrator.runs.views import RunView, question_object, run_object

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LOOK_S = 1.0
"""Between looks for runs whose people have answered elsewhere, or had their time."""
_PAUSES_S = (1.0, 10.0, 60.0)
"""Before a run is tried again that could not be written down."""

pause = asyncio.sleep
"""In a test there is none."""


class RunsAtWork:
    """Runs that this server works on, each in a task of its own. The list of runs is opened when
    it is first asked for, so that servers without runs have no files of them."""

    def __init__(self, conclave: Conclave, config: Config) -> None:
        self._conclave, self._config = conclave, config
        self._runs: Runs | None = None
        self._opening = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mine: set[str] = set()
        """Runs that this server was asked to work on."""
        self._stuck: set[str] = set()
        """Runs that could not go on; not tried again before somebody asks for it."""

    @property
    def runs(self) -> Runs:
        with self._opening:
            if self._runs is None:
                self._runs = Runs(self._conclave, self._config)
            return self._runs

    async def ask(self, what: Callable[[Runs], _T]) -> _T:
        """In a thread: another process may keep a file busy for as long as SQLite waits."""
        return await asyncio.to_thread(lambda: what(self.runs))

    async def go_on_with_left(self) -> None:
        """Go on with all runs that have not come to their end, unless the owner does not want it.
        What is wrong with one, it says itself."""
        if not self._config.runs.resume_at_start or not runs_path(self._config.runs_dir).exists():
            return
        if not await self.ask(Runs.open_ones):
            return
        try:
            _, problems = await self.runs.go_on_with_all()
            for problem in problems.values():
                log.warning("%s", problem)
            self._stuck |= problems.keys()
        except ConclaveError as error:  # no LangGraph, say
            log.warning("%s", error)
        except Exception:
            log.exception("runs that were left could not go on")

    async def keep_going_on(self) -> None:
        """Go on with runs that have nobody to wait for any more: a deadline tells nobody when it
        passes, and people may answer through another process, which may leave the run to this one.
        Where the owner wants no run resumed, only with those that this server was asked for."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._runs is None and not runs_path(self._config.runs_dir).exists():
                continue
            try:
                ready = set(await self.ask(Runs.ready)) - self._stuck
            except Exception:
                log.exception("runs that wait could not be looked at")
                continue
            if not self._config.runs.resume_at_start:
                ready &= self._mine
            for run_id in ready:
                self.go_on(run_id)

    async def gone_on(self, run_id: str) -> RunView:
        """The run as it is now that it is worked on in the background. Raises UnknownName."""
        view = await self.ask(lambda runs: runs.view(run_id))
        self.go_on(run_id)
        return replace(view, is_worked_on=view.row.state not in FINAL)

    def go_on(self, run_id: str) -> None:
        """Work on a run in the background; what is wrong with it, the run says."""
        self._mine.add(run_id)
        self._stuck.discard(run_id)
        task = asyncio.create_task(self._work_on(run_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_on(self, run_id: str) -> None:
        for pause_s in (*_PAUSES_S, None):
            try:
                await self.runs.go_on(run_id)
                return
            except RunBusy:
                return  # whoever has it goes on
            except ConclaveError as error:
                log.warning("%s", error)
                break
            except sqlite3.OperationalError as error:  # a full disk, a file that others keep locked
                log.warning("%s: %s", run_id, error)
                if pause_s is not None:
                    await pause(pause_s)
            except Exception:
                log.exception("%s could not go on", run_id)
                break
        self._stuck.add(run_id)

    async def close(self) -> None:
        """Stop what is under way; it goes on when somebody resumes it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runs is not None:
            self._runs.close()


def add_runs(app: FastAPI, config: Config, working: RunsAtWork) -> None:
    """Add the routes."""

    def is_of(view: RunView, key: VirtualKey | None) -> bool:
        decision = view.decision
        return key is None or (decision is not None and decision.query.account == key.key_id)

    async def seen(run_id: str, request: Request) -> RunView:
        """Raises UnknownName, as of a run that is not there, for one of another key."""
        key = virtual_key_of(request)
        view = await working.ask(lambda runs: runs.view(run_id))
        if not is_of(view, key):
            views = await working.ask(lambda runs: list(runs.views()))
            raise UnknownName(run_id, [v.row.run_id for v in views if is_of(v, key)], what="run")
        return view

    @app.post("/v1/runs", tags=["Runs"], status_code=202)
    async def begin(body: RunRequest, request: Request) -> dict[str, Any]:
        """Begin a durable run. It goes on in the background, also after this server was killed and
        somebody resumes it; ask for it with its id."""
        query = to_query(body, config, key=virtual_key_of(request))
        run_id = await working.ask(lambda runs: runs.start(query, body.target))
        return run_object(await working.gone_on(run_id))

    @app.get("/v1/runs", tags=["Runs"])
    async def all_runs(request: Request) -> dict[str, Any]:
        """Runs, the newest first; a key sees its own."""
        key = virtual_key_of(request)
        views = await working.ask(lambda runs: list(runs.views()))
        told = [run_object(v, with_calls=False) for v in views if is_of(v, key)]
        return {"runs": told}

    @app.get("/v1/runs/{run_id}", tags=["Runs"])
    async def one_run(run_id: str, request: Request) -> dict[str, Any]:
        """One run: its calls, its dollars, what it waits for, its answer."""
        return run_object(await seen(run_id, request))

    @app.post("/v1/runs/{run_id}/resume", tags=["Runs"], status_code=202)
    async def resume(run_id: str, request: Request) -> dict[str, Any]:
        """Go on with a run that was interrupted."""
        await seen(run_id, request)
        return run_object(await working.gone_on(run_id))

    @app.post("/v1/runs/{run_id}/cancel", tags=["Runs"])
    async def cancel(run_id: str, request: Request) -> dict[str, Any]:
        """Give a run up."""
        await seen(run_id, request)
        return await working.ask(lambda runs: run_object(runs.cancel(run_id)))

    @app.get("/v1/human", tags=["Runs"])
    async def questions() -> dict[str, Any]:
        """What people are asked, the oldest first."""
        waiting = await working.ask(lambda runs: runs.desk.waiting())
        return {"questions": [question_object(q) for q in waiting]}

    @app.post("/v1/human/{question_id}", tags=["Runs"])
    async def answer(question_id: str, body: HumanAnswer) -> JSONResponse:
        """Answer a question. A durable run that waited for it goes on."""
        question = await working.ask(lambda runs: runs.desk.answer(question_id, body.answer))
        if question.run_id is not None:
            working.go_on(question.run_id)
        return JSONResponse(question_object(question))
