"""First come, first served, evicting what was used least recently.

Source: Samba-CoE (arXiv:2405.07518): experts in DDR, the chosen one copied to HBM, LRU eviction,
weights never written back. It is also the baseline of CoServe (arXiv:2503.02354). It neither
groups nor reorders nor prefetches, and promises nothing about waiting.
"""

from __future__ import annotations

from experts.residency.policies.eviction import by_last_use
from experts.residency.policies.in_turn import InTurn


def first_come() -> InTurn:
    return InTurn("first-come + LRU", lambda view, slot, lines: by_last_use(slot))
