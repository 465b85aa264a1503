"""An OpenAI-compatible upstream that answers at once: what a gateway costs is all that is left.

Streams have as many pieces as ``max_tokens`` says, numbered, so that a lost one is seen. A process
of its own: ``python -m eval.benchmarks.gateway.upstream --port 9000``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any, cast

import httptools
import uvloop

MODEL = "upstream"
GAP_S = 0.02
"""Between the pieces of a stream: fifty tokens a second, a quick model's pace."""
_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def piece(i: int) -> str:
    """The text of a stream's piece."""
    return f"{i} "


def _response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _choice(**said: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, "logprobs": None, **said}


_ANSWER = _response(
    json.dumps(
        {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [
                _choice(message={"role": "assistant", "content": "Four."}, finish_reason="stop")
            ],
            "usage": _USAGE,
        }
    ).encode()
)  # fmt: skip
_MODELS = _response(
    json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": choices, **more,
    }  # fmt: skip
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._path = b""
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def connection_lost(self, exc: Exception | None) -> None:
        for stream in self._streams:
            stream.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._path.endswith(b"/chat/completions"):
            self._transport.write(_MODELS)
        elif b'"stream":true' not in self._body and b'"stream": true' not in self._body:
            self._transport.write(_ANSWER)
        else:
            stream = asyncio.get_running_loop().create_task(self._stream(json.loads(self._body)))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)

    async def _stream(self, asked: dict[str, Any]) -> None:
        write = self._transport.write
        for i in range(asked.get("max_tokens") or asked["max_completion_tokens"]):
            if i:
                await asyncio.sleep(GAP_S)
            event = _event([_choice(delta={"role": "assistant", "content": piece(i)})])
            write(_chunk(event) if i else _STREAM_HEAD + _chunk(event))
        last = _event([_choice(delta={}, finish_reason="stop")])
        usage = _event([], usage=_USAGE)
        write(_chunk(last) + _chunk(usage) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"{port}\n")  # whoever started it waits for this
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    uvloop.run(_serve(parser.parse_args().port))
