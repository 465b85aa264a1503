"""Plain requests for a named expert go a shorter way, and nobody can tell by what comes of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from experts.fake import FakeExpert
from experts.values import Call
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from orchestrator.rest.plain import plain_chat
from orchestrator.rest.schemas import ChatRequest
from tests.orchestrator.batch.batches import echo, make_conclave

CONFIG = Config()
MOST = CONFIG.limits.max_tokens
LONG_WAY = {"presence_penalty": 0}
"""Asks for nothing, and is not plain."""

contents = st.sampled_from(["Why?", " ", "", "Wie geht's, Ä?", "a\u2028b", None, 3, [], ["Why?"]])
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "robot", None])
messages = st.fixed_dictionaries(
    {"role": roles, "content": contents}, optional={"name": st.sampled_from(["ann", None])}
)
FIELDS = ("max_tokens", "temperature", "seed", "stream", "user", "n", "top_p", "nonsense")
numbers = st.sampled_from([0, 1, 2, 7, -1, 0.0, 0.5, 2.0, 2.1, 1e999, MOST, MOST + 1, 2**31])
anything = st.one_of(numbers, st.booleans(), st.none(), st.sampled_from(["x", "", [], {}]))
requests = st.fixed_dictionaries(
    {"model": st.sampled_from(["it", "", 3, None]), "messages": st.lists(messages, max_size=4)},
    optional=dict.fromkeys(FIELDS, anything),
)
talks = st.lists(st.sampled_from(["Why?", "So."]), min_size=1, max_size=5)


def by_turns(said: list[str], *, system: bool) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(said)
    turns = [{"role": r, "content": c} for r, c in zip(roles, said, strict=False)]
    return [{"role": "system", "content": "Be brief."}, *turns] if system else turns


def agree(body: dict[str, Any]) -> bool:
    """Whether it is plain; if so, what the schema reads is the same."""
    content = json.dumps(body).encode()
    plain = plain_chat(content, max_tokens=MOST)
    if plain is None:
        return False
    full = ChatRequest.model_validate_json(content)
    assert (full.model, full.values(), full.sampling(CONFIG), full.user or "", full.stream) == (
        plain.model,
        plain.messages,
        plain.sampling,
        plain.user,
        plain.stream,
    )
    assert (full.n, full.extra(), full.conclave.model_fields_set) == (1, (), set())
    return True


@given(requests)
def test_what_is_plain_the_schema_reads_in_the_same_way(body: dict[str, Any]) -> None:
    agree(body)


@given(talks, st.booleans(), st.integers(1, MOST), st.floats(0, 2), st.integers(0, 2**31 - 1))
def test_conversations_by_turns_are_plain(
    said: list[str], system: bool, max_tokens: int, temperature: float, seed: int
) -> None:
    body = {
        "model": "it", "messages": by_turns(said, system=system), "max_tokens": max_tokens,
        "temperature": temperature, "seed": seed, "user": "ann",
    }  # fmt: skip
    assert agree(body) == (len(said) % 2 == 1)  # a user has the last word


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b'{"messages": [{}]}', b"\xff"])
def test_what_is_no_request_is_not_plain(content: bytes) -> None:
    assert plain_chat(content, max_tokens=MOST) is None
    with pytest.raises(ValidationError):
        ChatRequest.model_validate_json(content)


# The answer, its bill, and what is written down.


def failing(call: Call) -> str:
    raise RuntimeError("out of order")


def told(ledger: Ledger, expert: FakeExpert, *bodies: dict[str, Any]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        app = create_app(make_conclave(ledger, [expert]), CONFIG)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://conclave"
        ) as client:
            return [await client.post("/v1/chat/completions", json=body) for body in bodies]

    return asyncio.run(ask())


def without_ids(row: dict[str, Any]) -> dict[str, Any]:
    own = {"at", "latency_s", "query_id", "decision_id", "call_id", "id", "created"}
    return {name: value for name, value in row.items() if name not in own}


TABLES = ("queries", "decisions", "calls", "answers")


@pytest.mark.parametrize("reply", [echo, failing])
def test_both_ways_come_to_the_same(ledger: Ledger, reply: Any) -> None:
    body = {"model": "it", "messages": by_turns(["Why?", "So.", "And?"], system=True), "seed": 7}
    expert = FakeExpert("it", reply)
    short, long = told(ledger, expert, body, body | LONG_WAY)
    assert short.status_code == long.status_code == (200 if reply is echo else 502)
    one, other = (r.json() for r in (short, long))
    if reply is echo:
        one["conclave"], other["conclave"] = (without_ids(r["conclave"]) for r in (one, other))
    assert without_ids(one) == without_ids(other)
    for table in TABLES:
        first, second = map(without_ids, ledger.rows(f"SELECT * FROM {table} ORDER BY at"))
        assert first == second, table
    calls = [call for batch in expert.batches for call in batch]
    assert len(calls) == 2
