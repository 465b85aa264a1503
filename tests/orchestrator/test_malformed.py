"""Ten thousand bodies that are no requests: each gets a clean answer that says what was wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from experts.fake import FakeExpert
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import echo, make_conclave

N_A_PATH = 2500
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "echo", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 5,
        "temperature": 0.5, "n": 1, "stop": ["x"], "tools": None, "stream": False,
        "conclave": {"max_calls": 2},
    },
    "/v1/route": {"model": "echo", "messages": [{"role": "user", "content": "Why?"}]},
    "/v1/feedback": {"decision_id": "dec-1", "correct": True, "comment": "so"},
    "/v1/runs": {"model": "echo", "messages": [{"role": "user", "content": "Why?"}]},
}  # fmt: skip

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([1e999, -1e999, float("nan"), 2**70, -0.0, 1e-320]),
    st.text(st.characters(), max_size=8),  # half characters, too
    st.sampled_from(["", " ", "\0", "dec-1", "echo", "conclave", "\ud800", "x" * 3000]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, (*path, i))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = put(value[path[0]], path[1:], new)
    return changed


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A valid one that was changed somewhere, or cut, or anything at all."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        return json.dumps(draw(values)).encode()
    body = VALID[path]
    for _ in range(draw(st.integers(1, 3))):
        body = put(body, draw(st.sampled_from(list(places(body)))), draw(values))
    if kind == 2 and isinstance(body, dict):
        body = {**body, draw(st.text(max_size=8)): draw(values)}
    said = json.dumps(body).encode()
    return said[: draw(st.integers(0, len(said)))] if kind == 3 else said


async def posted(app: ASGIApp, path: str, content: bytes) -> tuple[int, bytes]:
    """As a server would ask it, without the server."""
    sent: list[Message] = []
    body = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "extensions": {},
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ],
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[ASGIApp, asyncio.Runner]]:
    with Ledger(":memory:") as ledger, asyncio.Runner() as runner:
        yield create_app(make_conclave(ledger, [FakeExpert("echo", echo)]), Config()), runner


@pytest.mark.parametrize("path", list(VALID))
def test_only_clean_answers(path: str, door: tuple[ASGIApp, asyncio.Runner]) -> None:
    app, runner = door
    seen: dict[int, int] = {}

    @given(bodies(path))
    @settings(
        max_examples=N_A_PATH, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(content: bytes) -> None:
        status, body = runner.run(posted(app, path, content))
        seen[status] = seen.get(status, 0) + 1
        assert status < 500, body
        if status >= 400:
            error = json.loads(body)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["message"]

    ask()
    assert sum(n for status, n in seen.items() if 400 <= status < 500) > N_A_PATH / 2


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xef\xbb\xbf{}", b"{" * 5000, b"[" * 5000, b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"model": "echo", "model": "conclave"}', b"NaN", b"1e99999", b'"' + b"\\ud800" * 3 + b'"',
        b'{"messages": [{"role": "user", "content": "\\u0000"}]', b"\xff\xfe{}", b"null", b"0",
        b'{"model": "echo", "messages": ' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", list(VALID))
def test_a_corpus_of_what_parsers_trip_over(
    path: str, content: bytes, door: tuple[ASGIApp, asyncio.Runner]
) -> None:
    app, runner = door
    status, body = runner.run(posted(app, path, content))
    assert 400 <= status < 500
    assert json.loads(body)["error"]["message"]
