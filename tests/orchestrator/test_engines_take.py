"""What a request may ask of engines that Conclave manages: forms, log-probabilities, penalties."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from experts.residency.policies.bounded import BoundedGrouping
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.engines import Lab, ask, lab
from tests.experts.test_tool_calls import HERMES, WEATHER
from tests.orchestrator.batch.batches import make_conclave

SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "string"}}}


def chat(it: Lab, ledger: Ledger, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """Responses to requests that come at once."""

    async def ask() -> list[httpx.Response]:
        app = create_app(make_conclave(ledger, it.experts.values()), Config())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://it") as client:
            return await asyncio.gather(
                *(client.post("/v1/chat/completions", json=body) for body in bodies)
            )

    return asyncio.run(ask())


def request(model: str = "logic", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Who are you?"}], **fields}


def test_forms_and_penalties_reach_the_engine(tmp_path: Path, ledger: Ledger) -> None:
    with lab(tmp_path, names=("logic",)) as it:
        it.note()
        asked = [
            request(response_format=SCHEMA, seed=7),
            request(guided_choice=["a", "b"]),
            request(structured_outputs={"whitespace_pattern": " ?"}, guided_regex="[ab]"),
            request(frequency_penalty=1.5, presence_penalty=-1, logit_bias={"17": -100}),
        ]
        for response in chat(it, ledger, *asked):
            assert response.json()["choices"][0]["message"]["content"] == "I am logic"
        bodies = it.asked
        told = [b["structured_outputs"] for b in bodies if "structured_outputs" in b]
        assert {"choice": ["a", "b"]} in told
        assert {"whitespace_pattern": " ?", "regex": "[ab]"} in told
        assert [(b["response_format"], b["seed"]) for b in bodies if "response_format" in b] == [
            (SCHEMA, 7)
        ]
        [pen] = [b for b in bodies if "logit_bias" in b]
        assert (pen["frequency_penalty"], pen["presence_penalty"]) == (1.5, -1)
        assert pen["logit_bias"] == {"17": -100}


def test_log_probabilities_of_tokens_come_back_as_texts(tmp_path: Path, ledger: Ledger) -> None:
    with lab(tmp_path, names=("logic",)) as it:
        [response] = chat(it, ledger, request(logprobs=True, top_logprobs=2, n=2))
    for choice in response.json()["choices"]:
        content = choice["logprobs"]["content"]
        assert "".join(t["token"] for t in content).strip() == "I am logic"  # the end is no token
        for token in content:
            assert token["logprob"] == -0.25
            assert bytes(token["bytes"]).decode() == token["token"]
            assert [t["logprob"] for t in token["top_logprobs"]] == [-0.25, -0.5]


def test_a_plain_request_is_told_none(tmp_path: Path, ledger: Ledger) -> None:
    with lab(tmp_path, names=("logic",)) as it:
        [response] = chat(it, ledger, request())
    assert response.json()["choices"][0]["logprobs"] is None


TOOLS = (("tools", json.dumps([WEATHER])),)
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'


def test_tools_reach_a_model_in_its_own_form(tmp_path: Path, ledger: Ledger) -> None:
    with lab(tmp_path, names=("logic",), tool_template=HERMES) as it:
        it.teach(ask("logic", sampling={"extra": TOOLS}), f"I look. {CALL}")
        it.note()
        whole, streamed = chat(
            it, ledger, request(tools=[WEATHER]), request(tools=[WEATHER], stream=True)
        )
    choice = whole.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    # What turns out to be a call was not shown as words before.
    assert "<tool_call>" not in streamed.text
    assert '"tool_calls"' in streamed.text
    # The engine is not told of tools: its own template and parser are of another model.
    assert not [b for b in it.asked if "tools" in b]


def test_a_forced_call_is_a_grammar_for_the_engine(tmp_path: Path, ledger: Ledger) -> None:
    said = json.dumps([{"name": "weather", "arguments": {"city": "Rome"}}])
    extra = (("tool_choice", '"required"'), *TOOLS)
    with lab(tmp_path, names=("logic",), tool_template=HERMES) as it:
        it.teach(ask("logic", sampling={"extra": extra}), said)
        it.note()
        [response] = chat(it, ledger, request(tools=[WEATHER], tool_choice="required"))
        schema = it.asked[0]["structured_outputs"]["json"]
    assert (
        response.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    )
    assert (
        schema["items"]["anyOf"][0]["properties"]["arguments"]
        == (WEATHER["function"]["parameters"])
    )


def test_what_the_engine_refuses_is_the_caller_s_mistake(tmp_path: Path, ledger: Ledger) -> None:
    with lab(tmp_path, names=("logic",)) as it:
        it.order("refuse_call")
        [response] = chat(it, ledger, request(guided_regex="((("))
        assert response.status_code == 400
        assert "logic: I do not like it. Asking again will not help" in response.text


def test_a_caller_s_flood_does_not_drown_another(tmp_path: Path, ledger: Ledger) -> None:
    """One user with 200 requests and another with one: fair turns, through ``user``."""
    policy = BoundedGrouping()
    with lab(tmp_path, names=("logic",), policy=policy, concurrency=4, call_s=0.02) as it:
        answered: list[str] = []

        async def ask() -> None:
            app = create_app(make_conclave(ledger, it.experts.values()), Config())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://it") as client:

                async def one(user: str) -> None:
                    response = await client.post("/v1/chat/completions", json=request(user=user))
                    assert response.status_code == 200
                    answered.append(user)

                flood = [asyncio.create_task(one("flood")) for _ in range(200)]
                while not answered:
                    await asyncio.sleep(0)
                await one("person")
                n_before = len(answered) - 1
                await asyncio.gather(*flood)
                assert n_before < 100

        asyncio.run(ask())
        assert len(answered) == 201
