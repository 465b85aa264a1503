"""OpenAI's tools, with OpenAI's client: through the gateway to an expert and back, in turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai import AsyncOpenAI, BadRequestError, InternalServerError
from openai.types.chat import ChatCompletion

from experts.cards import OPENAI_EXTRA, ExpertCard, Prices
from experts.fake import FakeExpert
from experts.remote.expert import RemoteExpert
from experts.remote.openai_wire import OpenAIWire
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.openai_stub import OpenAIStub
from tests.orchestrator.batch.batches import make_conclave

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASKED: Any = [{"role": "user", "content": "Rain in Rome?"}]
CARD = ExpertCard(
    name="caller",
    kind="openai",
    description="",
    prices=Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
    context_tokens=1000,
    takes=OPENAI_EXTRA,
)


async def caller(stub: OpenAIStub, request: web.Request, body: dict[str, Any]) -> web.Response:
    """Looks the weather up, then says it."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        message: dict[str, Any] = {"content": f"In Rome: {last['content']}"}
    else:
        function = {"name": "weather", "arguments": '{"city": "Rome"}'}
        message = {
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return web.json_response({"choices": [choice], "usage": usage})


def with_client(
    ledger: Ledger, work: Callable[[AsyncOpenAI, OpenAIStub], Awaitable[Any]], n_calls: int = 9
) -> Any:
    async def run() -> Any:
        async with OpenAIStub({}, *[caller] * n_calls).running() as stub:
            experts = [RemoteExpert(CARD, OpenAIWire(stub.url, "m")), FakeExpert("plain", str)]
            app = create_app(make_conclave(ledger, experts), Config())
            transport = httpx.ASGITransport(app)
            async with AsyncOpenAI(
                base_url="http://it/v1",
                api_key="unused",
                max_retries=0,
                http_client=httpx.AsyncClient(transport=transport),
            ) as client:
                return await work(client, stub)

    return asyncio.run(run())


def test_a_conversation_with_a_tool(ledger: Ledger) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> list[ChatCompletion]:
        create = client.chat.completions.create
        first = await create(model="caller", messages=ASKED, tools=[WEATHER])
        message = first.choices[0].message
        assert message.tool_calls
        # As the client's own examples do it: the message goes back as it came.
        result = {
            "role": "tool",
            "tool_call_id": message.tool_calls[0].id,
            "content": "18 degrees, dry",
        }
        talk: Any = [*ASKED, message, result]
        return [first, await create(model="caller", messages=talk, tools=[WEATHER])]

    first, second = with_client(ledger, work)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Rome"},
    )
    assert second.choices[0].message.content == "In Rome: 18 degrees, dry"
    assert second.choices[0].finish_reason == "stop"
    asked = ledger.rows("SELECT * FROM calls ORDER BY call_id")
    assert [row["finish_reason"] for row in asked] == ["tool_calls", "stop"]
    assert json.loads(asked[0]["tool_calls"])[0]["function"]["name"] == "weather"


def test_a_stream_ends_with_the_calls(ledger: Ledger) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> Any:
        stub.reactions.clear()
        stub.reactions.append(streamed)
        async with client.chat.completions.stream(
            model="caller", messages=ASKED, tools=[WEATHER]
        ) as events:
            return await events.get_final_completion()

    async def streamed(
        stub: OpenAIStub, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": "{}"}}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        await response.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        return response

    final = with_client(ledger, work)
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


def test_asked_again_with_the_same_key_it_wants_the_same_call(ledger: Ledger) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> Any:
        key = {"Idempotency-Key": "k1"}
        whole = [
            await client.chat.completions.create(
                model="caller", messages=ASKED, tools=[WEATHER], extra_headers=key
            )
            for _ in range(2)
        ]
        chunks = await client.chat.completions.create(
            model="caller", messages=ASKED, tools=[WEATHER], stream=True,
            extra_headers={"Idempotency-Key": "k1"},
        )  # fmt: skip
        told = [c async for c in chunks]
        return whole, told, len(stub.requests)

    whole, told, n_asked = with_client(ledger, work)
    assert n_asked == 1
    assert whole[0].choices[0].message == whole[1].choices[0].message
    calls = [d for c in told for d in c.choices[0].delta.tool_calls or []]
    assert [(c.index, c.function.name) for c in calls] == [(0, "weather")]


def test_a_call_that_wanted_a_tool_is_not_paid_again_after_a_kill(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> tuple[ChatCompletion, int]:
        async def create() -> ChatCompletion:
            return await client.chat.completions.create(
                model="caller", messages=ASKED, tools=[WEATHER],
                extra_headers={"Idempotency-Key": "k1"},
            )  # fmt: skip

        with monkeypatch.context() as patched:
            patched.setattr(ledger, "record_answers", lambda rows: 1 / 0)  # as far as it came
            with pytest.raises(InternalServerError):
                await create()
        return await create(), len(stub.requests)

    again, n_asked = with_client(ledger, work)
    assert again.choices[0].message.tool_calls[0].function.name == "weather"
    assert n_asked == 1


async def refused(client: AsyncOpenAI, stub: OpenAIStub, **body: Any) -> str:
    with pytest.raises(BadRequestError) as problem:
        await client.chat.completions.create(**{"model": "caller", "messages": ASKED, **body})
    assert not stub.requests
    return str(problem.value)


CALLED: Any = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ],
}
RESULT: Any = {"role": "tool", "tool_call_id": "c1", "content": "dry"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "plain", "tools": [WEATHER]}, "Name one of these as the model: caller"),
        ({"tools": [WEATHER, WEATHER]}, "two functions have one name"),
        ({"tools": [WEATHER] * 129}, "at most 128"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tool_choice": "required"}, "required needs tools"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "wether"}},
            },
            "there is no tool 'wether'; known: weather",
        ),
        ({"functions": [WEATHER["function"]]}, "send them as tools"),
        ({"function_call": {"name": "weather"}}, "send it as tool_choice"),
        ({"messages": [*ASKED, CALLED]}, "tool calls without a result: c1"),
        ({"messages": [*ASKED, CALLED, *ASKED]}, "tool calls without a result: c1"),
        ({"messages": [*ASKED, RESULT]}, "must take turns"),
        ({"model": "plain", "messages": [*ASKED, CALLED, RESULT]}, "tools: not supported by"),
        ({"messages": [*ASKED, CALLED, RESULT, RESULT]}, "must take turns"),
        (
            {"messages": [*ASKED, CALLED, {**RESULT, "tool_call_id": "c2"}]},
            "'c2' answers no open call",
        ),
        ({"messages": [*ASKED, CALLED, {"role": "tool", "content": "x"}]}, "needs tool_call_id"),
        ({"messages": [{**CALLED, "role": "user", "content": "x"}]}, "only an assistant"),
    ],
)
def test_what_is_wrong_is_said(ledger: Ledger, body: dict[str, Any], message: str) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> str:
        return await refused(client, stub, **body)

    assert message in with_client(ledger, work)


@pytest.mark.parametrize(
    "body",
    [
        {"function_call": "auto"},
        {"function_call": "none"},
        {
            "messages": [
                *ASKED,
                {**CALLED, "reasoning_content": "Let me see.", "reasoning": "Hm."},
                {**RESULT, "content": None},
            ]
        },
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_taken(ledger: Ledger, body: dict[str, Any]) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> list[dict[str, Any]]:
        create: Any = client.chat.completions.create
        await create(**{"model": "caller", "messages": ASKED, "tools": [WEATHER], **body})
        return stub.requests

    [asked] = with_client(ledger, work)
    assert "function_call" not in asked
    assert "Let me see." not in json.dumps(asked)
    if "messages" in body:
        assert asked["messages"][-1] == {**RESULT, "content": ""}


@pytest.mark.parametrize("more", [{}, {"parameters": None}])
def test_a_function_may_take_nothing(ledger: Ledger, more: dict[str, Any]) -> None:
    tool: Any = {"type": "function", "function": {"name": "now", **more}}

    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> list[dict[str, Any]]:
        await client.chat.completions.create(model="caller", messages=ASKED, tools=[tool])
        return stub.requests

    [asked] = with_client(ledger, work)
    assert asked["tools"] == [{"type": "function", "function": {"name": "now"}}]


def test_choosing_none_sends_no_tools(ledger: Ledger) -> None:
    async def work(client: AsyncOpenAI, stub: OpenAIStub) -> list[dict[str, Any]]:
        for choice in ("none", "auto", "required"):
            await client.chat.completions.create(
                model="caller", messages=ASKED, tools=[WEATHER], tool_choice=choice,
                parallel_tool_calls=choice == "none",
            )  # fmt: skip
        return stub.requests

    none, auto, required = with_client(ledger, work)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & none.keys()
    assert "tool_choice" not in auto
    assert auto["parallel_tool_calls"] is False
    assert required["tool_choice"] == "required"
    assert auto["tools"] == required["tools"] == [WEATHER]
