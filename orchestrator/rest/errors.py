"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from experts.errors import (
    ConclaveError,
    ContextTooLong,
    ExpertFailure,
    Forbidden,
    KeyReused,
    LimitReached,
    NotFitted,
    OverBudget,
    RunBusy,
    UnknownDecision,
    UnknownExpert,
    UnknownName,
    UserError,
    did_you_mean,
)
from orchestrator.rest.messages import ChatMessage
from orchestrator.rest.schemas import (
    ChatRequest,
    Extension,
    FeedbackRequest,
    InvalidField,
    RouteRequest,
    RunRequest,
)

log = logging.getLogger(__name__)

_SHOWN_CHARS = 80
_KNOWN: tuple[tuple[type[ConclaveError], int, str, str], ...] = (
    (UnknownExpert, 404, "invalid_request_error", "model_not_found"),
    (ContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (UnknownDecision, 404, "invalid_request_error", "unknown_decision"),
    (UnknownName, 404, "invalid_request_error", "not_found"),
    (RunBusy, 409, "invalid_request_error", "run_busy"),
    (KeyReused, 422, "invalid_request_error", "idempotency_key_reused"),
    (LimitReached, 400, "invalid_request_error", "limit_reached"),
    (Forbidden, 403, "permission_error", "not_allowed"),
    (OverBudget, 429, "insufficient_quota", "insufficient_quota"),
    (NotFitted, 503, "server_error", "router_not_fitted"),
    (InvalidField, 400, "invalid_request_error", "invalid_value"),
    (UserError, 400, "invalid_request_error", "invalid_request"),
    (ExpertFailure, 502, "server_error", "experts_failed"),
)


def error_body(
    message: str, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for an error; what is not ours is logged and not shown."""
    for kind, status, type_, code in _KNOWN:
        if isinstance(error, kind):
            param = "decision_id" if isinstance(error, UnknownDecision) else None
            param = getattr(error, "param", param)
            return status, error_body(str(error), type_, code, param)
    log.exception("unexpected error", exc_info=error)
    return 500, error_body("Internal error; the server's log has it.", "server_error", "internal")


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ConclaveError)
    async def _ours(request: Request, error: ConclaveError) -> JSONResponse:
        status, body = describe(error)
        return JSONResponse(body, status)

    @app.exception_handler(Exception)
    async def _any(request: Request, error: Exception) -> JSONResponse:
        status, body = describe(error)
        return JSONResponse(body, status)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        body = _BODIES.get(request.url.path, ChatRequest)
        status, told = explain_invalid(error, body, request.headers.get("content-type", ""))
        return JSONResponse(told, status)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"There is no {request.method} {request.url.path}; see /docs."
        body = error_body(message, "invalid_request_error")
        return JSONResponse(body, error.status_code, headers=error.headers)


_BODIES: dict[str, type[BaseModel]] = {
    "/v1/route": RouteRequest,
    "/v1/feedback": FeedbackRequest,
    "/v1/runs": RunRequest,
}


def explain_invalid(
    error: RequestValidationError | ValidationError, body: type[BaseModel], content_type: str
) -> tuple[int, dict[str, Any]]:
    """Status and body for the first problem of what was sent as ``body``."""
    problem = error.errors()[0]
    if "json" not in content_type:
        message = "Send the body as JSON, with the header content-type: application/json."
        told: tuple[str, str | None, str] = message, None, "invalid_json"
    elif problem["type"] == "json_invalid":
        reason = problem.get("ctx", {}).get("error", "")
        if "hex escape" in reason:
            reason += ": half a character, a lone surrogate, is not text"
        told = f"The body is not valid JSON: {reason}.", None, "invalid_json"
    elif problem["type"] == "missing" and problem["loc"] == ("body",):
        told = "The body is empty; send JSON.", None, "invalid_json"
    else:
        told = explain_problem(problem, body)
    message, param, code = told
    return 400, error_body(message, "invalid_request_error", code, param)


def explain_problem(
    problem: Mapping[str, Any], body: type[BaseModel]
) -> tuple[str, str | None, str]:
    """Message, field and code of what pydantic found wrong with what was sent as ``body``."""
    place = [str(p) for p in problem["loc"] if p != "body"]
    param = ".".join(place) or None
    if problem["type"] == "extra_forbidden":
        body = Extension if "conclave" in place[:-1] else body
        body = ChatMessage if "messages" in place[:-1] else body
        known = list(body.model_fields)
        return f"Unknown field {param!r}.{did_you_mean(place[-1], known)}", param, "unknown_field"
    message = problem["msg"].removeprefix("Value error, ")
    if param is None and ":" in message:
        head = message.split(":")[0]
        param = head if head.isidentifier() else None
    given = problem.get("input")
    plain = isinstance(given, str | int | float) and len(str(given)) < _SHOWN_CHARS
    shown = f" (got {given!r})" if plain else ""
    return f"{param}: {message}{shown}" if place else message, param, "invalid_value"
