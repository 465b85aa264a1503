"""The gate: requests without a good key stay outside, where there are keys.

It stands before everything that reads a body, so whoever has no key costs next to nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.keys.accounts import Accounts, Refusal
from orchestrator.keys.key import ROUTES, VirtualKey
from orchestrator.keys.ring import KeyRing
from orchestrator.rest.errors import error_body

KEY_IN_SCOPE = "conclave.key"
_SPENDING = frozenset({"chat", "runs", "mcp"})
"""Routes that ask experts, when something is posted there."""
_BEARER = b"bearer "


def virtual_key_of(request: Request | None) -> VirtualKey | None:
    """The key that a request was let in by; None where none is needed, or it came another way."""
    return None if request is None else request.scope.get(KEY_IN_SCOPE)


class Gate:
    """ASGI middleware: 401 without a good key, 403 with one that is not for this, 429 when it has
    used what it may. What lies beside ``/v1`` and ``/mcp`` (health, documentation) is open."""

    def __init__(self, app: ASGIApp, ring: KeyRing, accounts: Accounts) -> None:
        self.app, self._ring, self._accounts = app, ring, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope["path"]) if scope["type"] == "http" else None
        if route is None or not self._ring.is_needed:
            await self.app(scope, receive, send)
            return
        key = self._ring.find(_secret(scope))
        if key is None:
            await _tell(send, 401, _NO_KEY, {b"www-authenticate": b"Bearer"})
        elif route in ROUTES and not key.may_use(route):
            message = f"The key {key.name!r} is not for {route}; it is for " + ", ".join(
                r for r in ROUTES if key.may_use(r)
            )
            await _tell(send, 403, error_body(f"{message}.", "permission_error", "not_allowed"))
        else:
            await self._let_in(key, route, scope, receive, send)

    async def _let_in(
        self, key: VirtualKey, route: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        spends = route in _SPENDING and scope["method"] == "POST"
        if refusal := await self._accounts.admit(key, spends=spends):
            status = 503 if refusal.code == "unavailable" else 429
            await _tell(send, status, _refused(refusal), _when(refusal))
            return
        started = time.perf_counter()
        try:
            await self.app({**scope, KEY_IN_SCOPE: key}, receive, send)
        finally:
            self._accounts.leave(key, time.perf_counter() - started)


_NO_KEY = error_body(
    "A key is needed here: send the header `Authorization: Bearer ck-...` (the API key of OpenAI's "
    "clients). Whoever runs this server makes one with: conclave keys create NAME",
    "authentication_error",
    "invalid_api_key",
)


def route_of(path: str) -> str | None:
    """The part that keys are for; None for what is open to all."""
    parts = path.split("/", 3)
    if parts[1] in ("mcp", "metrics"):
        return parts[1]
    return parts[2] if parts[1] == "v1" and len(parts) > 2 else None


def _secret(scope: Scope) -> str:
    """Empty where none was sent."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return str(value[len(_BEARER) :].strip().decode("latin-1"))
    return ""


def _refused(refusal: Refusal) -> dict[str, object]:
    return error_body(refusal.reason, refusal.code, refusal.code)


def _when(refusal: Refusal) -> Mapping[bytes, bytes]:
    if refusal.retry_after_s is None:
        return {}
    # Whole seconds, by the standard: rounded up, or who obeys comes too early.
    return {b"retry-after": b"%d" % max(1, math.ceil(refusal.retry_after_s))}


async def _tell(
    send: Send, status: int, told: Mapping[str, object], more: Mapping[bytes, bytes] | None = None
) -> None:
    body = json.dumps(told).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(more or {}).items(),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
