"""Requests in the order of their arrival, over several slots: the frame of the classic policies.

A request joins the line of a slot when it arrives: of one where its model is, or will be when the
line comes to it; else of the slot that has the least work in its line. A slot serves its line in
order, and loads what the head of it needs. What classic policies differ in is who is evicted.

It does not reorder: that is the very thing that costs first-come policies their throughput.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from experts.residency.policies.base import Action, Load, Serve, SlotView, View
from experts.residency.policies.eviction import can_begin, fits, make_room
from experts.residency.values import Waiting

VictimOrder = Callable[[View, SlotView, "Lines"], list[str]]
"""Residents of a slot, who should leave first."""


class Lines:
    """A line of requests per slot, with the work and the models in it."""

    def __init__(self) -> None:
        self.of: dict[str, deque[Waiting]] = {}
        self.work_s: dict[str, float] = {}

    def join(self, view: View) -> None:
        """Whoever is new, oldest first."""
        for name in view.slots:
            if name not in self.of:
                self.of[name], self.work_s[name] = deque(), 0.0
        for request in sorted(view.new, key=lambda r: r.arrival_s):
            slot = self._slot_for(view, request.model)
            self.of[slot].append(request)
            self.work_s[slot] += request.service_s

    def head(self, view: View, slot: str) -> Waiting | None:
        """The first that still waits."""
        line = self.of[slot]
        while line and not view.is_waiting(line[0].request_id):
            self.pop(slot)
        return line[0] if line else None

    def pop(self, slot: str) -> None:
        self.work_s[slot] -= self.of[slot].popleft().service_s

    def _slot_for(self, view: View, model: str) -> str:
        there = [s for s in view.where(model) if not view.slots[s].down]
        able = there or [
            name for name, s in view.slots.items() if not s.down and fits(view, s, model)
        ]
        # All that could take it are down: it waits for one of them to come back.
        able = able or [name for name, s in view.slots.items() if fits(view, s, model)]
        return min(able, key=lambda name: self.work_s[name] / view.slots[name].slot.concurrency)


class InTurn:
    """Serve in turn; evict in the order that ``victims`` gives."""

    max_wait_s = None

    def __init__(self, name: str, victims: VictimOrder) -> None:
        self.name, self.victims = name, victims
        self.lines = Lines()

    def decide(self, view: View) -> Iterator[Action]:
        self.lines.join(view)
        for name, slot in view.slots.items():
            while (head := self.lines.head(view, name)) is not None:
                if head.model in slot.resident:
                    if slot.n_free < 1:
                        break
                    yield Serve(slot=name, request_id=head.request_id, model=head.model)
                    self.lines.pop(name)
                    continue
                if can_begin(slot):
                    evict = make_room(view, slot, head.model, self.victims(view, slot, self.lines))
                    if evict is not None:
                        yield Load(slot=name, model=head.model, evict=evict)
                break
