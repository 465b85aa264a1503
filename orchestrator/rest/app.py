"""The FastAPI application: routes, readiness, and giving up when the client has."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from experts.errors import UnknownExpert
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.facts import decision_object, pool_object
from orchestrator.keys.opening import Counting, open_keys
from orchestrator.keys.ring import KeyRing
from orchestrator.keys.till import KeyTill
from orchestrator.learning.showing import learning_facts
from orchestrator.learning.watch import Watch
from orchestrator.mcp.http import MCPOverHTTP
from orchestrator.queries import caller_digest
from orchestrator.rest import errors
from orchestrator.rest.answering import PATH as CHAT_PATH
from orchestrator.rest.answering import ChatDoor, documented
from orchestrator.rest.body_limit import BodyLimit
from orchestrator.rest.errors import error_body
from orchestrator.rest.gate import Gate, virtual_key_of
from orchestrator.rest.runs import RunsAtWork, add_runs
from orchestrator.rest.schema import complete_schema
from orchestrator.rest.schemas import FeedbackRequest, RouteRequest, to_query
from orchestrator.rest.under_way import Tasks, UnderWay
from orchestrator.warm import warm

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between looks for outcomes that others recorded, and for other fitted states."""

_BILLS_S = 5.0
"""For what a server that stops has cut short to be written down."""

OnReady = Callable[[Mapping[str, str]], None]
"""Told what could not be loaded, and why."""


@dataclass(slots=True)
class _Readiness:
    """Set by the warm-up in the background; read by ``/readyz``."""

    ready: bool = False
    problems: dict[str, str] = field(default_factory=dict)
    """What could not be loaded, and why; the others answer all the same."""


def create_app(
    conclave: Conclave,
    config: Config,
    *,
    on_ready: OnReady = lambda problems: None,
    watch: Watch | None = None,
) -> Application:
    """The application. Warming up starts with it; ``on_ready`` and ``/readyz`` say when it is
    done. watch: starts refits that are due."""
    readiness = _Readiness()
    under_way: Tasks = set()
    store = open_keys(config)
    ring, counting = KeyRing(store), Counting(conclave.ledger, config)
    accounts = counting.accounts
    conclave.till = KeyTill(accounts, ring.of_id, conclave.pool)
    mcp = MCPOverHTTP(conclave, config)
    runs = RunsAtWork(conclave, config)

    async def begin() -> None:
        await _warm_up(conclave, readiness, on_ready)
        # Not before: what was left has waited, and those who ask now are kept waiting by it.
        await runs.go_on_with_left()
        await runs.keep_going_on()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(begin()),
            asyncio.create_task(_keep_learning(conclave, watch)),
            asyncio.create_task(_keep_looking(ring)),
        ]
        async with counting.running(), mcp.running():
            yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if watch is not None:
            watch.stop()
        await runs.close()
        if under_way:  # uvicorn has cancelled them, and does not wait
            await asyncio.wait(under_way, timeout=_BILLS_S)
        conclave.ledger.close()
        store.close()

    app = FastAPIOffline(
        title="Conclave",
        summary="Answers each question with the cheapest set of experts that will get it right.",
        lifespan=lifespan,
        redoc_url=None,
    )
    errors.install(app)
    chat = ChatDoor(conclave, config)
    documented(app, chat)
    _add_asking(app, conclave, config)
    add_runs(app, config, runs)
    _add_facts(app, conclave, readiness)
    _add_metrics(app, conclave, under_way)
    app.router.routes.append(mcp.route)
    complete_schema(app, chat_path=CHAT_PATH, not_errors=frozenset({"/readyz"}))

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        is_chat = scope.get("path") == CHAT_PATH and scope.get("method") == "POST"
        await (chat if is_chat else app)(scope, receive, send)

    # Not among FastAPI's middleware, of which every request would pass all.
    gate = Gate(BodyLimit(behind, config.server.max_body_bytes), ring, accounts)
    return Application(UnderWay(gate, under_way, conclave.meters), app)


@dataclass(frozen=True, slots=True)
class Application:
    """ASGI application: chat completions by the short way, all else through FastAPI."""

    entry: ASGIApp
    api: FastAPI
    """All routes, with their schema and their lifespan."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.entry(scope, receive, send)


async def _warm_up(conclave: Conclave, readiness: _Readiness, on_ready: OnReady) -> None:
    try:
        readiness.problems = await warm(conclave)
        readiness.ready = len(readiness.problems) < len(conclave.experts)
        if readiness.ready:
            on_ready(readiness.problems)
    except Exception as error:
        log.exception("warming up failed")
        readiness.problems = {"conclave": f"{type(error).__name__}: {error}"}


async def _keep_learning(conclave: Conclave, watch: Watch | None) -> None:
    """What other processes recorded and fitted, this one notices."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await asyncio.to_thread(conclave.learn)
            if watch is not None:
                await asyncio.to_thread(watch.look)
        except Exception:  # answering goes on with what is known
            log.exception("learning failed")


async def _keep_looking(ring: KeyRing) -> None:
    """Keys that are revoked stop working within a second."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await asyncio.to_thread(ring.look)
        except Exception:  # those that are known go on
            log.exception("keys could not be read")


def _add_asking(app: FastAPI, conclave: Conclave, config: Config) -> None:
    @app.post("/v1/route", tags=["Conclave"])
    async def route(body: RouteRequest, request: Request) -> dict[str, Any]:
        """What would be done with this question and why, without doing it."""
        query = to_query(body, config, key=virtual_key_of(request))
        decision = await asyncio.to_thread(conclave.route, query, body.target, source="serve")
        return decision.explain()

    @app.post("/v1/feedback", tags=["Conclave"])
    async def feedback(
        body: FeedbackRequest, authorization: Annotated[str | None, Header()] = None
    ) -> Response:
        """Say whether an answer was right; the ledger keeps it, and the next decisions know it."""
        caller = caller_digest(authorization)
        try:
            await asyncio.to_thread(
                conclave.feedback, body.decision_id, body.verdict, body.comment, caller=caller
            )
        except sqlite3.OperationalError as error:
            message = f"The ledger cannot be written now ({error}); send it again in a moment."
            return JSONResponse(
                error_body(message, "server_error", "ledger_busy"), 503, {"retry-after": "1"}
            )
        return JSONResponse({"decision_id": body.decision_id, "recorded": True})


def _add_facts(app: FastAPI, conclave: Conclave, readiness: _Readiness) -> None:
    started = int(time.time())

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> dict[str, Any]:
        """Policies (as models) and experts."""
        policies = [n if n == "conclave" else f"conclave/{n}" for n in conclave.policies]
        data = [_model(n, "conclave", started) for n in policies]
        data += [_model(n, "expert", started) for n in conclave.pool.names]
        return {"object": "list", "data": data}

    @app.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def model(name: str) -> dict[str, Any]:
        """One policy or expert."""
        known = [*conclave.policies, *conclave.pool.names]
        if name.removeprefix("conclave/") not in known:
            raise UnknownExpert(name, known, what="model (policy or expert)")
        return _model(name, "expert" if name in conclave.experts else "conclave", started)

    @app.get("/v1/experts", tags=["Conclave"])
    async def experts() -> dict[str, Any]:
        """The pool: prices, strengths by kind of question, who is loaded and how many wait."""
        return await asyncio.to_thread(pool_object, conclave)

    @app.get("/v1/decisions/{decision_id}", tags=["Conclave"])
    async def decision(decision_id: str, request: Request) -> dict[str, Any]:
        """Why an answer is what it is: beliefs, plan, calls, bill. A key sees its own."""
        key = virtual_key_of(request)
        account = None if key is None else key.key_id
        return await asyncio.to_thread(
            decision_object, conclave.ledger, decision_id, account=account
        )

    @app.get("/v1/learning", tags=["Operations"])
    async def learning() -> dict[str, Any]:
        """What outcomes since the fit say of each expert, and what exploring has cost today."""
        return await asyncio.to_thread(learning_facts, conclave)

    @app.get("/healthz", tags=["Operations"])
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["Operations"], responses={503: {"description": "Not ready yet"}})
    async def readyz() -> Response:
        """Experts and embedder are loaded; 503 until then, or when no expert can be. Experts that
        have changed, and a ledger that cannot be read, are told under ``learning``."""
        problems = readiness.problems
        if readiness.ready:
            learner = conclave.learner
            facts = await asyncio.to_thread(learner.facts) if learner else {}
            told = {k: facts[k] for k in ("drift", "problem") if facts.get(k)}
            learning = {"learning": told} if told else {}
            return JSONResponse({"status": "ready", "problems": problems, **learning})
        status = "failed" if problems else "warming up"
        return JSONResponse({"status": status, "problems": problems}, 503)


def _add_metrics(app: FastAPI, conclave: Conclave, under_way: Tasks) -> None:
    @app.get("/metrics", tags=["Operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What this process has counted since it began, and how it stands, for Prometheus."""
        from orchestrator.metrics.exposition import CONTENT_TYPE, metrics_text

        text = await asyncio.to_thread(metrics_text, conclave, n_under_way=len(under_way))
        return Response(text, media_type=CONTENT_TYPE)


def _model(name: str, owner: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
