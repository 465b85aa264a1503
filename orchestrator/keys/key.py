"""Virtual keys as values: what a key may do, and the secret that stands for it.

A secret is random, so its digest needs no salt and no slow hash: nobody guesses 256 bits. It is
shown once, when it is made, and kept nowhere.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from experts.errors import UserError

Period = Literal["day", "week", "month", "total"]
PERIODS: tuple[Period, ...] = ("day", "week", "month", "total")
PREFIX = "ck-"
"""Of every secret, so that scanners of code and logs know one when they see it."""
ROUTES = (
    "chat", "route", "feedback", "models", "experts", "decisions", "mcp",
    "runs", "human", "learning", "metrics",
)  # fmt: skip
"""What a key can be for: the part of a path behind ``/v1/`` (and ``/mcp``)."""
ASKING = frozenset({"chat", "route", "feedback", "models", "experts", "decisions", "mcp"})
"""What whoever asks needs. The others are named one by one: what people are asked, say, is of all
keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What a key may use; None is no limit."""

    requests_per_min: int | None = None
    """So many at once, and then one whenever a minute's share has passed."""
    tokens_per_min: int | None = None
    """Read and written together; as ``requests_per_min``."""
    max_concurrent: int | None = None
    """Requests under way."""
    budget_usd: float | None = None
    """Of a period."""
    period: Period = "month"
    """Of the calendar (UTC; weeks begin on Monday); ``total`` never begins anew."""
    max_cost_usd: float | None = None
    """Of one request, as are the next: a request can ask for less, not for more."""
    max_calls: int | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_min", "tokens_per_min", "max_concurrent", "max_calls"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; give 1 or more, or leave it out.")
        for name in ("budget_usd", "max_cost_usd", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{name} is {value}; give a number above 0, or leave it out.")
        if self.period not in PERIODS:
            raise UserError(f"The period is {self.period!r}; it is one of {', '.join(PERIODS)}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class VirtualKey:
    """A key, without its secret."""

    key_id: str
    """Public: in listings and in the ledger."""
    name: str
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    models: frozenset[str] = frozenset()
    """Experts and policies that it may ask for; empty is all of them."""
    routes: frozenset[str] = ASKING
    """Of ``ROUTES``."""
    allowance: Allowance = Allowance()
    created_at: float
    """Seconds since 1970, as all times here."""
    expires_at: float | None = None
    revoked_at: float | None = None

    def __post_init__(self) -> None:
        if unknown := self.routes - set(ROUTES):
            raise UserError(
                f"There is no route {min(unknown)!r}; a key is for any of {', '.join(ROUTES)}."
            )

    def is_good(self, now: float) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def may_ask(self, model: str) -> bool:
        return not self.models or model in self.models

    def may_use(self, route: str) -> bool:
        return route in self.routes


def new_key(
    name: str,
    *,
    now: float,
    models: Iterable[str] = (),
    routes: Iterable[str] = ASKING,
    allowance: Allowance = Allowance(),
    expires_at: float | None = None,
) -> tuple[VirtualKey, str]:
    """A key and its secret. Raises UserError for what no key can be."""
    if not name.strip():
        raise UserError("A key needs a name, so that whoever reads the list knows whose it is.")
    secret = f"{PREFIX}{secrets.token_urlsafe(32)}"
    key = VirtualKey(
        key_id=f"key-{secrets.token_hex(6)}",
        name=name,
        digest=digest_of(secret),
        models=frozenset(models),
        routes=frozenset(routes),
        allowance=allowance,
        created_at=now,
        expires_at=expires_at,
    )
    return key, secret


def digest_of(secret: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
