"""Fill the free places of a slot from the queues of what is resident."""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Serve, SlotView, View


def serve_oldest(view: View, slot: SlotView) -> Iterator[Serve]:
    """The oldest request of all resident models first, until the slot is full."""
    while slot.n_free > 0:
        queues = [view.queues[m] for m in slot.resident if m in view.queues]
        if not queues:
            return
        oldest = min((q.oldest for q in queues), key=lambda r: r.arrival_s)
        yield Serve(slot=slot.slot.name, request_id=oldest.request_id, model=oldest.model)
