"""Policies: what to serve, load and prefetch next, from how things stand. One module each."""
