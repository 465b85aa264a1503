"""Asking over HTTP, as fast as answers come: so many connections, each with one request at a time.

A client of its own, because one that does much would be what is measured: requests are bytes made
beforehand, and answers are looked at when the clock has stopped.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from eval.benchmarks.gateway.upstream import GAP_S
from experts.errors import ExpertFailure

_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where to ask, and as whom."""

    base_url: str
    """Up to and with ``/v1``."""
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one run saw; seconds, in the order of the answers."""

    latencies_s: list[float]
    """From the request's first byte to the answer's last."""
    first_s: list[float]
    """To the first byte of the answer's body."""
    wall_s: float
    statuses: dict[int, int]
    """How many answers had which status."""
    bodies: list[bytes]
    """Of streams: all of them. Else the first."""


def request_bytes(target: Target, *, n_pieces: int | None) -> bytes:
    """A chat completion; n_pieces: of a stream, None for an answer that comes whole."""
    url = urlsplit(f"{target.base_url}/chat/completions")
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": "What is two plus two?"}],
        "max_tokens": n_pieces or 16,
    }
    if n_pieces is not None:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    headers = {
        "host": url.netloc,
        "content-type": "application/json",
        "content-length": str(len(data)),
        **target.headers,
    }
    lines = [f"POST {url.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + data


def ask_for(
    target: Target, *, n_connections: int, seconds: float, n_pieces: int | None = None
) -> Asked:
    """Ask for so long; requests that are under way then are waited for. Raises ExpertFailure where
    a connection is lost or nothing comes."""
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_ask(target, n_connections, seconds, n_pieces))
    finally:
        gc.enable()


async def _ask(target: Target, n_connections: int, seconds: float, n_pieces: int | None) -> Asked:
    loop = asyncio.get_running_loop()
    url = urlsplit(target.base_url)
    run = _Run(request_bytes(target, n_pieces=n_pieces), n_pieces is not None)
    asking = []
    for _ in range(n_connections):
        _, asker = await loop.create_connection(
            lambda: _Asker(run), str(url.hostname), url.port or 80
        )
        asking.append(asker)
    run.begun = time.perf_counter()
    run.until = run.begun + seconds
    # Streams that begin together end together, and begin together again: it would be one burst
    # after the other that is measured.
    spread_s = (n_pieces or 0) * GAP_S / n_connections
    for i, asker in enumerate(asking):
        loop.call_later(i * spread_s, asker.ask)
    try:
        async with asyncio.timeout(seconds + _PATIENCE_S):
            await asyncio.gather(*(asker.done for asker in asking))
    except TimeoutError:
        raise ExpertFailure(f"{target.base_url} stopped answering.") from None
    for asker in asking:
        asker.transport.close()
    return Asked(
        latencies_s=run.latencies_s,
        first_s=run.first_s,
        wall_s=run.ended - run.begun,
        statuses=run.statuses,
        bodies=run.bodies,
    )


class _Run:
    """What all connections share."""

    def __init__(self, request: bytes, keeps_all: bool) -> None:
        self.request, self.keeps_all = request, keeps_all
        self.begun = self.until = self.ended = 0.0
        self.latencies_s: list[float] = []
        self.first_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self.bodies: list[bytes] = []


class _Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ExpertFailure(f"The connection was lost: {exc}."))

    def ask(self) -> None:
        self._parts: list[bytes] = []
        self._asked = time.perf_counter()
        self.transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._parts:
            self._run.first_s.append(time.perf_counter() - self._asked)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        now, run = time.perf_counter(), self._run
        status = self._parser.get_status_code()
        run.statuses[status] = run.statuses.get(status, 0) + 1
        run.latencies_s.append(now - self._asked)
        run.ended = now
        if run.keeps_all or not run.bodies:
            run.bodies.append(b"".join(self._parts))
        if now < run.until:
            self.ask()
        else:
            self.done.set_result(None)
