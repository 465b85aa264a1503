"""The server on standard input and output, for clients that start it as a process of their own.

Nothing but the protocol is on standard output: whatever else is written there goes to standard
error. The process ends when its input does, or when it is told to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, cast

from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.mcp.server import make_server
from orchestrator.warm import warm

if TYPE_CHECKING:
    import anyio

_CHUNK = 1 << 16
_MOST_LINES = 1000
"""That are read and not yet dealt with; a client that sends more waits."""


async def serve_stdio(config: Config) -> None:
    """Serve until the input ends, or SIGTERM or SIGINT comes."""
    from mcp.server.stdio import stdio_server

    me = cast("asyncio.Task[None]", asyncio.current_task())
    loop = asyncio.get_running_loop()
    told_to_end = False

    def end() -> None:
        nonlocal told_to_end
        told_to_end = True
        me.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    lines = cast("anyio.AsyncFile[str]", _lines_of_stdin(loop))
    with redirect_stdout(sys.stderr):  # a library's word, before the SDK sees to it
        conclave = Conclave.from_config(config)
    try:
        async with stdio_server(stdin=lines) as (incoming, outgoing):
            warming = asyncio.create_task(_warm_up(conclave))
            try:
                server = make_server(conclave, config)
                await server.run(incoming, outgoing, server.create_initialization_options())
            finally:
                warming.cancel()
                await asyncio.gather(warming, return_exceptions=True)
    except asyncio.CancelledError:
        if not told_to_end:
            raise
    finally:
        conclave.ledger.close()


async def _warm_up(conclave: Conclave) -> None:
    for name, problem in (await warm(conclave)).items():
        print(f"conclave: {name} cannot be loaded: {problem}", file=sys.stderr)  # noqa: T201


async def _lines_of_stdin(loop: asyncio.AbstractEventLoop) -> AsyncIterator[str]:
    """Lines as they come. Read by a thread that nobody waits for: one that is blocked in a read
    cannot be stopped, and would keep a process that was told to end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    # Ours alone, and not inherited: no child can eat what the client sends.
    source = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)

    room = threading.Semaphore(_MOST_LINES)

    def tell(line: str | None) -> None:
        room.acquire()
        with suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        rest: list[bytes] = []
        while chunk := os.read(source, _CHUNK):
            *whole, last = chunk.split(b"\n")
            for line in whole:
                tell(b"".join([*rest, line]).decode(errors="replace"))
                rest = []
            rest.append(last)
        if any(rest):
            tell(b"".join(rest).decode(errors="replace"))
        tell(None)

    threading.Thread(target=read, name="mcp-stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        room.release()
        yield line
