"""What strategies and aggregators have in common: they ask by yielding."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from experts.values import Call, Completion
from orchestrator.answer import Answer

Steps = Generator[Sequence[Call], Sequence[Completion], Answer]
"""Something at work that yields calls, is sent their completions in order, and returns an answer.
Whoever asks nobody yields nothing."""
