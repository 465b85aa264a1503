"""First come, first served, evicting what the known queue needs last (Belady's rule).

Source: L. A. Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems
Journal 5(2), 1966; Read-ME (arXiv:2410.19123) applies it to experts, as the router runs before
them. The queue is known, what will arrive is not: nobody can evict better in this order of
requests, and it shows how much of the loss is the order's.
"""

from __future__ import annotations

from experts.residency.policies.base import SlotView, View
from experts.residency.policies.in_turn import InTurn, Lines

_HORIZON = 10_000
"""Requests looked ahead, so that a long queue costs bounded time. What is not needed among them is
taken for never needed."""


def _needed_last(view: View, slot: SlotView, lines: Lines) -> list[str]:
    next_use: dict[str, int] = {}
    wanted = len(slot.resident)
    for position, request in enumerate(lines.of[slot.slot.name]):
        if position >= _HORIZON or len(next_use) >= wanted:
            break
        if request.model in slot.resident:
            next_use.setdefault(request.model, position)
    far = _HORIZON + 1
    return sorted(slot.resident, key=lambda m: (-next_use.get(m, far), slot.resident[m]))


def belady() -> InTurn:
    return InTurn("first-come + Belady", _needed_last)
