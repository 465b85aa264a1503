"""Benchmarks of time: decisions, the server."""
