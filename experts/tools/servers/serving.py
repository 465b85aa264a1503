"""What the servers that come with Conclave share: how a function becomes a tool, and a bound on the
seconds and bytes that a call may take.

A tool here is a pure function of its arguments. What it raises as ValueError is told to whoever
asked; anything else is our fault, and told as that.
"""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

MAX_SECONDS = 10.0
MAX_MEMORY_BYTES = 2 << 30
MAX_RESULT_CHARS = 20_000


class TooLong(BaseException):
    """Not an Exception: libraries that catch those would go on."""


def server(name: str, instructions: str, *tools: Callable[..., str]) -> Any:
    """An MCP server of these functions. Their docstrings are what models read, their annotations
    the schemas."""
    from mcp.server.mcpserver import MCPServer
    from mcp_types import ToolAnnotations

    made = MCPServer(name, instructions=instructions, log_level="ERROR")
    for tool in tools:
        made.add_tool(
            _bounded(tool),
            description=" ".join(inspect.cleandoc(tool.__doc__ or "").split("\n\n")[0].split()),
            annotations=ToolAnnotations(
                read_only_hint=True, idempotent_hint=True, open_world_hint=False
            ),
            structured_output=False,
        )
    return made


def run(made: Any) -> None:
    """Over standard input and output, until that is closed."""
    bound_memory()
    made.run("stdio")


def _bounded(tool: Callable[..., str]) -> Callable[..., Any]:
    from mcp.server.mcpserver.exceptions import ToolError

    # A coroutine, so that it runs in the main thread, where a timer can interrupt it.
    @functools.wraps(tool)
    async def called(*args: Any, **kwargs: Any) -> str:
        try:
            with at_most(MAX_SECONDS):
                text = tool(*args, **kwargs)
        except TooLong:
            raise ToolError(f"it takes longer than {MAX_SECONDS:g} s") from None
        except (MemoryError, RecursionError):
            raise ToolError("it is too large") from None
        except ValueError as error:
            raise ToolError(str(error)) from None
        if len(text) > MAX_RESULT_CHARS:
            raise ToolError(f"the result has {len(text):,} characters; it is too long")
        return text

    return called


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TooLong in the middle of what takes longer; not inside one operation of C code, whose
    size has to be bounded beforehand. In other threads than the main one it bounds nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again: a bare `except` deep down may swallow the first.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        yield
    finally:
        while True:
            # It may ring once more before it is stopped.
            with suppress(TooLong):
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
        signal.signal(signal.SIGALRM, before)


def bound_memory() -> None:
    """Of this process, for good. Libraries that reserve memory for every processor must be told
    to use one (``orchestrator/tool_pool.py``)."""
    import resource

    with suppress(ValueError, OSError):  # a lower bound is there already
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
