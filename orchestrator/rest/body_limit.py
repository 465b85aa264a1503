"""A bound on request bodies, held before anything is parsed or kept."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.rest.errors import error_body


class BodyLimit:
    """ASGI middleware: answers 413 as soon as a body is known to be longer than ``max_bytes``."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length")
        if declared is not None and declared.isdigit():
            # The server takes no byte more than that, as HTTP has it.
            is_within = int(declared) <= self.max_bytes
            await (self.app(scope, receive, send) if is_within else self._refuse(send))
            return
        # A body of unknown length is read here, chunk by chunk, and handed on whole.
        chunks: list[Message] = []
        size = 0
        more = True
        while more:
            message = await receive()
            chunks.append(message)
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                await self._refuse(send)
                return
            more = message.get("more_body", False)
        replay = iter(chunks)

        async def again() -> Message:
            return next(replay, None) or await receive()

        await self.app(scope, again, send)

    async def _refuse(self, send: Send) -> None:
        message = f"The body is larger than this server's limit of {self.max_bytes} bytes."
        body = json.dumps(error_body(message, "invalid_request_error", "body_too_large")).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
