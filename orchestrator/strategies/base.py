"""What a strategy is."""

from __future__ import annotations

from collections.abc import Callable

from experts.expert import Pool
from experts.values import Query
from orchestrator.steps import Steps
from routers.scores import QueryScores

__all__ = ["Steps", "Strategy"]

Strategy = Callable[[Query, QueryScores, Pool], Steps]
"""The run that the answer comes out of keeps limits and history (orchestrator/drivers/run.py)."""
