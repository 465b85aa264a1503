"""Tools of MCP servers as experts: connections, discovery, limits, and the turns of a conversation
that calls them. The servers that come with Conclave are in ``servers/``."""
