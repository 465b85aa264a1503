"""A batch's dollars: what a call can cost at most is reserved before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experts.expert import Pool
from experts.values import Call, Completion


class Budget:
    """Tokens' dollars of all calls of a batch. Only loading a model and the router's own work,
    whose seconds nobody knows before, can pass it."""

    def __init__(self, pool: Pool, max_usd: float | None, *, spent_usd: float = 0.0) -> None:
        """spent_usd: by earlier processes on the same batch."""
        self._cards = {card.name: card for card in pool.cards}
        self._max_usd, self._reserved_usd = max_usd, 0.0
        self.spent_usd = spent_usd

    def may_ask(self, calls: Sequence[Call]) -> bool:
        """Whether all of them fit into what is left; what they may cost is then reserved."""
        most = sum(self._most_usd(call) for call in calls)
        if self._max_usd is not None and self.spent_usd + self._reserved_usd + most > self._max_usd:
            return False
        self._reserved_usd += most
        return True

    def settle(self, completions: Sequence[Completion]) -> None:
        """They have cost what they have cost."""
        self._reserved_usd -= sum(self._most_usd(replace(c.call, arm=c.asked)) for c in completions)
        self.spent_usd += sum(c.cost_usd for c in completions)

    def _most_usd(self, call: Call) -> float:
        return max(self._cards[name].most_usd(call) for name in call.experts)
