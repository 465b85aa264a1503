"""What the configuration says about tools: ``kind: mcp`` and ``kind: tools``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orchestrator.config.fields import Strict, VariableName, Word

ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9.:-]*[a-z0-9])?$")]


class ToolPriceSettings(Strict):
    """Dollars a call. There is no default: an unknown price is an error."""

    call_usd: float = Field(ge=0, allow_inf_nan=False)


class ToolLimitSettings(Strict):
    """What one tool may use; what is left out is as for its server."""

    prices: ToolPriceSettings | None = None
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_result_bytes: int | None = Field(default=None, ge=1, le=100_000_000)
    max_concurrent: int | None = Field(default=None, ge=1, le=1024)
    max_calls_per_query: int | None = Field(default=None, ge=1)
    hosts: list[HostPattern] | None = None
    paths: list[Path] | None = None


class _ServerSettings(Strict):
    tools: list[str] | None = None
    """Only these; None is all that the server has."""
    alone: bool | list[str] = False
    """Tools that the router may choose to answer a question by themselves: these, or (true) all
    that take one text. They are arms then, so the router has to be fitted with outcomes of theirs.
    Others are asked by models, and by name."""
    timeout_s: float = Field(default=30, gt=0, allow_inf_nan=False)
    """Of a call, waiting for its turn included."""
    max_result_bytes: int = Field(default=100_000, ge=1, le=100_000_000)
    max_concurrent: int = Field(default=8, ge=1, le=1024)
    """Calls of one tool at a time."""
    max_calls_per_query: int = Field(default=16, ge=1)
    """Of one tool."""
    start_s: float = Field(default=60, gt=0, allow_inf_nan=False)
    """To answer after a start."""
    version: str = ""
    """Change it when what the tools do changes behind the same description: record anew."""


class MCPServerSettings(_ServerSettings):
    """An MCP server: a command that speaks over standard input and output, or a URL."""

    kind: Literal["mcp"]
    name: ServerName
    """Its tools are the experts NAME.TOOL."""
    command: str | None = Field(default=None, min_length=1)
    args: list[Word] = []
    env: list[VariableName] = ["HOME", "LANG", "PATH"]
    """Names of environment variables that the process gets, and nothing else; values are never
    written in the file."""
    cwd: Path | None = None
    """Its working folder; None is that of the file."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    """Of streamable HTTP, often with /mcp at its end."""
    api_key_env: VariableName | None = None
    """Environment variable with a key that is sent as bearer."""
    headers: dict[str, VariableName] = {}
    """Further headers, each from an environment variable."""
    prices: ToolPriceSettings
    hosts: list[HostPattern] | None = None
    """Hosts that arguments may name; None is any, [] none. What it protects: docs/tools.md."""
    paths: list[Path] | None = None
    """Folders and files that arguments may name."""
    per_tool: dict[str, ToolLimitSettings] = {}

    def placed(self, base: Path) -> MCPServerSettings:
        """With paths relative to the folder ``base``. A command with a slash in it is a path;
        without, it is looked for on the PATH."""

        def at(path: Path) -> Path:
            return (base / path.expanduser()).absolute()

        command = self.command
        if command is not None and "/" in command:
            command = str(at(Path(command)))
        more = {
            name: limits.model_copy(update={"paths": [at(p) for p in limits.paths]})
            for name, limits in self.per_tool.items()
            if limits.paths is not None
        }
        return self.model_copy(
            update={
                "command": command,
                "cwd": at(self.cwd or Path()),
                "paths": None if self.paths is None else [at(p) for p in self.paths],
                "per_tool": {**self.per_tool, **more},
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, given: Any) -> Any:
        if isinstance(given, dict):
            has = [key for key in ("command", "url") if given.get(key)]
            if len(has) != 1:
                raise ValueError(
                    "a tool server needs `command` (with `args`) or `url`, and not both"
                )
            wrong = {"command": ("api_key_env", "headers"), "url": ("args", "env", "cwd")}[has[0]]
            for key in wrong:
                if key in given:
                    raise ValueError(f"`{key}` says nothing beside `{has[0]}`. Take it out.")
        return given


class BundledToolSettings(_ServerSettings):
    """A server that comes with Conclave, run with this Python."""

    kind: Literal["tools"]
    bundled: Literal["math", "units", "dates", "lists", "text", "iox"]
    name: ServerName | None = None
    """None is the name of what is bundled."""
    prices: ToolPriceSettings | None = None
    """None is what a typical call's seconds of this machine cost, by ``host_usd_per_s``."""
    per_tool: dict[str, ToolLimitSettings] = {}
