"""``/mcp`` of a real server process, and of servers that stop."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest
import uvicorn
from mcp import Client

from experts.fake import FakeExpert
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import echo, make_conclave
from tests.orchestrator.mcp.clients import MODES, Progress, error_of, text
from tests.server import Server

CAPITAL = {"question": "What is the capital of France?"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_asks_the_server(server: Server, mode: str) -> None:
    heard = Progress()

    async def body() -> None:
        async with Client(f"{server.url}/mcp", mode=mode) as client:
            assert client.server_info.name == "conclave"
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["ask", "route", "experts", "feedback"]
            result = await client.call_tool("ask", CAPITAL, progress_callback=heard)
            told = result.structured_content
            assert text(result) == told["text"] == "Paris"
            assert "countries" in told["contributors"]
            assert 0 < told["p_correct"] <= 1
            assert len(server.calls(told["decision_id"])) == told["n_calls"]
            said = {"decision_id": told["decision_id"], "correct": True}
            assert not (await client.call_tool("feedback", said)).is_error
            route = (await client.call_tool("route", CAPITAL)).structured_content
            assert route["scores"][0]["arm"] == "countries"
            pool = (await client.call_tool("experts")).structured_content
            best = {e["name"]: e["success_by_category"] for e in pool["experts"]}
            assert best["countries"]["countries"] > 0.9
            wrong = await client.call_tool("ask", {**CAPITAL, "model": "countires"})
            assert "Did you mean 'countries'?" in text(wrong)

    asyncio.run(body())
    assert heard.messages[0].startswith("plan ")
    assert any("countries answered" in m for m in heard.messages)


def test_many_agents_at_once(server: Server) -> None:
    countries = {"France": "Paris", "Japan": "Tokyo", "Chile": "Santiago", "Kenya": "Nairobi"}

    async def ask(country: str, mode: str) -> str:
        async with Client(f"{server.url}/mcp", mode=mode) as client:
            question = f"What is the capital of {country}?"
            return text(await client.call_tool("ask", {"question": question, "model": "countries"}))

    async def body() -> list[str]:
        return await asyncio.gather(*(ask(c, mode) for c in countries for mode in MODES))

    assert asyncio.run(body()) == [city for city in countries.values() for _ in MODES]


def test_tools_and_the_rest_door_are_one_conclave(server: Server) -> None:
    async def body() -> str:
        async with Client(f"{server.url}/mcp") as client:
            result = await client.call_tool("ask", {**CAPITAL, "model": "countries"})
            return str(result.structured_content["decision_id"])

    decision_id = asyncio.run(body())
    said = {"decision_id": decision_id, "correct": True}
    assert httpx.post(f"{server.url}/v1/feedback", json=said).json()["recorded"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example:80"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_pages_of_others_in_a_browser_cannot_use_the_tools(
    server: Server, headers: dict[str, str], status: int
) -> None:
    response = httpx.post(f"{server.url}/mcp", json=INITIALIZE, headers={**ACCEPT, **headers})
    assert response.status_code == status


def test_the_owner_can_name_further_hosts(ledger: Ledger) -> None:
    named = {"host": "192.168.7.7", "allowed_hosts": ["conclave.example"]}
    config = Config.model_validate({"server": named})
    asked = {
        host: _first_status(ledger, config, host)
        for host in ("conclave.example", "conclave.example:8443", "192.168.7.7:8000", "evil:80")
    }
    assert list(asked.values()) == [200, 200, 200, 421]


def _first_status(ledger: Ledger, config: Config, host: str) -> int:
    async def body() -> int:
        app = create_app(make_conclave(ledger), config)
        transport = httpx.ASGITransport(app)
        async with (
            app.api.router.lifespan_context(app.api),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            headers = {**ACCEPT, "host": host}
            # No more than its headers: a session's stream has no end here.
            response = await client.post("/mcp", json={**PING, "id": "x"}, headers=headers)
            return 200 if response.status_code == 400 else response.status_code

    ledger.close = lambda: None  # type: ignore[method-assign]
    return asyncio.run(body())


def test_a_body_that_is_too_large_is_refused_as_at_the_rest_door(server: Server) -> None:
    body = json.dumps({**PING, "params": {"x": "x" * 1_000_001}})
    headers = {**ACCEPT, "content-type": "application/json"}
    response = httpx.post(f"{server.url}/mcp", content=body, headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_stops_bills_what_it_cuts_short(ledger: Ledger, mode: str) -> None:
    expert = FakeExpert("logic", echo, latency_s=600)
    ledger.close = lambda: None  # type: ignore[method-assign]

    async def body() -> None:
        app = create_app(make_conclave(ledger, [expert]), Config(limits={"timeout_s": 900}))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0)
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            serving = asyncio.create_task(server.serve(sockets=[listener]))

            async def ask() -> None:
                async with Client(url, mode=mode) as client:
                    await client.call_tool("ask", {"question": "Why?", "model": "logic"})

            asking = asyncio.create_task(ask())
            while not expert.batches:
                await asyncio.sleep(0.01)
            server.should_exit = True
            await serving
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(body())
    [call] = ledger.rows("SELECT * FROM calls WHERE purpose = 'answer'")
    assert call["finish_reason"] == "cancelled"
    assert call["cost_usd"] > 0


def test_errors_of_tools_come_over_http_as_results(server: Server) -> None:
    async def body() -> None:
        async with Client(f"{server.url}/mcp") as client:
            result = await client.call_tool("ask", {**CAPITAL, "max_cost_usd": "much"})
            assert error_of(result)["param"] == "max_cost_usd"

    asyncio.run(body())
