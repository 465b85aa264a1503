"""Accounts of several servers, on Redis: what one lets in counts for all.

While Redis is away each server goes on alone with its share: what was left of a budget when it
was last heard from, divided by the servers that there were, and as much of each rate. So a
budget holds then as well, but for what others spent after they were last heard of. A key that
this server has never heard of from Redis is refused meanwhile. When Redis comes back, also with
nothing in it, every server tells what it has spent, and they go on as before.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from orchestrator.keys.accounts import (
    Amount,
    Refusal,
    SpentSince,
    Standing,
    nanodollars,
    over_budget,
    until_next,
)
from orchestrator.keys.bucket import Bucket
from orchestrator.keys.key import VirtualKey
from orchestrator.keys.periods import begin_of, end_of
from orchestrator.keys.shared_script import ACCOUNT

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

LEASE_S = 60.0
"""After which a server that says nothing is gone, with what it had set aside."""
_TELL_S = 0.05
"""Between tellings of what was settled."""
_BEATS = 4
"""In a lease: tellings of a key with requests under way, whether anything is new or not."""
_AWAY_S = 0.5
"""For so long nobody waits for a Redis that did not answer."""
_KEPT_S = 40 * 86_400
"""After its period what was spent is kept: for whoever looks."""


@dataclass(slots=True)
class _Heard:
    """What Redis last said of the others."""

    spent_nusd: int
    reserved_nusd: int
    n_replicas: int
    """With this one."""


@dataclass(slots=True)
class _Alone:
    """What one server may do by itself."""

    most_nusd: int | None
    """Spent and set aside, in all."""
    requests: Bucket | None
    tokens: Bucket | None
    max_concurrent: int | None


@dataclass(slots=True)
class _Book:
    """Of one key in its period, as far as this server goes."""

    key: VirtualKey
    begin: float
    spent_nusd: int
    reserved_nusd: int = 0
    n_active: int = 0
    n_told: int = 0
    tokens_back: int = 0
    """Of those taken from the rate, to be told."""
    takes_s: float = 1.0
    told_at: float = 0.0
    heard: _Heard | None = None
    alone: _Alone | None = None
    """While Redis is away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ask:
    """What is asked for, beyond what the book says."""

    n_requests: int = 0
    n_tokens: int = 0
    is_held_to_budget: bool = True
    may_be_refused: bool = True


class SharedAccounts:
    """As ``Accounts``. Within ``running`` what is settled is told, and servers are seen to live."""

    def __init__(
        self,
        redis: Redis,
        spent_since: SpentSince,
        *,
        replica: str,
        lease_s: float = LEASE_S,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """spent_since: by this server's own ledger. replica: its name, the same after a restart,
        and nobody else's."""
        self._redis, self._spent_since = redis, spent_since
        self._replica, self._lease_s, self._life = replica, lease_s, token_hex(8)
        self._now, self._clock = now, clock
        self._script = redis.register_script(ACCOUNT)
        self._books: dict[str, _Book] = {}
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self._away_until = 0.0

    async def admit(self, key: VirtualKey, *, spends: bool) -> Refusal | None:
        book = self._book(key)
        with self._lock:
            book.n_active += 1
        refusal = await self._asked(book, _Ask(n_requests=1, is_held_to_budget=spends), 1)
        if refusal is not None:
            with self._lock:
                book.n_active -= 1
        return refusal

    def leave(self, key: VirtualKey, took_s: float) -> None:
        book = self._book(key)
        with self._lock:
            book.n_active -= 1
            book.takes_s += 0.2 * (took_s - book.takes_s)
        self._dirty.add(key.key_id)

    async def reserve(self, key: VirtualKey, most: Amount) -> Refusal | None:
        book, most_nusd = self._book(key), nanodollars(most.usd)
        with self._lock:
            book.reserved_nusd += most_nusd
        refusal = await self._asked(book, _Ask(n_tokens=most.tokens), most_nusd)
        if refusal is not None:
            with self._lock:
                book.reserved_nusd -= most_nusd
        return refusal

    def settle(self, key: VirtualKey, reserved: Amount, used: Amount) -> None:
        book = self._book(key)
        with self._lock:
            book.reserved_nusd -= nanodollars(reserved.usd)
            book.spent_nusd += nanodollars(used.usd)
            book.tokens_back += reserved.tokens - used.tokens
        self._dirty.add(key.key_id)

    def standing(self, key: VirtualKey) -> Standing:
        book = self._book(key)
        others = book.heard or _Heard(0, 0, 1)
        return Standing(
            spent_usd=(book.spent_nusd + others.spent_nusd) / 1e9,
            reserved_usd=(book.reserved_nusd + others.reserved_nusd) / 1e9,
            n_active=book.n_active,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        telling = asyncio.create_task(self._keep_telling())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await self._tell_what_is_new()
            await self._redis.aclose()

    # Of this server.

    def _book(self, key: VirtualKey) -> _Book:
        begin = begin_of(key.allowance.period, self._now())
        with self._lock:
            book = self._books.get(key.key_id)
            if book is None:
                spent = nanodollars(self._spent_since(key.key_id, begin))
                book = self._books[key.key_id] = _Book(key=key, begin=begin, spent_nusd=spent)
            elif begin > book.begin:  # a clock that was set back begins no period
                book.begin, book.spent_nusd, book.alone = begin, 0, None
                book.heard = book.heard and _Heard(0, 0, book.heard.n_replicas)
            return book

    async def _asked(self, book: _Book, ask: _Ask, more_nusd: int) -> Refusal | None:
        if self._clock() < self._away_until:
            return self._by_itself(book, ask, more_nusd)
        try:
            why, wait_s = await self._told(book, ask)
        except Exception as error:
            if not _is_away(error):
                raise
            self._away_until = self._clock() + _AWAY_S
            log.warning("Redis is away (%s); keys go on with their shares", error)
            return self._by_itself(book, ask, more_nusd)
        return self._refusal(book, why, wait_s, more_nusd) if why else None

    async def _told(self, book: _Book, ask: _Ask) -> tuple[str, float]:
        """Tell Redis; why it refuses, and for how long. Raises what the client raises."""
        allowed = book.key.allowance
        with self._lock:
            book.n_told += 1
            back, book.tokens_back = (
                (0, book.tokens_back) if ask.n_tokens else (book.tokens_back, 0)
            )
            budget = -1
            if allowed.budget_usd is not None and ask.is_held_to_budget:
                budget = nanodollars(allowed.budget_usd)
            # Who may begin must have something left.
            least = 1 if ask.n_requests and budget >= 0 else 0
            known = 0 if book.heard is None else book.heard.spent_nusd
            end = end_of(allowed.period, self._now())
            told: list[Any] = [
                self._replica, book.n_told, book.spent_nusd, book.reserved_nusd + least,
                book.n_active, known, budget, self._lease_s,
                int((self._now() if end is None else end) + _KEPT_S),
                allowed.requests_per_min or 0, ask.n_requests,
                allowed.tokens_per_min or 0, ask.n_tokens or -back,
                allowed.max_concurrent or 0 if ask.n_requests else 0,
                int(ask.may_be_refused), self._life,
            ]  # fmt: skip
        try:
            why, wait_s, spent, reserved, n = await self._script(keys=_names(book), args=told)
        except BaseException:
            with self._lock:
                book.tokens_back += back
            raise
        with self._lock:
            book.heard, book.alone = _Heard(int(spent), int(reserved), int(n)), None
            book.told_at = self._clock()
        return _text(why), float(wait_s)

    def _refusal(self, book: _Book, why: str, wait_s: float, more_nusd: int) -> Refusal:
        key, allowed = book.key, book.key.allowance
        if why == "budget":
            others = book.heard or _Heard(0, 0, 1)
            spent = book.spent_nusd + others.spent_nusd
            reserved = book.reserved_nusd - more_nusd + others.reserved_nusd
            is_spent = spent + more_nusd > nanodollars(allowed.budget_usd or 0.0)
            return Refusal(
                reason=over_budget(key, spent, max(reserved, 0), more_nusd),
                code="insufficient_quota",
                retry_after_s=until_next(key, self._now()) if is_spent else book.takes_s,
            )
        says = {
            "requests": f"This key may send {allowed.requests_per_min} requests a minute.",
            "tokens": f"This key may use {allowed.tokens_per_min} tokens a minute.",
            "concurrency": f"This key may have {allowed.max_concurrent} requests under way.",
        }
        wait_s = wait_s or book.takes_s / max(1, allowed.max_concurrent or 1)
        return Refusal(reason=says[why], code="rate_limit_exceeded", retry_after_s=wait_s)

    # While Redis is away.

    def _by_itself(self, book: _Book, ask: _Ask, more_nusd: int) -> Refusal | None:
        with self._lock:
            if book.alone is None:
                if book.heard is None:
                    return Refusal(
                        reason="What this key has used cannot be looked up now.",
                        code="unavailable",
                        retry_after_s=_AWAY_S,
                    )
                book.alone = _share(book, book.heard, more_nusd)
            alone, clock = book.alone, self._clock()
            limits = ((alone.requests, ask.n_requests, "requests"),
                      (alone.tokens, ask.n_tokens, "tokens"))  # fmt: skip
            why, wait_s = "", 0.0
            for bucket, n, name in limits:
                if bucket is not None and n and (wait_s := bucket.wait_s(n, clock)):
                    why = name
                    break
            if alone.max_concurrent is not None and book.n_active > alone.max_concurrent:
                why = why or "concurrency"
            held = ask.is_held_to_budget and alone.most_nusd is not None
            if held and book.spent_nusd + book.reserved_nusd > (alone.most_nusd or 0):
                why = why or "budget"
            if not why:
                for bucket, n, _ in limits:
                    if bucket is not None:
                        bucket.take(n, clock)
                return None
        return self._refusal(book, why, wait_s, more_nusd)

    # Telling.

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            late = self._clock() - self._lease_s / _BEATS
            self._dirty |= {
                key_id
                for key_id, book in list(self._books.items())
                if book.told_at < late and (book.n_active or book.reserved_nusd or book.alone)
            }
            await self._tell_what_is_new()

    async def _tell_what_is_new(self) -> None:
        """In any order: what is told is how it stands, not what has changed."""
        if self._clock() < self._away_until:
            return
        while self._dirty:
            key_id = self._dirty.pop()
            try:
                await self._told(self._books[key_id], _Ask(may_be_refused=False))
            except Exception as error:
                self._dirty.add(key_id)
                if not _is_away(error):
                    raise
                self._away_until = self._clock() + _AWAY_S
                return


def _share(book: _Book, heard: _Heard, more_nusd: int) -> _Alone:
    """Of what is left, as if all servers were cut off at once."""
    allowed, n = book.key.allowance, heard.n_replicas
    most = None
    if allowed.budget_usd is not None:
        mine = book.spent_nusd + book.reserved_nusd - more_nusd
        others = heard.spent_nusd + heard.reserved_nusd
        most = mine + max(0, nanodollars(allowed.budget_usd) - mine - others) // n
    return _Alone(
        most_nusd=most,
        requests=_bucket(allowed.requests_per_min, n),
        tokens=_bucket(allowed.tokens_per_min, n),
        max_concurrent=None
        if allowed.max_concurrent is None
        else max(1, allowed.max_concurrent // n),
    )


def _bucket(per_min: int | None, n: int) -> Bucket | None:
    return None if per_min is None else Bucket(max(1, per_min // n))


def _names(book: _Book) -> list[str]:
    key_id = book.key.key_id
    return [f"conclave:spent:{key_id}:{int(book.begin)}", f"conclave:rates:{key_id}"]


def _is_away(error: Exception) -> bool:
    from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError  # noqa: A004

    return isinstance(error, ConnectionError | TimeoutError | BusyLoadingError | OSError)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
