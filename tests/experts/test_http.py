"""The HTTP client below experts behind APIs, against servers that say what they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.remote.http import BrokenOff, CannotConnect, Server

T = TypeVar("T")
OK = b"HTTP/1.1 200 OK\r\n"
MAX = 1 << 20


class Scripted:
    """Sends for each request, over all connections, the next of what it is given; None hangs up."""

    def __init__(self, *answers: Sequence[bytes | None]) -> None:
        self._answers = iter(answers)
        self.n_connections = 0
        self.requests: list[bytes] = []
        self.is_gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for part in next(self._answers):
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def listening(*answers: Sequence[bytes | None]) -> AsyncIterator[tuple[Scripted, Server]]:
    scripted = Scripted(*answers)
    async with await asyncio.start_server(scripted.serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        yield scripted, Server(f"http://127.0.0.1:{port}/v1")


async def body_of(server: Server, said: bytes = b"{}") -> tuple[int, bytes]:
    response = await server.post(server.head("/v1/chat", {"authorization": "Bearer x"}), said)
    try:
        return response.status, await response.read(max_bytes=MAX)
    finally:
        response.release()


def with_server(
    work: Callable[[Scripted, Server], Awaitable[T]], *answers: Sequence[bytes | None]
) -> T:
    async def run() -> T:
        async with listening(*answers) as (scripted, server):
            return await work(scripted, server)

    return asyncio.run(run())


def sized(body: bytes) -> bytes:
    return OK + b"content-length: %d\r\n\r\n" % len(body) + body


def test_requests_share_a_connection() -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        assert [await body_of(server, b"ask") for _ in range(3)] == [(200, b"yes")] * 3
        assert scripted.n_connections == 1
        assert scripted.requests[0] == scripted.requests[2]
        assert scripted.requests[0].endswith(b"\r\n\r\nask")

    with_server(work, *[[sized(b"yes")]] * 3)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_a_body_is_the_same_however_it_is_cut(chunks: list[bytes], cuts: list[int]) -> None:
    said = OK + b"transfer-encoding: chunked\r\n\r\n"
    said += b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    places = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    parts = [said[a:b] for a, b in pairwise(places)]

    async def work(scripted: Scripted, server: Server) -> None:
        assert await body_of(server) == (200, b"".join(chunks))
        assert await body_of(server) == (200, b"again")
        assert scripted.n_connections == 1

    with_server(work, parts, [sized(b"again")])


@pytest.mark.parametrize(
    "said",
    [
        [OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab", None],
        [OK + b"\r\nab", None],  # until the connection ends
        [b"HTTP/1.1 100 Continue\r\n\r\n", sized(b"ab")],
        [b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", None],
    ],
)
def test_other_ways_to_say_it(said: Sequence[bytes | None]) -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        assert await body_of(server) == (200, b"ab")
        assert await body_of(server) == (200, b"next")

    with_server(work, said, [sized(b"next")])


@pytest.mark.parametrize(
    "said",
    [
        [None],
        [b"HTTP/1.1 200", None],
        [OK + b"content-length: 5\r\n\r\nab", None],
        [OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab", None],
        [OK + b"transfer-encoding: chunked\r\n\r\nnonsense\r\n"],
        [b"\x00\x01 nonsense\r\n\r\n"],
    ],
)
def test_what_breaks_off_or_is_no_http(said: Sequence[bytes | None]) -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        with pytest.raises(BrokenOff):
            await body_of(server)
        assert await body_of(server) == (200, b"next")
        assert scripted.n_connections == 2

    with_server(work, said, [sized(b"next")])


def test_a_connection_that_idled_until_its_server_closed_it() -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        assert await body_of(server) == (200, b"a")
        await asyncio.sleep(0.01)  # for the end of the connection to come
        assert await body_of(server) == (200, b"b")
        assert scripted.n_connections == 2

    with_server(work, [sized(b"a"), None], [sized(b"b")])


def test_whoever_gives_up_is_heard_of_by_the_server() -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        asking = asyncio.create_task(body_of(server))
        while not scripted.requests:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        async with asyncio.timeout(5):
            await scripted.is_gone.wait()
        response = await server.post(server.head("/", {}), b"")
        assert await response.next_part() == b"x"
        response.release()  # with more to come
        async with asyncio.timeout(5):
            scripted.is_gone.clear()
            await scripted.is_gone.wait()

    async def hang(scripted: Scripted, server: Server) -> None:
        await work(scripted, server)

    with_server(hang, [OK], [OK + b"content-length: 9\r\n\r\nx"])


def test_a_reply_that_is_too_long() -> None:
    async def work(scripted: Scripted, server: Server) -> None:
        response = await server.post(server.head("/", {}), b"")
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            await response.read(max_bytes=10)
        response.release()

    with_server(work, [sized(b"x" * 11)])


def test_a_server_that_says_more_than_is_taken_has_to_wait() -> None:
    n_bytes = 64 << 20

    async def work(scripted: Scripted, server: Server) -> None:
        response = await server.post(server.head("/", {}), b"")
        size, most = 0, 0
        while (part := await response.next_part()) is not None:
            size += len(part)
            most = max(most, response.n_waiting)
            await asyncio.sleep(0)
        assert size == n_bytes
        assert most < 4 << 20
        response.release()

    with_server(work, [OK + b"content-length: %d\r\n\r\n" % n_bytes, *[b"x" * (1 << 20)] * 64])


def test_nobody_listens() -> None:
    async def ask() -> None:
        async with listening() as (_, server):
            pass
        with pytest.raises(CannotConnect):
            await body_of(server)

    asyncio.run(ask())


@pytest.mark.parametrize("url", ["ftp://x/v1", "http:///v1", "x"])
def test_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="no http or https URL"):
        Server(url)


def test_a_header_is_one_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        Server("http://x").head("/", {"authorization": "Bearer a\r\nx: y"})
