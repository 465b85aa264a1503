"""The official SDK's client, and what is asked of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.mcp.server import make_server

MODES = ["auto", "legacy"]
"""The protocol without sessions (2026-07-28), and the one before it."""


def in_process(conclave: Conclave, config: Config | None = None, mode: str = "auto") -> Client:
    return Client(make_server(conclave, config or Config()), mode=mode)


def started(folder: Path) -> StdioServerParameters:
    """``conclave mcp``, with ``folder`` as its own and as where it starts."""
    return StdioServerParameters(
        command=str(Path(sys.executable).with_name("conclave")),
        args=["mcp"],
        env={**os.environ, "CONCLAVE_HOME": str(folder)},
        cwd=folder,
    )


class Progress:
    """What a client was told while it waited."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.messages: list[str] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.seconds.append(progress)
        self.messages.append(message or "")


def text(result: CallToolResult) -> str:
    return result.content[0].text


def error_of(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is None
    return result.meta["conclave/error"]
