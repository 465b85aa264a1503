"""What ``skills`` raises: it imports nothing of ours, so its error has a root of its own."""

from __future__ import annotations


class SkillsError(ValueError):
    """A taxonomy or an embedder that cannot be used as it was given; says what to do."""
