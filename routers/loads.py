"""The price of loading: what a cold expert's load adds to the expected cost of asking it.

A load costs its seconds at the price of the machine, once, however many wait for it: so each of
those who do is charged its share. Who else among the queries that are decided about together would
ask the expert, were it there, waits for it, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experts.values import LoadOutlook
from routers.scores import LoadShare, Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A load that is to come, with its price."""

    outlook: LoadOutlook
    load_s: float
    """Expected seconds: the outlook's, or what is recorded."""
    usd_per_s: float


def share_loads(
    scores: Scores, fallback_prices_usd: Sequence[float], loads: Mapping[str, Load]
) -> list[dict[str, LoadShare]]:
    """Each query's share of the loads of cold experts, by expert.

    share = load_s * usd_per_s / (waiting calls + queries here whose best single expert it would be
    if it were loaded + this query, if it is none of these).
    """
    if not loads:
        return [{} for _ in range(len(scores))]
    v = np.asarray(fallback_prices_usd)[:, None]
    best = (scores.cost_usd + (1 - scores.p_correct) * v).argmin(axis=1)
    wanted = [scores.arms[i].expert for i in best]
    n_wanting = Counter(wanted)
    shares = []
    for i in range(len(scores)):
        mine = {}
        for name, load in loads.items():
            n = load.outlook.n_waiting + n_wanting[name] + (wanted[i] != name)
            mine[name] = LoadShare(
                load_s=load.load_s, load_usd=load.load_s * load.usd_per_s, n_sharing=n
            )
        shares.append(mine)
    return shares
