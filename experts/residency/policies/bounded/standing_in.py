"""When another model answers in place of one that is not loaded.

Rent or buy once more: losing a little a call is renting, the load is buying. Renting ends when it
has cost as much, so that a model that is asked for all the time is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Serve, View
from experts.residency.policies.eviction import fits


class StandingIn:
    """load_usd_per_s: what a second of loading costs; 0 for no stand-ins."""

    def __init__(self, load_usd_per_s: float) -> None:
        self.load_usd_per_s = load_usd_per_s
        self._lost_usd: dict[str, float] = {}
        """What stand-ins have lost for each model since it was last loaded."""

    def serve(self, view: View) -> Iterator[Serve]:
        """New requests for cold models, in free places. Ask when who wants what is loaded was
        served: a stand-in takes nobody's place."""
        if not self.load_usd_per_s:
            return
        for model in [m for m in self._lost_usd if view.where(m)]:
            del self._lost_usd[model]
        for request in list(view.new):
            if not request.stand_ins or not view.is_waiting(request.request_id):
                continue
            if view.where(request.model):
                continue
            load_usd = self._load_usd(view, request.model)
            share_usd = load_usd / len(view.queues[request.model])
            lost_usd = self._lost_usd.get(request.model, 0.0)
            for stand_in in sorted(request.stand_ins, key=lambda s: s.loss_usd):
                free = _free_slots(view, stand_in.model)
                more_usd = max(0.0, stand_in.loss_usd)
                if stand_in.loss_usd <= share_usd and lost_usd + more_usd <= load_usd and free:
                    self._lost_usd[request.model] = lost_usd + more_usd
                    yield Serve(slot=free[0], request_id=request.request_id, model=stand_in.model)
                    break

    def _load_usd(self, view: View, model: str) -> float:
        """Where it takes least."""
        able = [name for name, slot in view.slots.items() if fits(view, slot, model)]
        return self.load_usd_per_s * min(view.load_s(name, model) for name in able)


def _free_slots(view: View, model: str) -> list[str]:
    """With the model, and a place for one more."""
    return [
        name
        for name in view.where(model)
        if model in view.slots[name].resident and view.slots[name].n_free > 0
    ]
