"""Stand-ins: who might answer in the place of an arm whose expert is not loaded, and at what loss.

Only what a router believes is weighed here. Whether somebody stands in is decided when the call is
served, since only then it is known who is loaded and what a load would cost
(experts/residency/policies/bounded).
"""

from __future__ import annotations

import numpy as np

from experts.values import Arm, StandIn
from routers.scores import QueryScores

MOST = 3
"""Of an arm: it is enough that one of them is loaded."""


def stand_ins(scores: QueryScores, arm: Arm, fallback_price_usd: float) -> tuple[StandIn, ...]:
    """Arms of other experts that may stand in for ``arm``, the least loss first.

    loss = (P(right) of the arm - P(right) of the other) V + cost of the other - cost of the arm,
    costs without the loads. It is the loss where the answer is shown as it comes: in a vote or a
    cascade, whose further calls make up for mistakes, nobody knows what a member is worth alone.
    """
    names = scores.may_stand_in.get(arm.expert)
    if not names or arm not in scores:
        return ()
    v, i = fallback_price_usd, scores.index(arm)
    worth = scores.p_correct * v - (scores.cost_usd - scores.load_usd)
    found = [
        StandIn(arm=other, loss_usd=float(worth[i] - worth[j]))
        for j in np.argsort(-worth, kind="stable")
        if (other := scores.arms[j]).expert in names
        and other.expert != arm.expert
        and other.mode == arm.mode  # the call is worded for it
    ]
    return tuple(found[:MOST])
