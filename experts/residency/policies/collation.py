"""FIFO collation: whoever waits for a loaded model goes first, without a bound.

Source: llama-swap's scheduler (internal/router/scheduler/fifo.go): a ready model is always served
on the fast path, and another's load waits while what it would evict has anything in flight. So
"A B C A B C" becomes "A A B B C C", and a model that is asked for without pause starves all others.
Here a load is asked for only when the victims have neither running nor waiting requests; among
those that wait, the model of the oldest request is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Action, Load, View
from experts.residency.policies.eviction import can_begin, fits, has_room, idle_residents, make_room
from experts.residency.policies.serving import serve_oldest


class FifoCollation:
    name = "FIFO collation"
    max_wait_s = None

    def decide(self, view: View) -> Iterator[Action]:
        for slot in view.slots.values():
            yield from serve_oldest(view, slot)
        idle = {
            name: victims
            for name, slot in view.slots.items()
            if can_begin(slot) and has_room(view, slot, victims := idle_residents(view, slot))
        }
        if not idle:
            return
        cold = [m for m in view.queues if not view.where(m)]
        for model in sorted(cold, key=lambda m: view.queues[m].oldest.arrival_s):
            for name, victims in idle.items():
                slot = view.slots[name]
                evict = make_room(view, slot, model, victims) if fits(view, slot, model) else None
                if evict is not None:
                    yield Load(slot=name, model=model, evict=evict)
                    del idle[name]
                    break
            if not idle:
                return
