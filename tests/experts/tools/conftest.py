"""Tool experts on a scripted server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from experts.cards import ExpertCard, Prices
from experts.tools.discovery import read_listing
from experts.tools.expert import ToolExpert
from experts.tools.limits import ToolLimits
from experts.tools.server import ToolServer, ToolThread
from experts.tools.spec import ToolSpec
from experts.tools.stdio import Command
from experts.values import Arm, Call, Completion, Message, Sampling, ToolCall

PROGRAM = Path(__file__).parent / "scripted_server.py"
CALL_USD = 0.25


@dataclass
class Scripted:
    """A scripted server in a folder of its own, and what it was asked."""

    folder: Path
    thread: ToolThread
    waits: list[float] = field(default_factory=list)
    """Pauses that were made before it was started again."""

    def server(self, *, listing: object = None, env: dict[str, str] | None = None) -> ToolServer:
        words = [sys.executable, "-S", str(PROGRAM), str(self.folder)]
        if listing is not None:
            path = self.folder / "listing.json"
            path.write_text(json.dumps(listing))
            words.append(str(path))

        async def wait(seconds: float) -> None:
            self.waits.append(seconds)

        way = Command(words=tuple(words), env=env or {}, cwd=self.folder)
        return ToolServer("s", way, self.thread, max_result_bytes=10_000, sleep=wait)

    def expert(self, tool: str, server: ToolServer | None = None, **limits: Any) -> ToolExpert:
        server = server or self.server()
        limit = ToolLimits(**{"max_result_bytes": 10_000, **limits})
        return ToolExpert(card_of(spec_of(tool)), server, limit, cwd=self.folder)

    @property
    def calls(self) -> list[list[Any]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pids(self) -> list[int]:
        path = self.folder / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    """None of its processes outlives the test."""
    thread = ToolThread()
    made = Scripted(tmp_path, thread)
    yield made
    thread.close()
    assert not [pid for pid in made.pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def spec_of(tool: str) -> ToolSpec:
    from tests.experts.tools.scripted_server import TOOLS

    found = read_listing("s", TOOLS)
    assert not found.refused
    return next(spec for spec in found.tools if spec.name == tool)


def card_of(spec: ToolSpec, call_usd: float = CALL_USD) -> ExpertCard:
    return ExpertCard(
        name=spec.card_name,
        kind="tool",
        description=spec.description,
        prices=Prices.a_call(call_usd),
        context_tokens=10_000,
        tool=spec,
    )


def in_words(text: str, **more: Any) -> Call:
    message = Message(role="user", content=text)
    return Call(query_id="q", arm=Arm("s.x"), messages=(message,), sampling=Sampling(), **more)


def by_call(name: str, arguments: object, **more: Any) -> Call:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    message = Message(
        role="assistant", content="", tool_calls=(ToolCall(id="c", name=name, arguments=written),)
    )
    return replace(in_words("", **more), messages=(message,))


def ask(expert: ToolExpert, *calls: Call) -> list[Completion]:
    return asyncio.run(expert.complete(calls))
