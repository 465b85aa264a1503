"""What to read from disk while slots serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experts.residency.policies.base import Prefetch, View
from experts.residency.policies.bounded.rates import Rates

_WORTH = 2.0
"""How much oftener than what it replaces a model must be asked for, to be read on speculation:
rates are estimates, and two that are about equal would push each other out for ever."""


def prefetch(view: View, order: Sequence[str], rates: Rates) -> Iterator[Prefetch]:
    """The first of ``order`` (models that somebody waits for) that is on disk only; if there is
    none, the model that is asked for most among those on disk, where it is worth the room."""
    if view.host.reading is not None or not view.host.memory_bytes:
        return
    loading = {s.loading.model for s in view.slots.values() if s.loading}
    for model in order:
        if view.tier(model) == "disk" and model not in loading:
            evict = _room(view, model, set(order), float("inf"), rates)
            if evict is not None:
                yield Prefetch(model=model, evict=evict)
                return
    if not view.more_to_come:
        return
    on_disk = [m for m in view.models if m not in loading and view.tier(m) == "disk"]
    if on_disk and not order:
        model = max(on_disk, key=lambda m: (rates.per_s(m, view.now_s), m))
        rate = rates.per_s(model, view.now_s)
        evict = _room(view, model, set(), rate / _WORTH, rates) if rate else None
        if evict is not None:
            yield Prefetch(model=model, evict=evict)


def _room(
    view: View, model: str, keep: set[str], max_rate: float, rates: Rates
) -> tuple[str, ...] | None:
    """Whom to drop from host memory: what is in a slot or least asked for goes first; nothing in
    ``keep``, nothing asked for more than ``max_rate``. None if that is not room enough."""
    needed = view.models[model].n_bytes - view.host.free_bytes
    leaving: list[str] = []

    def missed(m: str) -> tuple[bool, bool, float]:
        return m in view.queues, not view.where(m), rates.per_s(m, view.now_s)

    if needed > 0:
        for victim in sorted(view.host.holds, key=missed):
            if victim in keep or rates.per_s(victim, view.now_s) > max_rate:
                continue
            leaving.append(victim)
            needed -= view.models[victim].n_bytes
            if needed <= 0:
                break
    return tuple(leaving) if needed <= 0 else None
