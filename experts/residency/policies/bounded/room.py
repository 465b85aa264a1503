"""Whom to evict so that a model fits: only models that are free to go, the least missed first."""

from __future__ import annotations

from experts.residency.policies.base import SlotView, View
from experts.residency.policies.bounded.owed import Owed
from experts.residency.policies.eviction import make_room


def victims(
    view: View, slot: SlotView, model: str, owed: Owed, *, cut_short: bool = False
) -> tuple[str, ...] | None:
    """None if there is no room without evicting who is not ``free_to_go``.

    Who is done first goes first, then who is waited for least."""
    ends_s: dict[str, float] = {}
    for running in slot.running.values():
        ends_s[running.model] = max(ends_s.get(running.model, 0.0), running.expected_end_s)

    def missed(m: str) -> tuple[float, int]:
        return ends_s.get(m, 0.0), len(view.queues[m]) if m in view.queues else 0

    may_go = free_to_go(view, slot, owed, cut_short=cut_short)
    return make_room(view, slot, model, sorted(may_go, key=missed))


def free_to_go(view: View, slot: SlotView, owed: Owed, *, cut_short: bool = False) -> list[str]:
    """Residents that nobody waits for and, where a slot holds several, that do not run either.

    cut_short: those, too, unless they still owe service."""
    return [
        m
        for m in slot.resident
        if (cut_short or m not in view.queues)
        and (cut_short or slot.slot.max_bases == 1 or m not in slot.n_running)
        and not owed.owes(view, slot, m)
    ]
