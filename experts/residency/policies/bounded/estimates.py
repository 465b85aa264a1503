"""What things take, as far as can be told: drains, holds, the price of an eviction.

All seconds. Expectations only: from the view, and from what arrived lately (``rates``).
"""

from __future__ import annotations

from experts.residency.policies.base import SlotView, View
from experts.residency.policies.bounded.rates import Rates


class Estimates:
    """soon_s: how far ahead requests count as soon to come, when slots are compared."""

    def __init__(self, rates: Rates, *, soon_s: float) -> None:
        self._rates = rates
        self._soon_s = soon_s

    def price_s(self, view: View, slot: SlotView, model: str, evict: tuple[str, ...]) -> float:
        """Request-seconds that others wait for the load: until what comes in place of theirs is
        loaded and served. (That theirs must be loaded again after that is left out: to add it
        changed nothing but a few loads.)"""
        if not evict:
            return 0.0
        away_s = (
            slot.expected_drain_s(evict, view.now_s)
            + view.load_s(slot.slot.name, model)
            + self.hold_s(view, slot, model)
        )
        rates = [self._rates.per_s(m, view.now_s) if view.more_to_come else 0.0 for m in evict]
        return sum(rate * away_s**2 / 2 for rate in rates)

    def behind_s(self, view: View, slot: SlotView) -> float:
        """Seconds of work that waits for what is in the slot."""
        work_s = sum(view.queues[m].work_s for m in slot.resident if m in view.queues)
        return work_s / slot.slot.concurrency

    def free_s(self, view: View, slot: SlotView) -> float:
        """When a load could begin, if it were asked for as soon as may be."""
        if slot.loading is not None:
            after_s = self.hold_s(view, slot, slot.loading.model)
            return max(view.now_s, slot.loading.expected_end_s) + after_s
        if slot.slot.max_bases == 1:
            return view.now_s + self.later_drain_s(slot, view.now_s)
        return view.now_s

    def clear_s(self, view: View, slot: SlotView, model: str) -> float:
        """Seconds until there is room, where a slot holds several; else see ``free_s``."""
        if slot.slot.max_bases == 1:
            return 0.0
        idle_bytes = sum(view.models[m].n_bytes for m in slot.resident if m not in slot.n_running)
        # What is idle now may be busy by then: small models will find room, large ones must clear.
        n_bytes = view.models[model].n_bytes
        small = 3 * n_bytes <= slot.slot.memory_bytes
        if n_bytes <= slot.free_bytes or (small and n_bytes <= slot.free_bytes + idle_bytes / 2):
            return 0.0
        return self.later_drain_s(slot, view.now_s)

    def later_drain_s(self, slot: SlotView, now_s: float) -> float:
        """As the drain may be when the load is asked for: other requests will run by then."""
        usual_s = max((self._rates.service_s(m) for m in slot.resident), default=0.0)
        return max(slot.expected_drain_s(tuple(slot.resident), now_s), 2 * usual_s)

    def hold_s(self, view: View, slot: SlotView, model: str) -> float:
        """How long a load keeps the slot from others after it."""
        if slot.slot.max_bases != 1 or model not in view.queues:
            return 0.0
        queue = view.queues[model]
        return queue.work_s / slot.slot.concurrency + self._rates.service_s(model)

    def missed(self, view: View, slot: SlotView) -> float:
        """Requests that wait, or will soon, for what is in the slot."""
        return sum(
            (len(view.queues[m]) if m in view.queues else 0)
            + self._rates.per_s(m, view.now_s) * self._soon_s
            for m in slot.resident
        )
