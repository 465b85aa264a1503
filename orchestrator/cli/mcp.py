"""``conclave mcp``: Conclave as a tool, for agents that start it as a process."""

from __future__ import annotations

import typer

from orchestrator.cli.options import ConfigOption


def register(app: typer.Typer) -> None:
    app.command()(mcp)


def mcp(config_file: ConfigOption = None) -> None:
    """Be an MCP server on standard input and output: tools to ask, route, list experts, and give
    feedback.

    The same tools are at /mcp of conclave serve.

    [dim]{"mcpServers": {"conclave": {"command": "conclave", "args": ["mcp"]}}}[/dim]
    """
    import asyncio

    from orchestrator.config import load_config
    from orchestrator.mcp.stdio import serve_stdio

    asyncio.run(serve_stdio(load_config(config_file)))
