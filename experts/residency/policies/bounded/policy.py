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
   moment what must begin now so that nobody waits beyond the bound (``lookahead``). That overrides
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

from experts.residency.policies.base import (
    Action,
    Load,
    Serve,
    SlotView,
    View,
    WakeAt,
)
from experts.residency.policies.bounded.estimates import Estimates
from experts.residency.policies.bounded.lookahead import Job, Lane, plan
from experts.residency.policies.bounded.prefetching import prefetch
from experts.residency.policies.bounded.rates import Rates
from experts.residency.policies.bounded.turns import Turns
from experts.residency.policies.eviction import can_begin, fits, has_room, make_room
from experts.residency.values import Waiting

_NEXT_TO_NOTHING = 0.1
"""Of the seconds of serving: reads that are shorter hold nothing up."""


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
        self._gates: dict[tuple[str, str], float] = {}
        """When each model's load ended, by slot: it owes service to those who came before."""
        self._lost_usd: dict[str, float] = {}
        """What stand-ins have lost for each model since it was last loaded."""
        self._loading: dict[str, str] = {}
        self._promised: dict[str, str] = {}
        """By slot, the model that must be loaded next but cannot yet."""
        self._was_reading = False
        self._was_idle: set[str] = set()
        self._look_at_s = self._plan_at_s = float("-inf")
        self._quantum_s = max_wait_s / 200 if max_wait_s else 5.0

    def decide(self, view: View) -> Iterator[Action]:
        self._rates.note(view.new, view.now_s)
        look = self._note_loads(view) or view.now_s >= self._look_at_s
        look = look or any(_first_for_a_cold_model(view, request) for request in view.new)
        look = look or (self._was_reading and view.host.reading is None)
        for slot in view.slots.values():
            yield from self._serve(view, slot)
            idle = can_begin(slot) and slot.n_free > 0 and slot.slot.name not in self._was_idle
            look = look or idle or not slot.resident
        if self.load_usd_per_s:  # in places that nobody wants who asked for what is loaded
            yield from self._stand_ins(view)
        self._was_idle = {
            n for n, s in view.slots.items() if can_begin(s) and (s.n_free > 0 or not s.resident)
        }
        if not view.queues:
            self._was_reading = view.host.reading is not None
            return
        if look:
            yield from self._load(view)
            yield from prefetch(view, self._order(view), self._rates)
        self._was_reading = view.host.reading is not None
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

    def _stand_ins(self, view: View) -> Iterator[Serve]:
        """Rent or buy once more: losing a little a call is renting, the load is buying. Renting
        ends when it has cost as much, so that a model that is asked for all the time is loaded."""
        for model in [m for m in self._lost_usd if view.where(m)]:
            del self._lost_usd[model]
        for request in list(view.new):
            if not request.stand_ins or not view.is_waiting(request.request_id):
                continue
            if view.where(request.model):
                continue
            load_s = min(
                view.load_s(n, request.model)
                for n, s in view.slots.items()
                if fits(view, s, request.model)
            )
            load_usd = self.load_usd_per_s * load_s
            share_usd = load_usd / len(view.queues[request.model])
            lost_usd = self._lost_usd.get(request.model, 0.0)
            for stand_in in sorted(request.stand_ins, key=lambda s: s.loss_usd):
                free = [
                    n for n in view.where(stand_in.model)
                    if stand_in.model in view.slots[n].resident and view.slots[n].n_free > 0
                ]  # fmt: skip
                more_usd = max(0.0, stand_in.loss_usd)
                if stand_in.loss_usd <= share_usd and lost_usd + more_usd <= load_usd and free:
                    self._lost_usd[request.model] = lost_usd + more_usd
                    self._turns.given(request)
                    yield Serve(slot=free[0], request_id=request.request_id, model=stand_in.model)
                    break

    def _note_loads(self, view: View) -> bool:
        """Open the gates of what was loaded since; True if a load ended."""
        ended = False
        for name, slot in view.slots.items():
            loading = slot.loading.model if slot.loading else None
            before = self._loading.get(name)
            if before is not None and before != loading:
                ended = True
                if before in slot.resident:
                    self._gates[name, before] = view.now_s
            if loading is None:
                self._loading.pop(name, None)
            else:
                self._loading[name] = loading
        return ended

    # Rules 2 and 3: load

    def _load(self, view: View) -> Iterator[Load]:
        self._look_at_s = view.now_s + self._quantum_s
        cold = [m for m in view.queues if not view.where(m)]
        if cold and self.max_wait_s is not None and view.now_s >= self._plan_at_s:
            self._plan_at_s = view.now_s + self._quantum_s / 4
            yield from map(self._begun, self._forced(view, cold, self.max_wait_s))
        while (load := self._bought(view) or self._shared(view)) is not None:
            yield self._begun(load)

    def _begun(self, load: Load) -> Load:
        self._loading[load.slot] = load.model
        for model in load.evict:
            self._gates.pop((load.slot, model), None)
        return load

    def _order(self, view: View) -> list[str]:
        """Cold models that somebody waits for: whose load is next.

        Online the one whose oldest request is oldest: measured against the most waiting requests,
        or the most waiting a second of load, it carries 10 to 20 % more at the same bound. For an
        offline batch the disk is the first machine of a flow shop and the slots are the second:
        first what is read in less time than it is served, quickly read first; then the rest, long
        served first (S. M. Johnson, 1954, for two machines; the slots are several). Where reading
        is next to nothing, what is served longest goes first, so that the slots end together
        (Graham's rule for parallel machines, 1969)."""
        cold = [m for m in view.queues if not view.where(m)]
        if view.more_to_come:
            return sorted(cold, key=lambda m: (view.queues[m].oldest.arrival_s, m))
        n_places = sum(s.slot.concurrency for s in view.slots.values())

        def johnson(model: str) -> tuple[bool, float, float, str]:
            queue, read_s = view.queues[model], view.read_s(model)
            serve_s = max(queue.work_s / n_places, self._rates.service_s(model))
            slow = read_s >= serve_s
            if slow or read_s < _NEXT_TO_NOTHING * serve_s:
                return slow, -serve_s if slow else 0.0, -serve_s, model
            return slow, read_s, -serve_s, model

        return sorted(cold, key=johnson)

    def _forced(self, view: View, cold: list[str], max_wait_s: float) -> Iterator[Load]:
        """First jobs of slots that have no more time to lose."""
        # A slot that is promised to a model stays so: were it chosen anew each time, none would
        # ever be empty enough for a large one.
        promised = {n: m for n, m in self._promised.items() if m in cold and not view.slots[n].down}
        self._promised = {}
        for name, model in promised.items():
            yield from self._now(view, name, model)
        reserve_s = self.reserve * max_wait_s
        up = [i for i in view.slots.items() if not i[1].down and i[0] not in self._promised]
        lanes = [
            Lane(slot=name, free_s=self._estimates.free_s(view, slot))
            for name, slot in sorted(up, key=lambda item: self._estimates.missed(view, item[1]))
        ]
        plan(
            self._jobs(view, [m for m in cold if m not in promised.values()], max_wait_s),
            lanes,
            reserve_s=reserve_s,
            load_s=lambda slot, model: (
                view.load_s(slot, model) + self._estimates.clear_s(view, view.slots[slot], model)
            ),
            hold_s=lambda slot, model: self._estimates.hold_s(view, view.slots[slot], model),
            fits=lambda slot, model: fits(view, view.slots[slot], model),
        )
        for lane in lanes:
            spare_s = lane.slack_s - reserve_s
            if lane.jobs and spare_s > 0:
                self._look_at_s = min(self._look_at_s, view.now_s + spare_s)
            elif lane.jobs and not -max_wait_s < lane.slack_s < -reserve_s:
                # Not if it is late anyway: finishing what is loaded first saves the load that
                # brings it back, and capacity is what is missing. But not for ever, either.
                yield from self._now(view, lane.slot, lane.jobs[0].model)

    def _now(self, view: View, name: str, model: str) -> Iterator[Load]:
        """Load it, or promise it the slot until that can be."""
        slot = view.slots[name]
        evict = self._victims(view, slot, model, waited_for=True) if can_begin(slot) else None
        if evict is None:
            self._promised[name] = model
        else:
            yield Load(slot=name, model=model, evict=evict)

    def _jobs(self, view: View, cold: list[str], max_wait_s: float) -> list[Job]:
        jobs, disk_s = [], view.now_s
        for model in sorted(cold, key=lambda m: view.queues[m].oldest.arrival_s):
            jobs.append(Job(model, view.queues[model].oldest.arrival_s + max_wait_s, disk_s))
            if view.tier(model) == "disk":
                able = [n for n, s in view.slots.items() if fits(view, s, model)]
                disk_s += view.load_s(able[0], model)
        return jobs

    def _bought(self, view: View) -> Load | None:
        """The first load whose rent has reached its price, in the slot where it is lowest."""
        able = [
            s
            for s in view.slots.values()
            if can_begin(s)
            and s.slot.name not in self._promised
            and has_room(view, s, self._free_to_go(view, s, waited_for=False))
        ]
        if not able:
            return None
        for model in self._order(view):
            rent_s = view.queues[model].waited_s(view.now_s)
            offers = []
            for i, slot in enumerate(able):
                if not fits(view, slot, model) or self._better_read_first(view, slot, model):
                    continue
                evict = self._victims(view, slot, model, waited_for=False)
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
            if can_begin(slot)
            and name not in self._promised
            and 4 * behind_s[name] <= worst_s
            and has_room(view, slot, self._free_to_go(view, slot, waited_for=False), cold=False)
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
                evict = self._victims(view, slot, model, waited_for=False)
                if left_s - slot_s < 2 * took_s or evict is None:
                    continue
                if self._estimates.price_s(view, slot, model, evict) <= left_s * n / 2:
                    return Load(slot=slot.slot.name, model=model, evict=evict)
        return None

    def _better_read_first(self, view: View, slot: SlotView, model: str) -> bool:
        """On disk, and the slot, or the disk, has something else to do meanwhile."""
        if view.tier(model) != "disk" or view.host.memory_bytes < view.models[model].n_bytes:
            return False
        return bool(slot.running) or view.host.reading is not None

    def _victims(
        self, view: View, slot: SlotView, model: str, *, waited_for: bool
    ) -> tuple[str, ...] | None:
        """Whom to evict, the least missed first. None if there is no room without evicting a model
        that others wait for (unless ``waited_for``), or one that still owes service to those who
        waited for its load: cutting that short would load it twice for the same requests."""
        name = slot.slot.name

        ends_s: dict[str, float] = {}
        for running in slot.running.values():
            ends_s[running.model] = max(ends_s.get(running.model, 0.0), running.expected_end_s)

        def missed(m: str) -> tuple[float, int, float]:
            waiting = len(view.queues[m]) if m in view.queues else 0
            keep = self._rates.per_s(m, view.now_s) * view.load_s(name, m)
            return ends_s.get(m, 0.0), waiting, keep / view.models[m].n_bytes

        may_go = self._free_to_go(view, slot, waited_for=waited_for)
        return make_room(view, slot, model, sorted(may_go, key=missed))

    def _free_to_go(self, view: View, slot: SlotView, *, waited_for: bool) -> list[str]:
        return [
            m
            for m in slot.resident
            if (waited_for or m not in view.queues)
            and (waited_for or slot.slot.max_bases == 1 or m not in slot.n_running)
            and not self._owes(view, slot, m)
        ]

    def _owes(self, view: View, slot: SlotView, model: str) -> bool:
        gate_s = self._gates.get((slot.slot.name, model), float("-inf"))
        return model in view.queues and view.queues[model].oldest.arrival_s <= gate_s


def _first_for_a_cold_model(view: View, request: Waiting) -> bool:
    return (
        view.is_waiting(request.request_id)
        and not view.where(request.model)
        and view.queues[request.model].oldest is request
    )
