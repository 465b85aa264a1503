"""What keys use, counted so that no limit is passed.

Dollars and tokens are set aside before a call is made, as much as it can cost at most; when it is
done, what it did cost takes their place. So a key's spending passes its budget by nothing that was
known beforehand, however many requests run at once. What is not: a server that reports more tokens
than the request had bytes and leave to write, and the seconds of loading a model and of routing.

Dollars are counted in whole nanodollars, rounded up: sums are exact, whatever their order.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.keys.bucket import Bucket
from orchestrator.keys.key import VirtualKey
from orchestrator.keys.periods import begin_of, end_of

RefusalCode = Literal["rate_limit_exceeded", "insufficient_quota", "unavailable"]
_FIRST_GUESS_S = 1.0
"""Of how long a request takes, before one has ended."""
_NEW_SHARE = 0.2
"""That the latest request has in what is expected of the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why something may not be done now, and when to ask again."""

    reason: str
    code: RefusalCode
    retry_after_s: float | None
    """None where waiting does not help."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What calls use."""

    usd: float
    tokens: int


NOTHING = Amount(0.0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a key stands."""

    spent_usd: float
    """In its period."""
    reserved_usd: float
    n_active: int


class Accounts(Protocol):
    """Counts what keys use: in this process (``LocalAccounts``), or for several."""

    async def admit(self, key: VirtualKey, *, spends: bool) -> Refusal | None:
        """A request begins, unless it is refused. Whoever is admitted leaves again. spends: whether
        it is of those that cost money; the others go on when the budget is used up."""
        ...

    def leave(self, key: VirtualKey, took_s: float) -> None:
        """A request ended."""
        ...

    async def reserve(self, key: VirtualKey, most: Amount) -> Refusal | None:
        """Set aside what a call can use at most, unless that is more than there is."""
        ...

    def settle(self, key: VirtualKey, reserved: Amount, used: Amount) -> None:
        """What a call used takes the place of what was set aside for it; nothing, where nothing
        was."""
        ...

    def standing(self, key: VirtualKey) -> Standing: ...


SpentSince = Callable[[str, float], float]
"""Dollars that a key spent since then, by the ledger: (key id, seconds since 1970)."""


@dataclass(slots=True)
class _Account:
    """Of one key."""

    requests: Bucket | None
    tokens: Bucket | None
    period_end: float | None = None
    """None until somebody looks."""
    spent_nusd: int = 0
    """In that period; a call counts in the one that it ends in."""
    reserved_nusd: int = 0
    n_active: int = 0
    takes_s: float = _FIRST_GUESS_S


class LocalAccounts:
    """Of one process. What was spent before it began, the ledger says; rates begin anew."""

    def __init__(
        self,
        spent_since: SpentSince,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """now: seconds since 1970, for periods. clock: never goes back, for rates."""
        self._spent_since, self._now, self._clock = spent_since, now, clock
        self._accounts: dict[str, _Account] = {}
        # Deciding is done, and charged, in threads.
        self._lock = threading.Lock()

    async def admit(self, key: VirtualKey, *, spends: bool) -> Refusal | None:
        with self._lock:
            return self._admit(key, spends)

    def _admit(self, key: VirtualKey, spends: bool) -> Refusal | None:
        account, allowed, clock = self._of(key), key.allowance, self._clock()
        if allowed.max_concurrent is not None and account.n_active >= allowed.max_concurrent:
            return Refusal(
                reason=f"{account.n_active} requests of this key are under way, and it may have "
                f"{allowed.max_concurrent}.",
                code="rate_limit_exceeded",
                retry_after_s=account.takes_s / allowed.max_concurrent,
            )
        if account.requests and (wait_s := account.requests.wait_s(1, clock)):
            return Refusal(
                reason=f"This key may send {allowed.requests_per_min} requests a minute.",
                code="rate_limit_exceeded",
                retry_after_s=wait_s,
            )
        if spends and (refusal := self._budget_gone(key, account, 0)):
            return refusal
        if account.requests:
            account.requests.take(1, clock)
        account.n_active += 1
        return None

    def leave(self, key: VirtualKey, took_s: float) -> None:
        with self._lock:
            account = self._of(key)
            account.n_active -= 1
            account.takes_s += _NEW_SHARE * (took_s - account.takes_s)

    async def reserve(self, key: VirtualKey, most: Amount) -> Refusal | None:
        with self._lock:
            return self._reserve(key, most)

    def _reserve(self, key: VirtualKey, most: Amount) -> Refusal | None:
        account, clock = self._of(key), self._clock()
        if account.tokens and (wait_s := account.tokens.wait_s(most.tokens, clock)):
            return Refusal(
                reason=f"This key may use {key.allowance.tokens_per_min} tokens a minute, and this "
                f"call up to {most.tokens}.",
                code="rate_limit_exceeded",
                retry_after_s=wait_s,
            )
        most_nusd = nanodollars(most.usd)
        if refusal := self._budget_gone(key, account, most_nusd):
            return refusal
        account.reserved_nusd += most_nusd
        if account.tokens:
            account.tokens.take(most.tokens, clock)
        return None

    def settle(self, key: VirtualKey, reserved: Amount, used: Amount) -> None:
        with self._lock:
            account = self._of(key)
            account.reserved_nusd -= nanodollars(reserved.usd)
            account.spent_nusd = self._spent(key, account) + nanodollars(used.usd)
            if account.tokens:
                account.tokens.take(used.tokens - reserved.tokens, self._clock())

    def standing(self, key: VirtualKey) -> Standing:
        with self._lock:
            account = self._of(key)
            return Standing(
                spent_usd=self._spent(key, account) / 1e9,
                reserved_usd=account.reserved_nusd / 1e9,
                n_active=account.n_active,
            )

    def _of(self, key: VirtualKey) -> _Account:
        account = self._accounts.get(key.key_id)
        if account is None:
            allowed = key.allowance
            account = self._accounts[key.key_id] = _Account(
                requests=Bucket(allowed.requests_per_min) if allowed.requests_per_min else None,
                tokens=Bucket(allowed.tokens_per_min) if allowed.tokens_per_min else None,
            )
        return account

    def _spent(self, key: VirtualKey, account: _Account) -> int:
        """In the period, in nanodollars."""
        now = self._now()
        end = account.period_end
        if end is not None and now < end:  # a clock that was set back begins no period
            return account.spent_nusd
        spent_usd = 0.0
        if end is None:
            spent_usd = self._spent_since(key.key_id, begin_of(key.allowance.period, now))
        account.spent_nusd = nanodollars(spent_usd)
        account.period_end = end_of(key.allowance.period, now) or math.inf
        return account.spent_nusd

    def _budget_gone(self, key: VirtualKey, account: _Account, more_nusd: int) -> Refusal | None:
        budget_usd = key.allowance.budget_usd
        if budget_usd is None:
            return None
        budget = nanodollars(budget_usd)
        spent = self._spent(key, account)
        least = max(more_nusd, 1)  # who may begin must have something left
        if spent + account.reserved_nusd + least <= budget:
            return None
        # What is set aside for others may come back as soon as they are done.
        is_spent = spent + least > budget
        return Refusal(
            reason=over_budget(key, spent, account.reserved_nusd, more_nusd),
            code="insufficient_quota",
            retry_after_s=until_next(key, self._now()) if is_spent else account.takes_s,
        )


def over_budget(key: VirtualKey, spent_nusd: int, reserved_nusd: int, more_nusd: int) -> str:
    """In words."""
    allowed = key.allowance
    of = "" if allowed.period == "total" else f" a {allowed.period}"
    told = f"This key may spend ${allowed.budget_usd:g}{of}; ${spent_nusd / 1e9:.6g} are spent"
    if reserved_nusd:
        told += f", ${reserved_nusd / 1e9:.6g} set aside for calls under way"
    if more_nusd:
        told += f", and this call may cost up to ${more_nusd / 1e9:.6g}"
    return f"{told}."


def until_next(key: VirtualKey, now: float) -> float | None:
    """Seconds until the key's budget begins anew."""
    end = end_of(key.allowance.period, now)
    return None if end is None else end - now


def nanodollars(usd: float) -> int:
    """Rounded up, but for what binary fractions of dollars have too much.

    >>> nanodollars(0.1), nanodollars(1.5e-9)
    (100000000, 2)
    """
    return math.ceil(usd * 1e9 - 1e-6)
