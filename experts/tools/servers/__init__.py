"""MCP servers that come with Conclave: each is a module that runs as a program of its own, over
standard input and output. They need the extra ``tools``."""

BUNDLED = {
    **{f: f"experts.tools.servers.{f}" for f in ("math", "units", "dates", "lists", "text")},
    "iox": "experts.tools.iox.server",
}
"""Module by name."""
TYPICAL_S = 0.005
"""Of a processor, for a call of theirs, the protocol on both sides included."""
