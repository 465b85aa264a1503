"""A tool behind a URL: the SDK's own server over streamable HTTP, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from experts.errors import ToolServerFailed
from experts.tools.discovery import discover
from experts.tools.expert import ToolExpert
from experts.tools.http import Endpoint
from experts.tools.limits import ToolLimits
from experts.tools.server import ToolServer, ToolThread
from tests.experts.tools.conftest import CALL_USD, ask, card_of, in_words, spec_of

KEY = {"authorization": "Bearer let-me-in"}


def made() -> MCPServer:
    server = MCPServer("far", log_level="ERROR")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def echo(text: str) -> str:
        """Says it again."""
        return text

    @server.tool()
    def big(n: str) -> str:
        """So many bytes."""
        return "x" * int(n)

    @server.tool()
    async def slow(text: str) -> str:
        """Takes for ever."""
        await asyncio.sleep(3600)
        return text

    return server


class Served:
    """An ASGI app on a port of its own; asked for a key, it wants one."""

    def __init__(self, app: Any, port: int = 0, *, wants_key: bool = False) -> None:
        self.keys: list[str | None] = []

        async def checked(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                key = dict(scope["headers"]).get(b"authorization", b"").decode() or None
                self.keys.append(key)
                if wants_key and key != KEY["authorization"]:
                    await send({"type": "http.response.start", "status": 401, "headers": []})
                    await send({"type": "http.response.body", "body": b""})
                    return
            await app(scope, receive, send)

        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()  # at once: whoever connects before the thread serves is heard later
        self.port = self._listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(checked, log_level="critical", timeout_graceful_shutdown=1, ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


@contextmanager
def served(app: Any, port: int = 0, **more: Any) -> Iterator[Served]:
    it = Served(app, port, **more)
    try:
        yield it
    finally:
        it.stop()


@pytest.fixture
def thread() -> Iterator[ToolThread]:
    it = ToolThread()
    yield it
    it.close()


async def no_wait(seconds: float) -> None:
    return None


def far(thread: ToolThread, url: str, headers: dict[str, str] | None = None) -> ToolServer:
    way = Endpoint(url=url, headers=headers or {})
    return ToolServer("far", way, thread, max_result_bytes=10_000, sleep=no_wait)


def experts(server: ToolServer, **limits: Any) -> dict[str, ToolExpert]:
    return {
        spec.name: ToolExpert(card_of(spec), server, ToolLimits(**limits), cwd=Path())
        for spec in discover(server).tools
    }


@pytest.mark.parametrize("json_response", [False, True])
def test_it_is_listed_called_bounded_and_given_up(thread: ToolThread, json_response: bool) -> None:
    with served(made().streamable_http_app(json_response=json_response)) as it:
        found = experts(far(thread, it.url), max_result_bytes=10_000, timeout_s=20)
        assert set(found) == {"echo", "big", "slow"}
        [said] = ask(found["echo"], in_words("hello"))
        assert (said.text, said.cost_usd) == ("hello", CALL_USD)
        [big] = ask(found["big"], in_words("10000000"))
        assert (big.error_code, big.cost_usd) == ("failed", CALL_USD)
        assert "105,536 bytes" in (big.error or "") or "105536 byte" in (big.error or "")
        [late] = ask(found["slow"], in_words("x", timeout_s=0.2))
        assert late.error_code == "timeout"
        [fine] = ask(found["echo"], in_words("still here"))
        assert fine.text == "still here"
        thread.close()  # before the server, which waits for its streams


def test_its_key_is_sent_and_shown_nowhere(thread: ToolThread) -> None:
    with served(made().streamable_http_app(), wants_key=True) as it:
        way = Endpoint(url=f"{it.url}?token=secret", headers=KEY)
        assert "let-me-in" not in repr(way)
        assert "secret" not in str(way)
        [said] = ask(experts(far(thread, it.url, KEY))["echo"], in_words("x"))
        assert said.ok
        assert set(it.keys) == {KEY["authorization"]}
        thread.close()


def test_whoever_lacks_a_key_is_told_of_the_status(thread: ToolThread) -> None:
    with served(made().streamable_http_app(), wants_key=True) as it:
        with pytest.raises(ToolServerFailed, match=r"HTTP status 401 \(Unauthorized\)"):
            far(thread, it.url).list_now()
        thread.close()


def test_a_server_that_went_away_is_found_again(thread: ToolThread) -> None:
    with served(made().streamable_http_app()) as it:
        server = far(thread, it.url)
        found = experts(server, timeout_s=20)
        assert ask(found["echo"], in_words("x"))[0].ok
        port = it.port
    [gone] = ask(found["big"], in_words("1"))
    assert gone.error_code in ("failed", "unreachable")
    [gone] = ask(found["big"], in_words("1"))
    assert (gone.error_code, gone.cost_usd) == ("unreachable", 0.0)
    with served(made().streamable_http_app(), port):
        [back] = ask(found["echo"], in_words("back"))
        assert back.text == "back", back.error
        thread.close()


def test_what_is_no_tool_server_is_said_to_be_none(thread: ToolThread) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", b"text/html")]})  # fmt: skip
        await send({"type": "http.response.body", "body": b"<html>"})

    with served(app) as it:
        expert = ToolExpert(card_of(spec_of("echo")), far(thread, it.url), ToolLimits(), cwd=Path())
        [done] = ask(expert, in_words("x"))
        assert done.error_code == "unreachable"
        assert "text/html" in (done.error or "")


def test_compressed_answers_are_refused(thread: ToolThread) -> None:
    """Ten kilobytes can unfold into ten megabytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    with served(app) as it:
        expert = ToolExpert(card_of(spec_of("echo")), far(thread, it.url), ToolLimits(), cwd=Path())
        [done] = ask(expert, in_words("x"))
        assert "compressed" in (done.error or "")
