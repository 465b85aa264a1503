"""Prices from the table that comes with LiteLLM, read without importing LiteLLM.

Importing takes seconds, the table milliseconds. It is the installed release's, so prices change
when the package does, and never by themselves. Taken are the plain prices per token and that of
input that was read from a cache: discounts for batches, and surcharges for writing into a cache and
for very long prompts, are not modelled.

A price of 0 in the table is not taken as free: it stands there for models whose price is a
subscription, the user's own hardware, or simply not known yet.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experts.cards import Prices
from experts.errors import ConfigError, UnknownPrice, did_you_mean

_TABLE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel:
    """What LiteLLM's table says of a model."""

    prices: Prices
    context_tokens: int | None
    source: str
    """Release and key, for whoever wants to check."""


def listed(model: str, install: str) -> ListedModel:
    """The table's entry for a LiteLLM id, or for what follows the provider in it.

    Raises UnknownPrice where there is none with prices above 0, and ConfigError where LiteLLM is
    not installed; ``install`` is the command for that.
    """
    table = _table()
    if table is None:
        raise ConfigError(
            f"The prices of {model!r} are to come from LiteLLM, which is not installed: {install}. "
            "Or state them under `prices:`."
        )
    key = _key(model, table)
    entry = table.get(key, {})
    per_token = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
    if not all(isinstance(p, int | float) and p > 0 for p in per_token):
        known = "has no price above 0 for" if key in table else "does not know"
        hint = "" if key in table else did_you_mean(model, table)
        raise UnknownPrice(
            f"LiteLLM {_release()} {known} {model!r}.{hint} State its prices: "
            "`prices: {input_usd_per_mtok: ..., output_usd_per_mtok: ...}`; write 0 only for what "
            "is really free."
        )
    context = entry.get("max_input_tokens") or entry.get("max_tokens")
    return ListedModel(
        prices=Prices(
            input_usd_per_mtok=_per_million(per_token[0]),
            output_usd_per_mtok=_per_million(per_token[1]),
            cached_input_usd_per_mtok=_cached(entry, per_token[0]),
        ),
        context_tokens=context if isinstance(context, int) else None,
        source=f"LiteLLM {_release()}'s table, {key}",
    )


def _cached(entry: dict[str, Any], input_usd_per_token: float) -> float | None:
    """None where the table does not tell, or tells of 0 or more than other input costs."""
    price = entry.get("cache_read_input_token_cost")
    if not isinstance(price, int | float) or not 0 < price <= input_usd_per_token:
        return None
    return _per_million(price)


def _per_million(usd_per_token: float) -> float:
    """Without the noise of the last binary digits: 1.5e-07 a token is 0.15 a million."""
    return float(f"{usd_per_token * 1e6:.12g}")


def _key(model: str, table: dict[str, Any]) -> str:
    provider, _, bare = model.partition("/")
    if model not in table and table.get(bare, {}).get("litellm_provider") == provider:
        return bare
    return model


@cache
def _table() -> dict[str, Any] | None:
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / _TABLE
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table


def _release() -> str:
    try:
        return version("litellm")
    except PackageNotFoundError:
        return "(unknown release)"
