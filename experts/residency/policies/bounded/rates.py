"""How often each model is asked for lately."""

from __future__ import annotations

import math
from collections.abc import Iterable

from experts.residency.values import Waiting


class Rates:
    """Requests a second and their mean seconds, with exponential forgetting over ``memory_s``."""

    def __init__(self, memory_s: float) -> None:
        self.memory_s = memory_s
        self._count: dict[str, tuple[float, float]] = {}
        """Forgetful number of requests, and when it was taken."""
        self._service_s: dict[str, float] = {}

    def note(self, requests: Iterable[Waiting], now_s: float) -> None:
        for request in requests:
            count = self._decayed(request.model, now_s) + 1
            self._count[request.model] = (count, now_s)
            before = self._service_s.get(request.model, request.service_s)
            self._service_s[request.model] = before + 0.1 * (request.service_s - before)

    def per_s(self, model: str, now_s: float) -> float:
        return self._decayed(model, now_s) / self.memory_s

    def service_s(self, model: str) -> float:
        """Mean seconds of its requests lately; 0 before the first."""
        return self._service_s.get(model, 0.0)

    def _decayed(self, model: str, now_s: float) -> float:
        count, at_s = self._count.get(model, (0.0, now_s))
        return count * math.exp((at_s - now_s) / self.memory_s)
