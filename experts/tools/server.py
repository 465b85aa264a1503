"""One MCP server and the session with it, which its tools share.

The session lives in a loop of its own (``LoopThread``), because it outlives the loops of those who
ask. It is opened when it is needed; when the server dies, the next call opens another, after a
pause that doubles with every failure in a row. Which arguments are sent, and what an answer is
worth, is not decided here (``expert``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

from experts.errors import ToolServerFailed
from experts.loop_thread import LoopThread
from experts.tools.http import TOO_LARGE_SAID
from experts.tools.stdio import TOO_LARGE

log = logging.getLogger(__name__)

T = TypeVar("T")
START_S = 60.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 60.0
_ENVELOPE_BYTES = 65_536
_MOST_UNFOLDED = 4
"""A result may come twice (as text and structured), and escaped: bytes of a message for each byte
of a result that is let through."""
_ALIVE_S = 5.0
_MAX_PAGES, _MAX_TOOLS = 50, 1000
_QUIET_LOGGERS = ("mcp.client", "mcp.shared", "httpx2", "httpcore2")
"""They log what a server does wrong with a traceback; it is in the call's error, too."""


class Way(Protocol):
    """How a server is reached: a command (``stdio``) or a URL (``http``)."""

    def transport(self, max_bytes: int, on_end: Callable[[str], None]) -> Any: ...


class CallFailed(Exception):
    """A call that brought no result."""

    def __init__(
        self,
        message: str,
        *,
        why: Literal["unreachable", "lost", "late", "too_large", "refused", "failed"],
    ) -> None:
        """why: unreachable: there is no session; lost: it ended meanwhile; late: no answer in time;
        refused: the server says that there is no such tool, or not with these arguments."""
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    """What a tool gave."""

    text: str
    """Of all parts that are text; a line each."""
    structured: Any = None
    others: tuple[str, ...] = ()
    """Kinds of the parts that are not text."""
    is_error: bool = False


class ToolThread:
    """The loop that all sessions of a pool live in. Ends with the interpreter, or ``close``."""

    def __init__(self) -> None:
        self._servers: list[ToolServer] = []
        self.loop = LoopThread("The thread of tool servers", self._shut)

    def add(self, server: ToolServer) -> None:
        self._servers.append(server)

    def close(self) -> None:
        """End all sessions and the servers that were started. Blocks."""
        self.loop.close()

    async def _shut(self) -> None:
        await asyncio.gather(*(server.end() for server in self._servers))


class ToolServer:
    """Safe to use from any thread and loop."""

    def __init__(
        self,
        name: str,
        way: Way,
        thread: ToolThread,
        *,
        max_result_bytes: int,
        start_s: float = START_S,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        """max_result_bytes: the most that any of its tools may give. start_s: to answer for the
        first time. sleep: for tests that do not want to wait."""
        self.name, self.way, self._thread = name, way, thread
        self._max_message_bytes = _MOST_UNFOLDED * max_result_bytes + _ENVELOPE_BYTES
        self._start_s, self._sleep = start_s, sleep
        self._session: _Session | None = None
        self._opening: asyncio.Task[_Session] | None = None
        self._n_failures = 0
        """In a row, since something last went well."""
        self._last_failure = ""
        thread.add(self)

    def list_now(self) -> list[dict[str, Any]]:
        """Its tools as it describes them, as JSON has them. Blocks. Raises ToolServerFailed."""
        return self._thread.loop.run(self._list()).result()

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        timeout_s: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> ToolResult:
        """Raises CallFailed. Cancelling it tells the server to stop. on_sent: called in the
        thread, just before the server is asked: from then on it may have done it."""
        return await _from(self._thread.loop.run(self._call(tool, arguments, timeout_s, on_sent)))

    def close(self) -> None:
        """End it, if it was started; the next call starts it again. Blocks."""
        self._thread.loop.run(self.end()).result()

    # In the thread.

    async def _list(self) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(self._start_s):
                session = await self._opened()
                return await session.list_tools()
        except TimeoutError:
            await self._drop(f"no answer within {self._start_s:g} s")
            raise ToolServerFailed(
                f"the tool server {self.name!r} ({self.way}) does not answer within "
                f"{self._start_s:g} s"
            ) from None
        except CallFailed as error:
            raise ToolServerFailed(f"the tool server {self.name!r}: {error}") from None

    async def _call(
        self, tool: str, arguments: dict[str, Any], timeout_s: float, on_sent: Callable[[], None]
    ) -> ToolResult:
        session: _Session | None = None
        try:
            async with asyncio.timeout(timeout_s):
                session = await self._opened()
                on_sent()
                result = await session.call(tool, arguments)
        except TimeoutError:
            late = f"no result within {round(timeout_s, 1):g} s"
            if session is None:
                raise CallFailed(f"{late}: the server is not there yet", why="late") from None
            _spawn(self._end_if_hung(session))
            raise CallFailed(late, why="late") from None
        except CallFailed as error:
            if error.why == "lost" and session is not None:
                await self._lost(session, str(error))
            raise
        self._n_failures = 0
        return result

    async def _opened(self) -> _Session:
        """The session; another one where there is none, or the last has ended. Raises CallFailed.

        Whoever gives up waiting for a start does not end it: a call of five seconds would never see
        a server that takes six to start."""
        if self._session is not None and self._session.is_open:
            return self._session
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(lambda t: t.cancelled() or t.exception())  # seen
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Session:
        if self._session is not None:
            await self._lost(self._session, self._session.reason)
        if self._n_failures:
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._n_failures - 1))
            log.info("tool server %s: %s; again in %.1f s", self.name, self._last_failure, pause_s)
            await self._sleep(pause_s)
        session = _Session(self.way, self._max_message_bytes)
        try:
            async with asyncio.timeout(self._start_s):
                await session.open()
        except (CallFailed, TimeoutError) as error:
            await session.end()
            self._failed(str(error) or f"no answer within {self._start_s:g} s of its start")
            raise CallFailed(
                f"the tool server {self.name!r} ({self.way}) cannot be asked: {self._last_failure}",
                why="unreachable",
            ) from None
        except asyncio.CancelledError:
            await session.end()
            raise
        self._session = session
        return session

    async def _lost(self, session: _Session, reason: str) -> None:
        if self._session is session:
            self._session = None
            self._failed(reason)
        await session.end()

    async def _drop(self, reason: str) -> None:
        if self._session is not None:
            await self._lost(self._session, reason)

    def _failed(self, reason: str) -> None:
        self._n_failures += 1
        self._last_failure = reason

    async def _end_if_hung(self, session: _Session) -> None:
        """After a call that came to nothing: a server that does not even list its tools is ended,
        so that the next call finds a new one."""
        try:
            async with asyncio.timeout(_ALIVE_S):
                await session.list_tools()
        except (CallFailed, TimeoutError):
            await self._lost(session, "it hung")

    async def end(self) -> None:
        """End the session, and the process if it is ours."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        session, self._session = self._session, None
        if session is not None:
            await session.end()


class _Session:
    """From a start of the server to its end. All of it is in one task, as the SDK wants it."""

    def __init__(self, way: Way, max_bytes: int) -> None:
        self._way, self._max_bytes = way, max_bytes
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work: asyncio.Task[None] | None = None
        self.reason = ""
        """Why it has ended."""

    @property
    def is_open(self) -> bool:
        return self._work is not None and not self._work.done() and not self.reason

    async def open(self) -> None:
        """Raises CallFailed."""
        self._work = asyncio.create_task(self._live())
        await asyncio.wait([self._ready, self._work], return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            await self.end()
            raise CallFailed(self.reason or "it ended at once", why="unreachable")

    async def end(self) -> None:
        self._stop.set()
        if self._work is not None and not self._work.done():
            if not self._ready.done():
                self._work.cancel()
            await asyncio.wait([self._work])
        self._ready.cancel()

    async def list_tools(self) -> list[dict[str, Any]]:
        from mcp_types import PaginatedRequestParams

        (session, line), found, cursor = self._ready.result(), list[dict[str, Any]](), None
        for _ in range(_MAX_PAGES):
            params = PaginatedRequestParams(cursor=cursor) if cursor else None
            await self._asked(session.list_tools(params=params))
            found += line.listed
            cursor = line.cursor
            if not cursor or len(found) > _MAX_TOOLS:
                break
        return found[:_MAX_TOOLS]

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        import mcp_types as types
        from pydantic import TypeAdapter

        # Not `call_tool`: it would check results against whatever schema the server sends, without
        # an end in sight.
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=tool, arguments=arguments)
        )
        adapter: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
        session, _ = self._ready.result()
        result = await self._asked(session.send_request(request, adapter))
        if isinstance(result, types.InputRequiredResult):
            raise CallFailed("it asks for more input, which nobody can give here", why="failed")
        texts, others = [], []
        for part in result.content:
            resource = getattr(part, "resource", None)
            text = getattr(part, "text", None) or getattr(resource, "text", None)
            if isinstance(text, str):
                texts.append(text)
            elif part.type != "text":
                others.append(part.type)
        return ToolResult(
            text="\n".join(texts),
            structured=result.structured_content,
            others=tuple(others),
            is_error=result.is_error,
        )

    async def _live(self) -> None:
        from mcp import ClientSession, MCPError
        from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
        from mcp_types import METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION, Implementation

        for name in _QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        us = Implementation(name="conclave", version="1")
        try:
            async with self._way.transport(self._max_bytes, self._ended) as (read, write):
                line = _Line(JSONRPCDispatcher(read, write))
                async with ClientSession(dispatcher=line, client_info=us) as session:
                    try:
                        await session.initialize()
                    except MCPError as error:  # one that speaks only what came after 2025
                        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
                            raise
                        await session.discover()
                    self._ready.set_result((session, line))
                    await self._stop.wait()
        except asyncio.CancelledError:
            self.reason = self.reason or "it was ended"
        except BaseException as error:  # groups of what a transport raises, too
            self.reason = self.reason or _first(error)
        finally:
            self.reason = self.reason or "it was ended"

    def _ended(self, last_words: str) -> None:
        self.reason = f"its process ended{f': {last_words}' if last_words else ''}"

    async def _asked(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Raises CallFailed for all that the SDK raises, and when the session ends."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND

        asked = asyncio.ensure_future(work)
        session = cast("asyncio.Task[None]", self._work)  # it was opened
        try:
            await asyncio.wait([asked, session], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise CallFailed(self.reason, why="lost")
            return asked.result()
        except MCPError as error:
            said = error.error.message
            if error.code == TOO_LARGE or TOO_LARGE_SAID in said or "byte limit" in said:
                raise CallFailed(said, why="too_large") from None
            is_over = error.code == INVALID_REQUEST and said == "Session terminated"
            if error.code == CONNECTION_CLOSED or is_over or not self.is_open:
                self.reason = self.reason or said
                raise CallFailed(self.reason, why="lost") from None
            if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
                raise CallFailed(said, why="refused") from None
            raise CallFailed(said, why="failed") from None
        except (ValueError, RuntimeError) as error:  # pydantic's, of an answer that is none
            raise CallFailed(f"its answer is none: {error}"[:500], why="failed") from None
        finally:
            if not asked.done():
                asked.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([asked])
            if asked.done() and not asked.cancelled():
                asked.exception()  # seen


class _Line:
    """The SDK's dispatcher, which tells what a server lists as it came: the session refuses a whole
    page for one tool that is no good, and its name with it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.listed: list[dict[str, Any]] = []
        self.cursor: str | None = None

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        raw: dict[str, Any] = await self._inner.send_raw_request(method, params, opts)
        if method != "tools/list":
            return raw
        tools, cursor = raw.get("tools"), raw.get("nextCursor")
        self.listed = [t for t in tools if isinstance(t, dict)] if isinstance(tools, list) else []
        self.cursor = cursor if isinstance(cursor, str) else None
        return {**raw, "tools": [t for t in self.listed if _is_tool(t)]}

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        await self._inner.notify(method, params, opts)

    async def run(self, *args: Any, **kwargs: Any) -> None:
        await self._inner.run(*args, **kwargs)


def _is_tool(said: dict[str, Any]) -> bool:
    """Whether a session reads it; whether it is used is decided in ``discovery``."""
    from mcp_types import Tool
    from pydantic import ValidationError

    given = said.get("outputSchema", {"type": "object"})
    try:
        Tool.model_validate(said, by_name=False)
        return bool(said["inputSchema"].get("type") == given.get("type") == "object")
    except (ValidationError, AttributeError):
        return False


_BACKGROUND: set[asyncio.Task[None]] = set()
"""A loop holds its tasks weakly."""


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    _BACKGROUND.add(task)
    task.add_done_callback(_BACKGROUND.discard)


async def _from(future: Future[T]) -> T:
    return await asyncio.wrap_future(future)


def _first(error: BaseException) -> str:
    """What is wrong, out of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
