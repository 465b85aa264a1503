"""The ledger: what happened and what it cost, on SQLite, append-only.

Rows of eight kinds: queries asked, labels (what is known about a question: skill, right answer,
split; the latest counts), calls of durable runs that are about to be made, calls made, decisions
taken, answers given, verdicts (was it right, and who says so; the latest counts), and explorations
(calls made to learn, with what was reserved for them). Triggers refuse updates, deletes and
replacements, so a sum over the ledger never changes for the past. All that Conclave believes is
computed from here. Beside them stand responses for those who may ask again, which are dropped after
a while.

In this room is what knows the tables: ``schema`` makes and checks them, ``rows`` turns rows into
values and back, ``reader`` reads, ``ledger`` also writes. What follows from the rows is computed by
those who ask: fitting, learning, gaps.
"""

from __future__ import annotations

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.values import BegunCall, Label, RecordedCall, Verdict

__all__ = ["BegunCall", "Label", "Ledger", "RecordedCall", "Verdict"]
