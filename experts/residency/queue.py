"""Requests that wait for one model, oldest first, and per caller."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, KeysView

from experts.residency.values import Waiting


class Queue:
    """Every operation takes constant time, however long the queue: a hundred thousand may wait.

    Ordered dicts, not plain ones: finding the first of a plain dict takes as long as there were
    deletions before it."""

    __slots__ = ("_all", "_arrivals_s", "_by_caller", "work_s")

    def __init__(self) -> None:
        self._all: OrderedDict[str, Waiting] = OrderedDict()
        self._by_caller: dict[str, OrderedDict[str, Waiting]] = {}
        self._arrivals_s = 0.0
        self.work_s = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._all.values())

    @property
    def oldest(self) -> Waiting:
        return next(iter(self._all.values()))

    @property
    def callers(self) -> KeysView[str]:
        return self._by_caller.keys()

    def oldest_of(self, caller: str) -> Waiting:
        return next(iter(self._by_caller[caller].values()))

    def waited_s(self, now_s: float) -> float:
        return max(0.0, len(self._all) * now_s - self._arrivals_s)

    def put(self, request: Waiting) -> None:
        """At its place by arrival: at the end, unless it comes back from a slot that failed."""
        late = bool(self._all) and request.arrival_s < next(reversed(self._all.values())).arrival_s
        of_caller = self._by_caller.setdefault(request.caller, OrderedDict())
        self._all[request.request_id] = of_caller[request.request_id] = request
        self.work_s += request.service_s
        self._arrivals_s += request.arrival_s
        if late:
            for queue in (self._all, of_caller):
                in_order = sorted(queue.values(), key=lambda r: r.arrival_s)
                for waiting in in_order:
                    queue.move_to_end(waiting.request_id)

    def take(self, request_id: str) -> None:
        request = self._all.pop(request_id)
        of_caller = self._by_caller[request.caller]
        del of_caller[request_id]
        if not of_caller:
            del self._by_caller[request.caller]
        # Adding and subtracting leaves crumbs; an empty queue has no work.
        self.work_s = self.work_s - request.service_s if self._all else 0.0
        self._arrivals_s = self._arrivals_s - request.arrival_s if self._all else 0.0
