"""From what a door was asked to a query: the configured limits, and the request's own within them.

One place for REST, command line and whatever door comes next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from experts.errors import UserError
from experts.ids import new_id
from experts.values import Limits, Message, Query, Sampling, encodable
from orchestrator.config import Config

_Number = TypeVar("_Number", int, float)
_SEED_STRIDE = 1000
"""Between choices of one request: samples of one choice have neighbouring seeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a request may say beside its question; None leaves it to the configuration."""

    fallback_price_usd: float | None = None
    max_cost_usd: float | None = None
    max_calls: int | None = None
    timeout_s: float | None = None
    experts: Iterable[str] | None = None
    caller: str = ""
    account: str = ""


NO_WISHES = Wishes()
UNWEIGHED_USD = 1.0
"""V where the caller names the expert: nothing is weighed, and nobody looks at it."""


def make_query(
    config: Config,
    target: str,
    messages: tuple[Message, ...],
    wishes: Wishes = NO_WISHES,
    sampling: Sampling | None = None,
) -> Query:
    """A query for a policy or an expert; a wish can tighten a limit, never loosen it.

    Raises UserError for a message that is not text.
    """
    for message in messages:
        try:
            encodable(message.content)
        except ValueError as error:
            raise UserError(f"The question is not text: {error}.") from None
    policy = config.all_policies.get(target)
    price = wishes.fallback_price_usd or (policy.fallback_price_usd if policy else UNWEIGHED_USD)
    limits = config.limits
    return Query(
        query_id=new_query_id(),
        messages=messages,
        fallback_price_usd=price,
        limits=Limits(
            max_cost_usd=least(wishes.max_cost_usd, limits.max_cost_usd),
            max_calls=least(wishes.max_calls, limits.max_calls),
            timeout_s=least(wishes.timeout_s, limits.timeout_s),
            max_s=limits.max_s,
            experts=frozenset(wishes.experts) if wishes.experts else None,
        ),
        sampling=sampling or Sampling(max_tokens=limits.max_tokens),
        caller=wishes.caller,
        account=wishes.account,
    )


def choices(query: Query, query_ids: Sequence[str]) -> list[Query]:
    """The same question asked as often as there are ids: OpenAI's ``n``. The first is the query's
    own sampling, the others have other seeds."""
    return [
        replace(
            query,
            query_id=query_id,
            sampling=replace(query.sampling, seed=query.sampling.seed + i * _SEED_STRIDE),
        )
        for i, query_id in enumerate(query_ids)
    ]


def new_query_id() -> str:
    return new_id("q")


def least(a: _Number | None, b: _Number | None) -> _Number | None:
    known = [x for x in (a, b) if x is not None]
    return min(known) if known else None


def caller_digest(authorization: str | None) -> str:
    """Of who sends this header; all who send none are one, with the empty digest."""
    if authorization is None:
        return ""
    return hashlib.blake2b(authorization.encode(), digest_size=8).hexdigest()
