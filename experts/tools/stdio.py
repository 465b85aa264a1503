"""An MCP server as a child process, spoken to over its standard input and output.

The SDK's own transport reads lines of any length and gives the child variables that nobody named,
so this one stands in for it: a line that is too long is thrown away as it comes and its call is
answered with an error; the environment is what was named; the last words on standard error are kept
for messages. The child leads a process group, which ends with the session: its input is closed,
then it gets SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experts.errors import ToolServerFailed

log = logging.getLogger(__name__)

TOO_LARGE = -32050
"""JSON-RPC code (of those that are free for servers) of an answer that we would not read."""
_CHUNK = 1 << 16
_END_BYTES = 4096
"""Of an overlong line, at either end: in one of them is the id of the call that it answers."""
_ID = rb'"id"\s*:\s*(\d+)'
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_ID_LAST = re.compile(rb",\s*" + _ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')
_CLOSE_S, _TERM_S = 1.0, 2.0
"""To end after its input is closed, and after SIGTERM."""
_LAST_WORDS = 3
"""Lines of standard error that are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """How a server is started."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """All that the child gets."""
    cwd: Path

    def __str__(self) -> str:
        return " ".join(self.words)

    def transport(self, max_bytes: int, on_end: Callable[[str], None]) -> Any:
        """For the SDK's client. max_bytes: of one message. on_end: told when the child's output
        ends, with its last words."""
        return _stdio(self, max_bytes, on_end)


@asynccontextmanager
async def _stdio(
    command: Command, max_bytes: int, on_end: Callable[[str], None]
) -> AsyncGenerator[Any]:
    """The streams that an MCP session reads and writes. Raises ToolServerFailed when there is no
    such command."""
    import anyio
    from mcp.shared.message import SessionMessage

    try:
        process = await asyncio.create_subprocess_exec(
            *command.words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
            limit=_CHUNK,
        )
    except (OSError, ValueError) as error:
        raise ToolServerFailed(f"cannot start `{command}`: {error}") from None
    # No waiting from here on until the child is guarded: being cancelled in between would leave it.
    to_session, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    words: deque[str] = deque(maxlen=_LAST_WORDS)

    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin and stdout and stderr  # noqa: S101, PT018 - they are pipes, as was asked

    async def hear() -> None:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async with to_session:
                async for message in _messages(stdout, max_bytes):
                    await to_session.send(message)
                await asyncio.wait([listening], timeout=0.2)  # for its last words
                on_end("; ".join(words))

    async def say() -> None:
        with contextlib.suppress(anyio.ClosedResourceError, OSError):
            async with from_session:
                async for message in from_session:
                    said = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    stdin.write(f"{said}\n".encode())
                    await stdin.drain()

    listening = asyncio.create_task(_keep_last(stderr, words))
    work = [asyncio.create_task(hear()), asyncio.create_task(say()), listening]
    try:
        yield read, write
    finally:
        await _finished(_end(process, work))
        for stream in (to_session, read, write, from_session):
            stream.close()


async def _messages(stdout: asyncio.StreamReader, max_bytes: int) -> AsyncGenerator[Any]:
    """What the child says, but for notifications: nobody waits for these, and a child could drown
    us in them."""
    async for line in _lines(stdout, max_bytes):
        message = _refusal(line, max_bytes) if isinstance(line, _Overlong) else _parsed(line)
        if message is not None:
            yield message


@dataclass(frozen=True, slots=True)
class _Overlong:
    """The ends of a line that was not kept."""

    head: bytes
    tail: bytes


async def _lines(stdout: asyncio.StreamReader, max_bytes: int) -> AsyncGenerator[bytes | _Overlong]:
    parts: list[bytes] = []
    n, head, tail = 0, b"", b""
    while chunk := await stdout.read(_CHUNK):
        *ended, rest = chunk.split(b"\n")
        for piece in (*ended, None):
            more = rest if piece is None else piece
            n += len(more)
            if n > max_bytes:
                head = head or b"".join(parts)[:_END_BYTES] or more[:_END_BYTES]
                before = tail or b"".join(parts)[-_END_BYTES:]
                tail = (before + more)[-_END_BYTES:]
                parts = []
            else:
                parts.append(more)
            if piece is not None:
                yield _Overlong(head, tail) if n > max_bytes else b"".join(parts)
                parts, n, head, tail = [], 0, b"", b""


def _parsed(line: bytes) -> Any:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCNotification, jsonrpc_message_adapter

    if not line.strip():
        return None
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except (ValueError, RecursionError):
        log.debug("a tool server said what is no message: %.200r", line)
        return None
    return None if isinstance(message, JSONRPCNotification) else SessionMessage(message)


def _refusal(line: _Overlong, max_bytes: int) -> Any:
    """In the place of the answer, for whoever waits for it."""
    from mcp.shared.message import SessionMessage
    from mcp_types import ErrorData, JSONRPCError

    found = _ID_FIRST.match(line.head) or _ID_LAST.search(line.tail)
    if found is None:
        log.warning(
            "a tool server said a line of more than %d bytes, in answer to nobody", max_bytes
        )
        return None
    error = ErrorData(code=TOO_LARGE, message=f"a message of more than {max_bytes:,} bytes")
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error))


async def _keep_last(stderr: asyncio.StreamReader, words: deque[str]) -> None:
    rest = b""
    while chunk := await stderr.read(_CHUNK):
        *ended, rest = (rest + chunk)[-_CHUNK:].split(b"\n")
        words.extend(line.decode(errors="replace")[:300] for line in ended if line.strip())
    if rest.strip():
        words.append(rest.decode(errors="replace")[:300])


async def _end(process: asyncio.subprocess.Process, work: list[asyncio.Task[None]]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    for number, seconds in ((signal.SIGTERM, _CLOSE_S), (signal.SIGKILL, _TERM_S)):
        if await _has_ended(process, seconds):
            break
        _signal(process.pid, number)
    # What it left behind in its group holds our pipes open.
    _signal(process.pid, signal.SIGKILL)
    await _has_ended(process, _TERM_S)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    # Otherwise the transport is closed when it is collected, which warns.
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _has_ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    # Not `wait`, which also waits for pipes that grandchildren may hold.
    deadline = asyncio.get_running_loop().time() + seconds
    while process.returncode is None:
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def _finished(work: Any) -> None:
    """To its end, also when we are cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    was_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        raise asyncio.CancelledError
