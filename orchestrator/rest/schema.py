"""The endpoint's OpenAPI schema: FastAPI's, with our errors and what chat completions answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REF = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_ERRORS = {
    "4XX": {
        "description": "What was wrong with the request",
        "content": _REF,
    },
    "5XX": {"description": "What went wrong here, or with all experts", "content": _REF},
}
_CHAT = {
    "description": "A `chat.completion`, or its chunks as server-sent events",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"schema": {"type": "string"}},
    },
}


def complete_schema(app: FastAPI, *, chat_path: str, not_errors: frozenset[str]) -> None:
    """not_errors: paths whose answers with another status than 200 are no errors of ours."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            schema["components"]["schemas"]["Error"] = _ERROR
            for path, operation in _operations(schema):
                responses = operation["responses"]
                responses.pop("422", None)  # FastAPI's own, which we answer with 400
                if path not in not_errors:
                    responses |= _ERRORS
            schema["paths"][chat_path]["post"]["responses"]["200"] = _CHAT
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            yield path, operation
