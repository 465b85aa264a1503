"""The price of switching: what arms that have read a conversation before need not read again.

A server keeps what it has read for a while, and charges less for input that begins with it. So the
next turn is cheaper where the last one was answered. Put into the expected costs before a plan is
chosen, it makes conversations stay where they are unless switching gains more than it costs.
"""

from __future__ import annotations

from collections.abc import Mapping

from experts.cards import Prices
from experts.values import Arm
from routers.scores import ReadPrefix


def read_prefixes(
    n_tokens: Mapping[Arm, float], prices: Mapping[str, Prices]
) -> dict[Arm, ReadPrefix]:
    """What these arms' servers are expected to have, at their prices; nothing of arms whose price
    for it is not known.

    n_tokens: by arm, tokens of the conversation that are expected to be in its cache. prices: by
    expert.
    """
    return {
        arm: ReadPrefix(
            n_tokens=n,
            saves_usd_per_mtok=prices[arm.expert].cached_saves_usd_per_mtok,
            cached_usd_per_mtok=cached,
        )
        for arm, n in n_tokens.items()
        if n > 0 and (cached := prices[arm.expert].cached_input_usd_per_mtok) is not None
    }
