"""The server at ``/mcp`` of ``conclave serve``: streamable HTTP, in the same process, on the same
Conclave.

A page in a browser can reach servers on its machine, and by rebinding a name even read what they
say; so the SDK looks at the Host and Origin headers. Known are this machine's own names, the
address that is listened on, and the owner's ``server.allowed_hosts``.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from starlette.routing import Route

from orchestrator.conclave import Conclave
from orchestrator.config import Config, ServerSettings
from orchestrator.mcp.server import make_server

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings

PATH = "/mcp"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (compared with, not listened on)


class MCPOverHTTP:
    """A route, and what must run while it is served."""

    def __init__(self, conclave: Conclave, config: Config) -> None:
        from mcp.server.streamable_http_manager import (
            StreamableHTTPASGIApp,
            StreamableHTTPSessionManager,
        )

        self._sessions = StreamableHTTPSessionManager(
            make_server(conclave, config),
            security_settings=_security(config.server),
            max_request_body_size=config.server.max_body_bytes,
        )
        self.route = Route(PATH, StreamableHTTPASGIApp(self._sessions), include_in_schema=False)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Serves while entered; leaving it stops the tools that are being called, and waits for
        their bills."""
        return self._sessions.run()


def _security(settings: ServerSettings) -> TransportSecuritySettings:
    from mcp.server.transport_security import TransportSecuritySettings

    own = [] if settings.host in _EVERYWHERE else [settings.host]
    own = [f"[{host}]" if ":" in host else host for host in own]
    names = list(dict.fromkeys([*_LOOPBACK, *own, *settings.allowed_hosts]))
    hosts = [form for name in names for form in (name, f"{name}:*")]
    return TransportSecuritySettings(
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts],
    )
