"""Bounded grouping: serve what is loaded, switch when waiting has become dearer than switching,
and always in time.

The slots are polling servers with switch-over times. Three rules decide (``max_wait_s`` is the
bound, None for none):

1. *Serve* whatever is resident, callers in turn, the urgent first (``turns``).
2. *Buy when the rent equals the price.* A model that others wait for is served until nobody does
   (exhaustive service, which polling systems with switch-over times want), so only idle ones are
   up for eviction. Waiting for a cold model is a rent that grows; loading it has a price in the
   same unit, the request-seconds that others will wait for it: rate_e A^2 / 2 for an e that will
   be away for A seconds. It is loaded when the rent has reached the price. (The rule of
   rent-or-buy problems. For one queue whose whole content is acknowledged at once it is
   2-competitive: Dooly, Goldman and Scott, J. ACM 48(2), 2001; here it is a heuristic.) So what
   nobody asks for leaves at once, and what is asked for all the time is left only for many.
3. *Always in time.* By earliest deadlines, and with the loads that remain, it is known at any
   moment what must begin now so that nobody waits beyond the bound (``in_time``). That overrides
   rule 2. What is late anyway cuts nothing short until it is late by the bound once more:
   switching faster would lose the capacity that is missing.

An offline batch is the same with rates of zero: each model is loaded when a slot is idle or has
room, in the order in which reading and serving overlap best, and long queues are shared among
slots. Prefetching keeps the disk busy with what will be loaded next, so that slots go on serving.

It does not choose precision, does not interrupt a request, and its look-ahead is a heuristic for
several slots: docs/scheduling.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Action, Load, Serve, SlotView, View, WakeAt
from experts.residency.policies.bounded.estimates import Estimates
from experts.residency.policies.bounded.in_time import InTime
from experts.residency.policies.bounded.order import loading_order
from experts.residency.policies.bounded.owed import Owed
from experts.residency.policies.bounded.prefetching import prefetch
from experts.residency.policies.bounded.rates import Rates
from experts.residency.policies.bounded.room import free_to_go, victims
from experts.residency.policies.bounded.standing_in import StandingIn
from experts.residency.policies.bounded.turns import Turns
from experts.residency.policies.eviction import can_begin, fits, has_room
from experts.residency.values import Waiting


class BoundedGrouping:
    """See the module.

    max_wait_s: the bound on waiting; None for none.
    reserve: share of the bound kept for what the look-ahead cannot know, in [0, 1).
    load_usd_per_s: what a second of loading costs; above 0, stand-ins are taken when they lose
    less than the load would cost each who waits for it, until together they have lost its price.
    """

    name = "bounded grouping (ours)"

    def __init__(
        self,
        max_wait_s: float | None = None,
        *,
        reserve: float = 0.1,
        load_usd_per_s: float = 0.0,
    ) -> None:
        self.max_wait_s = max_wait_s
        self.reserve = reserve
        self.load_usd_per_s = load_usd_per_s
        self._rates = Rates(memory_s=2 * max_wait_s if max_wait_s else 120.0)
        self._estimates = Estimates(self._rates, soon_s=max_wait_s / 20 if max_wait_s else 50.0)
        self._turns = Turns(max_wait_s / 2 if max_wait_s else float("inf"))
        self._standing_in = StandingIn(load_usd_per_s)
        self._owed = Owed()
        self._in_time: InTime | None = None
        if max_wait_s is not None:
            self._in_time = InTime(
                max_wait_s,
                reserve_s=reserve * max_wait_s,
                estimates=self._estimates,
                owed=self._owed,
            )
        self._was_reading = False
        self._was_idle: set[str] = set()
        self._look_at_s = self._plan_at_s = float("-inf")
        self._quantum_s = max_wait_s / 200 if max_wait_s else 5.0
        """Between looks at loads while nothing happens that could change them."""

    def decide(self, view: View) -> Iterator[Action]:
        self._rates.note(view.new, view.now_s)
        look = self._owed.note_ended(view) or view.now_s >= self._look_at_s
        look = look or any(_first_for_a_cold_model(view, request) for request in view.new)
        look = look or (self._was_reading and view.host.reading is None)
        for slot in view.slots.values():
            yield from self._serve(view, slot)
            idle = can_begin(slot) and slot.n_free > 0 and slot.slot.name not in self._was_idle
            look = look or idle or not slot.resident
        yield from self._serve_stand_ins(view)
        self._was_idle = {
            n for n, s in view.slots.items() if can_begin(s) and (s.n_free > 0 or not s.resident)
        }
        if look and view.queues:
            yield from self._load(view)
            yield from prefetch(view, loading_order(view, self._rates), self._rates)
        self._was_reading = view.host.reading is not None
        if view.queues:
            yield WakeAt(at_s=max(self._look_at_s, view.now_s + self._quantum_s / 4))

    # Rule 1: serve

    def _serve(self, view: View, slot: SlotView) -> Iterator[Serve]:
        while slot.n_free > 0:
            queues = [view.queues[m] for m in slot.resident if m in view.queues]
            if not queues:
                return
            request = self._turns.next_of(queues, view.now_s)
            self._turns.given(request)
            yield Serve(slot=slot.slot.name, request_id=request.request_id, model=request.model)

    def _serve_stand_ins(self, view: View) -> Iterator[Serve]:
        requests = {request.request_id: request for request in view.new}
        for serve in self._standing_in.serve(view):
            self._turns.given(requests[serve.request_id])
            yield serve

    # Rules 2 and 3: load

    def _load(self, view: View) -> Iterator[Load]:
        self._look_at_s = view.now_s + self._quantum_s
        any_cold = any(not view.where(m) for m in view.queues)
        if self._in_time is not None and any_cold and view.now_s >= self._plan_at_s:
            self._plan_at_s = view.now_s + self._quantum_s / 4
            yield from map(self._begun, self._in_time.forced(view))
            self._look_at_s = min(self._look_at_s, self._in_time.next_s)
        while (load := self._bought(view) or self._shared(view)) is not None:
            yield self._begun(load)

    def _begun(self, load: Load) -> Load:
        self._owed.begun(load)
        return load

    def _may_begin(self, view: View, slot: SlotView, *, cold: bool = True) -> bool:
        """Whether a load that cuts nothing short could begin here. ``cold``: of what is in no
        slot."""
        promised = self._in_time is not None and slot.slot.name in self._in_time.promised
        return (
            can_begin(slot)
            and not promised
            and has_room(view, slot, free_to_go(view, slot, self._owed), cold=cold)
        )

    def _bought(self, view: View) -> Load | None:
        """The first load whose rent has reached its price, in the slot where it is lowest."""
        able = [slot for slot in view.slots.values() if self._may_begin(view, slot)]
        if not able:
            return None
        for model in loading_order(view, self._rates):
            rent_s = view.queues[model].waited_s(view.now_s)
            offers = []
            for i, slot in enumerate(able):
                if not fits(view, slot, model) or _better_read_first(view, slot, model):
                    continue
                evict = victims(view, slot, model, self._owed)
                if evict is not None:
                    price_s = self._estimates.price_s(view, slot, model, evict)
                    offers.append((price_s, self._estimates.missed(view, slot), i, evict))
            if offers:
                price_s, _, i, evict = min(offers)
                if price_s <= rent_s:
                    return Load(slot=able[i].slot.name, model=model, evict=evict)
        return None

    def _shared(self, view: View) -> Load | None:
        """A second slot for a model in a slot that is far behind, where one is far ahead."""
        behind_s = {name: self._estimates.behind_s(view, slot) for name, slot in view.slots.items()}
        worst_s = max(behind_s.values())
        ahead = [
            (behind_s[name], i, slot)
            for i, (name, slot) in enumerate(view.slots.items())
            if 4 * behind_s[name] <= worst_s and self._may_begin(view, slot, cold=False)
        ]
        if not ahead or not worst_s:
            return None
        long = [
            (min(behind_s[s] for s in there), len(view.queues[model]), model)
            for model in view.queues
            if (there := view.where(model))
            and not any((ld := view.slots[s].loading) and ld.model == model for s in there)
        ]
        for left_s, n, model in sorted(long, reverse=True):
            for slot_s, _, slot in sorted(ahead):
                if model in slot.resident or not fits(view, slot, model):
                    continue
                took_s = view.load_s(slot.slot.name, model) + self._rates.service_s(model)
                evict = victims(view, slot, model, self._owed)
                if left_s - slot_s < 2 * took_s or evict is None:
                    continue
                if self._estimates.price_s(view, slot, model, evict) <= left_s * n / 2:
                    return Load(slot=slot.slot.name, model=model, evict=evict)
        return None


def _better_read_first(view: View, slot: SlotView, model: str) -> bool:
    """On disk, and the slot, or the disk, has something else to do meanwhile."""
    if view.tier(model) != "disk" or view.host.memory_bytes < view.models[model].n_bytes:
        return False
    return bool(slot.running) or view.host.reading is not None


def _first_for_a_cold_model(view: View, request: Waiting) -> bool:
    return (
        view.is_waiting(request.request_id)
        and not view.where(request.model)
        and view.queues[request.model].oldest is request
    )
