"""Whose request is next in a slot: callers in turn by the work they had, the urgent before all.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over callers, without weights: the
caller who was given least work so far is next. Who was away does not save up: on coming back a
caller starts at the level of the least served of those who waited meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from experts.residency.policies.base import QueueView
from experts.residency.values import Waiting

_MANY = 1000
"""Callers are remembered; beyond it, it is looked who need not be."""


class Turns:
    def __init__(self, urgent_after_s: float) -> None:
        self.urgent_after_s = urgent_after_s
        """Who waited this long is served in order of age, whoever it is: the bound is for all."""
        self._given_s: dict[str, float] = {}
        self._level_s = 0.0
        self._n_kept = _MANY

    def next_of(self, queues: Sequence[QueueView], now_s: float) -> Waiting:
        """Of queues that are not empty."""
        oldest = min((q.oldest for q in queues), key=lambda r: r.arrival_s)
        if now_s - oldest.arrival_s >= self.urgent_after_s:
            return oldest
        callers = _callers(queues)
        if len(callers) == 1:
            return oldest
        least = min(callers, key=lambda c: (self._level(c), c))
        theirs = [q.oldest_of(least) for q in queues if least in q.callers]
        return min(theirs, key=lambda r: r.arrival_s)

    def given(self, request: Waiting) -> None:
        level = self._level(request.caller)
        self._level_s = max(self._level_s, level)
        self._given_s[request.caller] = level + request.service_s
        if len(self._given_s) > self._n_kept:  # those below the level stand where the unknown do
            self._given_s = {c: s for c, s in self._given_s.items() if s > self._level_s}
            self._n_kept = max(_MANY, 2 * len(self._given_s))

    def _level(self, caller: str) -> float:
        return max(self._given_s.get(caller, 0.0), self._level_s)


def _callers(queues: Iterable[QueueView]) -> set[str]:
    return {caller for q in queues for caller in q.callers}
