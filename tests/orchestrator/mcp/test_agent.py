"""docs/mcp.md: its agent runs, and its configurations are ones."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from mcp import StdioServerParameters
from pydantic import Field

from orchestrator.config import ServerSettings, load_config
from orchestrator.mcp.schemas import AskArguments, AskResult
from orchestrator.rest.schemas import Extension
from tests.server import Server

PAGE = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
TASK = "Find out the capital of France."


class Scripted(BaseChatModel):
    """A chat model that asks ``ask`` once, and says what it was told."""

    model: str = "countries"
    """Which it wants asked."""
    offered: list[str] = Field(default_factory=list)
    heard: list[BaseMessage] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **more: Any) -> Scripted:
        self.offered += [tool.name for tool in tools]
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **more: Any) -> ChatResult:
        self.heard[:] = messages
        if isinstance(messages[-1], HumanMessage):
            arguments = {"question": "What is the capital of France?", "model": self.model}
            call = {"name": "ask", "args": arguments, "id": "call-1", "type": "tool_call"}
            said = AIMessage(content="", tool_calls=[call])
        else:
            said = AIMessage(content=f"I was told: {messages[-1].content}")
        return ChatResult(generations=[ChatGeneration(message=said)])


def _program(marked: str) -> dict[str, Any]:
    [code] = [text for language, text in BLOCKS if language == "python" and marked in text]
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_an_agent_of_langgraph_asks(server: Server) -> None:
    run_agent = _program("create_react_agent")["run_agent"]
    model = Scripted()
    answer = asyncio.run(run_agent(model, f"{server.url}/mcp", TASK))
    assert model.offered == ["ask", "route", "experts", "feedback"]
    assert answer.startswith("I was told: Paris\n(Conclave: countries")
    [decision_id] = re.findall(r"dec-\w+", answer)
    [call] = server.calls(decision_id)
    assert call["expert"] == "countries"


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_an_agent_reads_what_it_did_wrong(server: Server) -> None:
    run_agent = _program("create_react_agent")["run_agent"]
    model = Scripted(model="countires")
    asyncio.run(run_agent(model, f"{server.url}/mcp", TASK))
    assert isinstance(model.heard[-1], ToolMessage)
    assert "Did you mean 'countries'?" in model.heard[-1].content


def test_the_sdks_example_asks(server: Server) -> None:
    names = _program("StdioServerParameters")
    assert isinstance(names["server"], StdioServerParameters)
    names["server"] = f"{server.url}/mcp"
    assert asyncio.run(names["ask"]("What is the capital of France?")) == "Paris"


def test_configurations_are_ones(tmp_path: Path) -> None:
    for language, text in BLOCKS:
        if language == "json":
            [configured] = json.loads(text)["mcpServers"].values()
            assert configured.get("args", ["mcp"])[0] == "mcp"
            assert configured.get("url", "/mcp").endswith("/mcp")
        if language == "yaml":
            path = tmp_path / "conclave.yaml"
            path.write_text(text)
            assert load_config(path).server.allowed_hosts


def test_every_field_is_on_the_page() -> None:
    shown = set(re.findall(r"`(\w+)`", PAGE)) | {
        "host",
        "port",
        "max_body_bytes",
        "idempotency_kept_s",
        "open_to_all",
        "redis_url",
    }
    shown |= {"stand_ins", "router_cost_usd", "n_calls"}  # the dots
    wanted = {*AskArguments.model_fields, *Extension.model_fields, *AskResult.model_fields}
    assert wanted <= shown
    assert set(ServerSettings.model_fields) <= shown | set(re.findall(r"^  (\w+):", PAGE, re.M))
