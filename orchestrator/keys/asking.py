"""What a key says about a request: who pays, and what it may use at most."""

from __future__ import annotations

from dataclasses import replace

from experts.errors import Forbidden
from orchestrator.keys.key import VirtualKey
from orchestrator.queries import Wishes, least


def wishes_of(key: VirtualKey | None, target: str, wishes: Wishes) -> Wishes:
    """The wishes within what the key allows, paid by it; as they are where there is no key.

    target: whom the request asks. Fairness is owed to keys, however many users stand behind one.
    Raises Forbidden.
    """
    if key is None:
        return wishes
    if not key.may_ask(target):
        raise Forbidden(
            f"The key {key.name!r} may not ask {target!r}. It may ask "
            f"{', '.join(sorted(key.models))}."
        )
    allowed = key.allowance
    return replace(
        wishes,
        max_cost_usd=least(wishes.max_cost_usd, allowed.max_cost_usd),
        max_calls=least(wishes.max_calls, allowed.max_calls),
        timeout_s=least(wishes.timeout_s, allowed.timeout_s),
        caller=key.key_id,
        account=key.key_id,
    )
