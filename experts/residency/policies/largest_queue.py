"""Plain grouping: load what most requests wait for, serve it until nobody waits, and again.

Source: Read-ME (arXiv:2410.19123), "largest expert queue first"; Symbolic-MoE (arXiv:2503.05641)
batches by model in the same spirit. It minimises loads and knows no deadline: an unpopular model
waits for as long as others are more popular.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Action, Load, View
from experts.residency.policies.eviction import can_begin, fits, has_room, idle_residents, make_room
from experts.residency.policies.serving import serve_oldest


class LargestQueue:
    name = "largest queue first"
    max_wait_s = None

    def decide(self, view: View) -> Iterator[Action]:
        for slot in view.slots.values():
            yield from serve_oldest(view, slot)
        for name, slot in view.slots.items():
            idle = idle_residents(view, slot)
            if not can_begin(slot) or not has_room(view, slot, idle):
                continue
            cold = [m for m in view.queues if not view.where(m) and fits(view, slot, m)]
            for model in sorted(cold, key=lambda m: -len(view.queues[m])):
                evict = make_room(view, slot, model, idle)
                if evict is not None:
                    yield Load(slot=name, model=model, evict=evict)
                    break
