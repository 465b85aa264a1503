"""What may be spent on a question: the sections ``policies`` and ``limits``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from experts.errors import UserError
from orchestrator.config.fields import Strict


def _check_plan(text: str) -> str:
    from orchestrator.strategies import check_settings
    from routers.plans import Plan

    try:
        check_settings(Plan.parse(text))
    except (UserError, ValueError) as error:
        raise ValueError(str(error)) from None
    return text


class PolicySettings(Strict):
    """A named way to weigh dollars against failures."""

    fallback_price_usd: float = Field(gt=0, allow_inf_nan=False)
    plan: Annotated[str, AfterValidator(_check_plan)] | None = None
    """Always this strategy, e.g. recruit(k=3, merge='best_of', by='large'); None chooses by least
    expected cost among those that were replayed."""


class LimitSettings(Strict):
    """Upper bounds for every question; a request may ask for less, never for more."""

    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_calls: int | None = Field(default=16, ge=1)
    timeout_s: float | None = Field(default=60, gt=0, allow_inf_nan=False)
    """For each call."""
    max_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For all calls of a question together."""
    max_tokens: int = Field(default=96, ge=1)
    """Of each answer; also the default."""


DEFAULT_POLICIES = {
    "conclave": PolicySettings(fallback_price_usd=1e-3),
    "best": PolicySettings(fallback_price_usd=1e-1),
    "cheap": PolicySettings(fallback_price_usd=1e-5),
}
