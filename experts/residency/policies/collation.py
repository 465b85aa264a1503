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
from experts.residency.policies.eviction import by_last_use, can_begin, fits, make_room
from experts.residency.policies.serving import serve_oldest


class FifoCollation:
    name = "FIFO collation"
    max_wait_s = None

    def decide(self, view: View) -> Iterator[Action]:
        for slot in view.slots.values():
            yield from serve_oldest(view, slot)
        cold = [m for m in view.queues if not view.where(m)]
        for model in sorted(cold, key=lambda m: view.queues[m].oldest.arrival_s):
            for name, slot in view.slots.items():
                if not can_begin(slot) or not fits(view, slot, model):
                    continue
                idle = by_last_use(
                    slot, keep=lambda m, s=slot: m in s.n_running or m in view.queues
                )  # type: ignore[misc]
                evict = make_room(view, slot, model, idle)
                if evict is not None:
                    yield Load(slot=name, model=model, evict=evict)
                    break
