"""Fields of OpenAI's protocol that only an expert behind an API takes reach it, and come back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from experts.cards import OPENAI_EXTRA, ExpertCard, Prices
from experts.remote.expert import RemoteExpert
from experts.remote.openai_wire import OpenAIWire
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.openai_stub import OpenAIStub
from tests.orchestrator.batch.batches import make_conclave

CARD = ExpertCard(
    name="words",
    kind="openai",
    description="",
    prices=Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
    context_tokens=1000,
    takes=OPENAI_EXTRA,
)
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "string"}}}


def chat(ledger: Ledger, **fields: Any) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """The response, and what the server behind was asked."""

    async def ask() -> tuple[httpx.Response, list[dict[str, Any]]]:
        async with OpenAIStub({"?": "Paris"}).running() as stub:
            expert = RemoteExpert(CARD, OpenAIWire(stub.url, "words"))
            app = create_app(make_conclave(ledger, [expert]), Config())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://it") as client:
                body = {"model": "words", "messages": [{"role": "user", "content": "?"}], **fields}
                response = await client.post("/v1/chat/completions", json=body)
            return response, stub.requests

    return asyncio.run(ask())


def test_guided_output_reaches_the_expert(ledger: Ledger) -> None:
    response, asked = chat(ledger, response_format=SCHEMA, guided_choice=["Paris", "Rome"])
    assert response.status_code == 200
    assert asked[0]["response_format"] == SCHEMA
    assert asked[0]["guided_choice"] == ["Paris", "Rome"]


def test_logprobs_come_back(ledger: Ledger) -> None:
    response, asked = chat(ledger, logprobs=True, top_logprobs=2, n=2, seed=5)
    assert [a["top_logprobs"] for a in asked] == [2, 2]
    assert asked[0]["seed"] != asked[1]["seed"]
    for choice in response.json()["choices"]:
        [token] = choice["logprobs"]["content"]
        assert (token["token"], token["logprob"]) == ("Paris", -0.1)


def test_what_asks_for_nothing_is_not_sent(ledger: Ledger) -> None:
    response, asked = chat(ledger, presence_penalty=0, logit_bias={}, response_format=None)
    assert response.json()["choices"][0]["logprobs"] is None
    assert not {"presence_penalty", "logit_bias", "response_format"} & asked[0].keys()
