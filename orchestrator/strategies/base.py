"""What a strategy is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from experts.expert import Pool
from experts.values import Call, Completion, Query
from orchestrator.answer import Answer
from routers.scores import QueryScores

Steps = Generator[Sequence[Call], Sequence[Completion], Answer]
"""A strategy at work: yields calls, is sent their completions in order, returns an answer."""

Strategy = Callable[[Query, QueryScores, Pool], Steps]
