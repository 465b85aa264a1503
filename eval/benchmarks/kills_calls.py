"""What engines are given, seen from inside of them: ASGI middleware for a vLLM, and its file.

The ledger has the calls whose answers came. One that was made twice and answered twice, of which
the ledger has one, is seen only where it was worked on. Standard library only: this file is copied
to where an engine finds it (``vllm serve --middleware kills_calls.Noting``), in whatever Python it
runs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

FILE_VARIABLE = "CONCLAVE_KILLS_CALLS"
MIDDLEWARE = f"{Path(__file__).stem}.Noting"
Event = Literal["begun", "ended"]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Noting:
    """Appends a line to the file that the environment names for every call that begins, and one
    when its answer has been sent in full. A fleet's own questions, which compare weights, are left
    out: they alone bring no end tokens."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/completions":
            await self.app(scope, receive, send)
            return
        body = b""
        is_call = False

        async def receiving() -> Message:
            nonlocal body, is_call
            message = await receive()
            if message["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body") and not is_call:
                    is_call = bool(json.loads(body).get("stop_token_ids"))
                    self._note("begun", is_call)
            return message

        async def sending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._note("ended", is_call)

        await self.app(scope, receiving, sending)

    def _note(self, event: Event, is_call: bool) -> None:
        if not is_call:
            return
        # In one write, so that two engines and a kill leave whole lines.
        fd = os.open(os.environ[FILE_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, f"{event}\n".encode())
        finally:
            os.close(fd)


def calls_in(path: Path) -> Counter[str]:
    """How many of each event a file has; none without one."""
    return Counter(path.read_text(encoding="utf-8").split() if path.exists() else ())


def problems_of_calls(
    name: str, calls: Counter[str], n_answers: int, *, n_excused: int = 0, n_unnoted: int = 0
) -> list[str]:
    """What is wrong with calls that brought so many answers. n_excused: those that may have been
    answered to a process that was killed before it wrote that down. n_unnoted: answers that engines
    may have sent and, as they were killed at once, not noted."""
    n_again = calls["ended"] - n_answers
    if -n_unnoted <= n_again <= n_excused:
        return []
    return [
        f"{name}: engines answered {calls['ended']} calls in full ({calls['begun']} begun) for "
        f"{n_answers} answers, and kills excuse {n_excused}"
    ]
