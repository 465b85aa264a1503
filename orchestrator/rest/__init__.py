"""The OpenAI-compatible REST endpoint."""
