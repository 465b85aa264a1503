"""Drain first, then the longest queue; a bound on waiting forces a switch when it has passed.

Source: llmux 0.7's TimeSlicePolicy (docs.rs/llmux/0.7.13), the only switcher known to us that has a
limit on waiting: (1) a model with requests is never preempted, except when a request has waited
longer than ``max_wait``; (2) when the active model has neither waiting nor running requests, the
model with most waiting requests is next. The limit triggers after it was broken, so it is no bound:
the load, and the loads of others that came before, are added to it. To compare at an equal bound,
give it a smaller limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Action, Load, SlotView, View, WakeAt
from experts.residency.policies.eviction import (
    by_last_use,
    can_begin,
    fits,
    has_room,
    idle_residents,
    make_room,
)
from experts.residency.policies.serving import serve_oldest


class DrainFirst:
    name = "drain first (llmux)"

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.max_wait_s = None

    def decide(self, view: View) -> Iterator[Action]:
        stale = self._stale(view)
        for slot in view.slots.values():
            yield from serve_oldest(view, slot)
        for model in stale:
            able = [s for s in view.slots.values() if can_begin(s) and fits(view, s, model)]
            for slot in sorted(able, key=lambda s: max(s.resident.values(), default=0.0)):
                # Whatever is there, also if requests wait for it: this is the forced switch.
                evict = make_room(view, slot, model, by_last_use(slot))
                if evict is not None:
                    yield Load(slot=slot.slot.name, model=model, evict=evict)
                    break
        for name, slot in view.slots.items():
            if can_begin(slot):
                yield from self._drained(view, name, slot)
        ahead = [
            q.oldest.arrival_s + self.limit_s for m, q in view.queues.items() if not view.where(m)
        ]
        later = [at_s for at_s in ahead if at_s > view.now_s]
        if later:
            yield WakeAt(at_s=min(later))

    def _stale(self, view: View) -> list[str]:
        """Models without a slot whose oldest request has waited too long, the oldest first."""
        late = [
            (q.oldest.arrival_s, m)
            for m, q in view.queues.items()
            if not view.where(m) and view.now_s - q.oldest.arrival_s >= self.limit_s
        ]
        return [m for _, m in sorted(late)]

    def _drained(self, view: View, name: str, slot: SlotView) -> Iterator[Action]:
        idle = idle_residents(view, slot)
        if not has_room(view, slot, idle):
            return
        cold = [m for m in view.queues if not view.where(m) and fits(view, slot, m)]
        for model in sorted(cold, key=lambda m: -len(view.queues[m])):
            evict = make_room(view, slot, model, idle)
            if evict is not None:
                yield Load(slot=name, model=model, evict=evict)
                return
