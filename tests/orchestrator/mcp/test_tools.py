"""The tools, called by the SDK's client in this process, with scripted experts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import anyio
import httpx
import pytest
from fastapi.testclient import TestClient
from mcp import MCPError

from experts.fake import FakeExpert
from experts.values import Call, Completion
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from orchestrator.mcp import server as mcp_server
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import make_conclave
from tests.orchestrator.mcp.clients import MODES, Progress, error_of, in_process, text

ANSWERS = {"1+1?": "2", "And plus one?": "3"}
TALK = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And plus one?"},
]


@pytest.fixture
def sums() -> FakeExpert:
    return FakeExpert("sums", ANSWERS)


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed_with_schemas_and_what_they_do(ledger: Ledger, mode: str) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [FakeExpert("sums", {})]), mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["ask", "route", "experts", "feedback"]
        assert all(tool.description and tool.output_schema for tool in tools.values())
        asked = tools["ask"].input_schema["properties"]
        assert {"question", "messages", "model", "max_cost_usd", "experts"} <= set(asked)
        assert all("description" in field for field in asked.values())
        hints = {name: tool.annotations for name, tool in tools.items()}
        assert [name for name, hint in hints.items() if hint.read_only_hint] == ["route", "experts"]
        assert [name for name, hint in hints.items() if hint.open_world_hint] == ["ask"]
        assert not hints["ask"].idempotent_hint
        assert hints["feedback"].idempotent_hint
        assert not any(hint.destructive_hint for hint in hints.values())

    asyncio.run(body())


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_comes_with_who_said_it_and_its_bill(
    ledger: Ledger, sums: FakeExpert, mode: str
) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [sums]), mode=mode) as client:
            result = await client.call_tool("ask", {"question": "1+1?", "model": "sums"})
        told = result.structured_content
        assert text(result) == told["text"] == told["answer"] == "2"
        assert told["contributors"] == ["sums"]
        assert told["plan"] == "only"
        assert told["n_calls"] == 1
        assert told["cost_usd"] == pytest.approx(2e-6)
        assert told["decision_id"] in result.content[1].text
        [call] = ledger.rows("SELECT * FROM calls")
        assert call["decision_id"] == told["decision_id"]
        assert ledger.rows("SELECT source FROM queries") == [{"source": "mcp"}]

    asyncio.run(body())


def test_a_conversation_is_asked_whole(ledger: Ledger, sums: FakeExpert) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [sums])) as client:
            result = await client.call_tool("ask", {"messages": TALK, "model": "sums"})
        assert text(result) == "3"
        assert [m.content for m in sums.batches[0][0].messages] == ["1+1?", "2", "And plus one?"]

    asyncio.run(body())


class Waiting(FakeExpert):
    """Answers when the asker has been told that it is waited for."""

    def __init__(self, heard: Progress) -> None:
        super().__init__("sums", ANSWERS)
        self._heard = heard

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        while self._heard.messages[-1:] != ["still working"]:
            await asyncio.sleep(0.001)
        return await super().complete(calls)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_is_told_what_happens_while_it_waits(
    ledger: Ledger, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_server, "HEARTBEAT_S", 0.01)
    heard = Progress()

    async def body() -> None:
        async with in_process(make_conclave(ledger, [Waiting(heard)]), mode=mode) as client:
            asked = {"question": "1+1?", "model": "sums"}
            await client.call_tool("ask", asked, progress_callback=heard)

    asyncio.run(body())
    [planned, *_, answered] = [m for m in heard.messages if m != "still working"]
    assert planned == "plan only: the caller named sums"
    assert answered == heard.messages[-1] == "sums answered in 0 s for 2e-06 $"
    assert heard.seconds == sorted(set(heard.seconds)), "progress must grow"


def test_feedback_over_http_is_of_who_sends_the_same_authorization(
    ledger: Ledger, sums: FakeExpert
) -> None:
    headers = {"accept": "application/json, text/event-stream", "host": "localhost"}
    with TestClient(create_app(make_conclave(ledger, [sums]), Config())) as client:
        asked = {"model": "sums", "messages": [{"role": "user", "content": "1+1?"}]}
        told = client.post("/v1/chat/completions", json=asked).json()
        said = {"decision_id": told["conclave"]["decision_id"], "correct": True}
        client.post("/v1/feedback", json=said, headers={"authorization": "Bearer me"})
        begin = {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }  # fmt: skip
        opened = client.post(
            "/mcp", headers=headers,
            json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": begin},
        )  # fmt: skip
        headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        for more in ({"authorization": "Bearer me"}, {"authorization": "Bearer you"}, {}):
            body = {
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "feedback", "arguments": said},
            }  # fmt: skip
            sent = client.post("/mcp", json=body, headers={**headers, **more})
            assert sent.status_code == 200, sent.text
        rows = ledger.rows("SELECT caller FROM verdicts ORDER BY verdict_id")
    rest, me, you, nobody = [row["caller"] for row in rows]
    assert rest == me != you
    assert nobody == ""


def test_feedback_is_kept(ledger: Ledger, sums: FakeExpert) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [sums])) as client:
            asked = await client.call_tool("ask", {"question": "1+1?", "model": "sums"})
            decision = asked.structured_content["decision_id"]
            said = {"decision_id": decision, "score": 0.5, "comment": "half"}
            result = await client.call_tool("feedback", said)
            assert result.structured_content == {"decision_id": decision, "recorded": True}
            unknown = await client.call_tool("feedback", {"decision_id": "dec-0", "correct": True})
            assert error_of(unknown)["code"] == "unknown_decision"
            assert text(unknown) == "There is no decision 'dec-0' in the ledger."
        [verdict] = ledger.rows("SELECT * FROM verdicts")
        assert (verdict["score"], verdict["comment"]) == (0.5, "half")

    asyncio.run(body())


def test_experts_and_routes_before_anything_is_fitted(ledger: Ledger, sums: FakeExpert) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [sums])) as client:
            told = (await client.call_tool("experts")).structured_content
            assert [e["name"] for e in told["experts"]] == ["sums"]
            assert told["experts"][0]["input_usd_per_mtok"] == 1.0
            assert not told["is_fitted"]
            assert [p["name"] for p in told["policies"]] == ["conclave", "best", "cheap"]
            route = await client.call_tool("route", {"question": "1+1?", "model": "sums"})
            assert route.structured_content["plan"] == "only"
            assert not sums.batches, "nobody is asked"
            refused = await client.call_tool("ask", {"question": "1+1?"})
            assert error_of(refused)["code"] == "router_not_fitted"

    asyncio.run(body())


WRONG: list[tuple[str, dict[str, object], dict[str, object] | None]] = [
    ("ask", {"question": "1+1?", "model": "sumz"}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "experts": ["nobody"]}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "max_cost_usd": 1e-9}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "max_cost_usd": "much"}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "max_calls": 0}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "max_calls": 1.5}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "timeout_s": -1}, {}),
    ("ask", {"question": "1+1?", "model": "sums", "max_cost": 1}, {}),
    ("ask", {"question": "words " * 5000, "model": "sums"}, {}),
    ("ask", {"messages": [*TALK, TALK[-1]], "model": "sums"}, {}),
    ("ask", {"messages": [{"role": "user"}], "model": "sums"}, {}),
    ("ask", {"messages": [{"role": "wizard", "content": "x"}], "model": "sums"}, {}),
    ("ask", {"messages": [], "model": "sums"}, None),
    ("ask", {"question": "1+1?", "messages": TALK, "model": "sums"}, None),
    ("ask", {"question": " ", "model": "sums"}, None),
    ("ask", {"question": 5, "model": "sums"}, None),
    ("ask", {"question": "half \ud800", "model": "sums"}, None),
    ("ask", {}, None),
    ("route", {"question": "1+1?", "model": "sumz"}, {}),
    ("experts", {"all": True}, None),
    ("feedback", {"decision_id": "dec-0"}, {}),
    ("feedback", {"decision_id": "dec-0", "score": 2}, {}),
    ("feedback", {"decision_id": "dec-0", "correct": True, "who": "me"}, {}),
]
"""Calls that cannot be answered; where the last is a dict, REST has the same words for it."""


@pytest.mark.parametrize(("tool", "arguments", "rest"), WRONG)
def test_what_is_wrong_is_told_as_at_the_rest_door(
    ledger: Ledger,
    sums: FakeExpert,
    tool: str,
    arguments: dict[str, object],
    rest: dict[str, object] | None,
) -> None:
    async def body() -> dict[str, object]:
        async with in_process(make_conclave(ledger, [sums])) as client:
            result = await client.call_tool(tool, arguments)
            error = error_of(result)
            assert text(result) == error["message"]
            assert len(text(result)) < 500
            again = await client.call_tool("ask", {"question": "1+1?", "model": "sums"})
            assert text(again) == "2", "the server goes on"
            return error

    error = asyncio.run(body())
    if rest is None:
        return
    told = _over_rest(ledger, sums, tool, arguments)
    assert error["code"] == told["code"]
    if "conclave." not in str(told["param"]):
        assert error["message"] == told["message"]
        return
    assert error["message"] == str(told["message"]).replace("conclave.", "")


def _over_rest(
    ledger: Ledger, expert: FakeExpert, tool: str, arguments: dict[str, object]
) -> dict[str, object]:
    """The error that REST has for the same."""
    paths = {"ask": "chat/completions", "route": "route", "feedback": "feedback"}
    sent = dict(arguments)
    if tool != "feedback":
        messages = [{"role": "user", "content": sent.pop("question", "")}]
        asked = {"model": sent.pop("model"), "messages": sent.pop("messages", messages)}
        sent = {**asked, "conclave": sent}
    # Not entered as a context: nothing starts, and the ledger stays open.
    client = TestClient(create_app(make_conclave(ledger, [expert]), Config()))
    response: httpx.Response = client.post(f"/v1/{paths[tool]}", json=sent)
    assert response.is_error
    told: dict[str, object] = response.json()["error"]
    return told


def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(
    ledger: Ledger, sums: FakeExpert
) -> None:
    async def body() -> None:
        async with in_process(make_conclave(ledger, [sums])) as client:
            with pytest.raises(MCPError, match="Did you mean 'ask'"):
                await client.call_tool("asks", {})

    asyncio.run(body())


def test_huge_input_is_refused_before_it_is_looked_at(ledger: Ledger, sums: FakeExpert) -> None:
    async def body() -> None:
        config = Config.model_validate({"server": {"max_body_bytes": 1000}})
        async with in_process(make_conclave(ledger, [sums]), config) as client:
            result = await client.call_tool("ask", {"question": "é" * 500, "model": "sums"})
            assert error_of(result)["code"] == "body_too_large"
            assert "1000 bytes" in text(result)
        assert not ledger.rows("SELECT * FROM queries")

    asyncio.run(body())


def test_experts_that_fail_are_an_error_with_their_words(ledger: Ledger) -> None:
    def broken(call: Call) -> str:
        raise RuntimeError("out of order")

    async def body() -> None:
        async with in_process(make_conclave(ledger, [FakeExpert("sums", broken)])) as client:
            result = await client.call_tool("ask", {"question": "1+1?", "model": "sums"})
            assert error_of(result)["code"] == "experts_failed"
            assert "sums failed: out of order" in text(result)

    asyncio.run(body())


def test_a_bug_is_not_shown_to_the_client(
    ledger: Ledger, sums: FakeExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclave = make_conclave(ledger, [sums])
    monkeypatch.setattr(conclave, "decide", lambda *args, **more: 1 / 0)

    async def body() -> None:
        async with in_process(conclave) as client:
            result = await client.call_tool("ask", {"question": "1+1?", "model": "sums"})
            assert text(result) == "Internal error; the server's log has it."

    asyncio.run(body())


class Slow(FakeExpert):
    """Its bill takes a moment, as one of engines."""

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        completions = await super().complete(calls)
        await asyncio.sleep(0.05)
        return completions


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_is_given_up_stops_its_experts_and_is_billed(ledger: Ledger, mode: str) -> None:
    slow = Slow("sums", ANSWERS, latency_s=600)

    async def body() -> None:
        async with in_process(make_conclave(ledger, [slow]), mode=mode) as client:
            async with anyio.create_task_group() as tg:
                tg.start_soon(client.call_tool, "ask", {"question": "1+1?", "model": "sums"})
                while not slow.batches:
                    await asyncio.sleep(0.01)
                tg.cancel_scope.cancel()
            while not (calls := ledger.rows("SELECT * FROM calls")):
                await asyncio.sleep(0.01)
            assert [c["finish_reason"] for c in calls] == ["cancelled"]
            assert calls[0]["cost_usd"] == pytest.approx(1e-6)
            told = await client.call_tool("experts")
            assert not told.is_error, "the connection lives"

    asyncio.run(body())


def test_calls_side_by_side_each_get_their_own_answer(ledger: Ledger) -> None:
    expert = FakeExpert("sums", lambda call: call.messages[-1].content.upper(), latency_s=0.01)

    async def body() -> None:
        async with in_process(make_conclave(ledger, [expert])) as client:
            asked = [f"question {i}" for i in range(50)]
            results = await asyncio.gather(
                *(client.call_tool("ask", {"question": q, "model": "sums"}) for q in asked)
            )
        assert [text(r) for r in results] == [q.upper() for q in asked]
        decisions = {r.structured_content["decision_id"] for r in results}
        assert len(decisions) == len(ledger.rows("SELECT * FROM calls")) == 50
        spent = sum(r.structured_content["cost_usd"] for r in results)
        assert math.isclose(spent, ledger.total_cost_usd())

    asyncio.run(body())
