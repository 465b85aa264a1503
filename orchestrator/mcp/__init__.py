"""Conclave as a tool that agents call: an MCP server, over stdio and streamable HTTP."""
