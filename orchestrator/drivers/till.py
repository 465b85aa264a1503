"""Whoever pays for calls, asked before they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from experts.values import Call, Completion


class Till(Protocol):
    """Sets aside what calls may cost, and takes what they did cost."""

    async def reserve(self, calls: Sequence[Call]) -> Mapping[int, str]:
        """By place, why a call may not be made. All others are settled later, once each."""
        ...

    def settle(self, call: Call, completion: Completion | None) -> None:
        """What became of a call that was reserved; None where it was never made."""
        ...

    def charge(self, account: str, usd: float) -> None:
        """What was spent without a call: on deciding."""
        ...


class NoTill:
    """Nobody has to be asked."""

    async def reserve(self, calls: Sequence[Call]) -> Mapping[int, str]:
        return {}

    def settle(self, call: Call, completion: Completion | None) -> None:
        pass

    def charge(self, account: str, usd: float) -> None:
        pass


NO_TILL = NoTill()
