"""The tools as an MCP server: listing, calling, progress, cancelling, errors.

The SDK keeps the protocol, of every version that it knows, on any transport. What goes wrong with a
call is a result with ``isError``, in the same words as at the REST door, so that the model that
called can read it and do better; only a tool that does not exist is an error of the protocol.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from experts.errors import did_you_mean
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.mcp.tools import Caller, Tell, Told, Tool, make_tools
from orchestrator.queries import caller_digest
from orchestrator.rest.errors import describe, error_body, explain_problem
from orchestrator.rest.gate import virtual_key_of

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

HEARTBEAT_S = 5.0
"""Between progress notifications while nothing happens: clients reset their timeouts by them."""
BILLS_S = 5.0
"""For what a cancelled call has spent to be written down."""
ERROR_META = "conclave/error"
"""In an error result's ``_meta``: OpenAI's error object, for programs."""
INSTRUCTIONS = (
    "Conclave answers questions with the cheapest set of experts that will get them right. Call "
    "`ask`; tell `feedback` whether the answer was right, so that the next ones are better."
)

_T = TypeVar("_T")
Report = Callable[[float, str], Awaitable[None]]
"""Seconds since the start, and what happened."""


def make_server(conclave: Conclave, config: Config) -> Server[Any]:
    """The server, for any transport; ``conclave`` is used and not closed."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError

    tools = make_tools(conclave, config)
    listed = types.ListToolsResult(tools=[_listed(tool) for tool in tools.values()])

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listed

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            hint = did_you_mean(params.name, list(tools))
            raise MCPError(
                code=types.INVALID_PARAMS,
                message=f"There is no tool {params.name[:80]!r}.{hint} Known: {', '.join(tools)}.",
            )

        async def report(seconds: float, message: str) -> None:
            await ctx.session.report_progress(seconds, message=message)

        try:
            asked = _checked(tool, params.arguments or {}, config.server.max_body_bytes)
            digest = caller_digest(_authorization(ctx.request))
            key = virtual_key_of(ctx.request)
            told = await _worked(
                lambda tell: tool.call(asked, Caller(tell=tell, digest=digest, key=key)), report
            )
        except _BadArguments as error:
            return _failed(error.body)
        except Exception as error:
            return _failed(describe(error)[1])
        return _succeeded(told)

    return Server(
        "conclave",
        version=metadata.version("conclave-coe"),
        title="Conclave",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _authorization(request: Any) -> str | None:
    """Of what came over HTTP; over stdio there is no request."""
    headers = getattr(request, "headers", None)
    return None if headers is None else headers.get("authorization")


class _BadArguments(Exception):
    """What a tool was given is not what it takes."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body["error"]["message"])
        self.body = body


def _checked(tool: Tool, arguments: Mapping[str, Any], max_bytes: int) -> Any:
    size = len(json.dumps(arguments, ensure_ascii=False).encode(errors="surrogatepass"))
    if size > max_bytes:
        message = f"The arguments are larger than this server's limit of {max_bytes} bytes."
        raise _BadArguments(error_body(message, "invalid_request_error", "body_too_large"))
    try:
        return tool.arguments.model_validate(arguments)
    except ValidationError as error:
        message, param, code = explain_problem(error.errors()[0], tool.arguments)
        raise _BadArguments(error_body(message, "invalid_request_error", code, param)) from None


async def _worked(work: Callable[[Tell], Awaitable[Told]], report: Report) -> Told:
    """The work's result; what it tells meanwhile is reported. When this is cancelled, so is the
    work, and what it has spent is waited for."""
    import anyio

    said: asyncio.Queue[str | None] = asyncio.Queue()  # None: no more
    # A task of its own, which is cancelled once: the SDK's scopes cancel every await again, and an
    # expert that stops has a bill to hand over.
    task = asyncio.ensure_future(work(said.put_nowait))
    task.add_done_callback(lambda _: said.put_nowait(None))
    started = time.perf_counter()
    try:
        while (message := await _heard(said)) is not None:
            await report(time.perf_counter() - started, message)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task], timeout=BILLS_S)


async def _heard(said: asyncio.Queue[str | None]) -> str | None:
    try:
        return await asyncio.wait_for(said.get(), HEARTBEAT_S)
    except TimeoutError:
        return "still working"


def _listed(tool: Tool) -> types.Tool:
    import mcp_types as types

    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=tool.result.model_json_schema(mode="serialization"),
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.is_read_only,
            destructive_hint=False,
            idempotent_hint=tool.is_idempotent,
            open_world_hint=tool.asks_experts,
        ),
    )


def _succeeded(told: Told) -> types.CallToolResult:
    import mcp_types as types

    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in told.texts]
    return types.CallToolResult(content=content, structured_content=dict(told.structured))


def _failed(body: Mapping[str, Any]) -> types.CallToolResult:
    import mcp_types as types

    error = body["error"]
    return types.CallToolResult(
        content=[types.TextContent(text=error["message"])],
        is_error=True,
        _meta={ERROR_META: error},
    )
