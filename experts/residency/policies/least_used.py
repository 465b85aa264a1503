"""First come, first served, evicting what is asked for least often (LFU).

Counts requests since the start, without decay. It differs from ``first_come`` in nothing else.
"""

from __future__ import annotations

from experts.residency.policies.base import SlotView, View
from experts.residency.policies.in_turn import InTurn, Lines


def _least_asked(view: View, slot: SlotView, lines: Lines) -> list[str]:
    return sorted(slot.resident, key=lambda m: (view.n_arrived[m], slot.resident[m]))


def least_used() -> InTurn:
    return InTurn("first-come + LFU", _least_asked)
