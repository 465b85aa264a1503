"""Rule 3: what must be loaded now, whatever it cuts short, so that nobody waits beyond the bound.

``lookahead`` lays the deadlines out; here is what follows from its plan. A slot that must begin but
cannot (it is loading, or still owes service) is promised to the model, and stays so: were it chosen
anew each time, none would ever be empty enough for a large one.
"""

from __future__ import annotations

from collections.abc import Iterator

from experts.residency.policies.base import Load, View
from experts.residency.policies.bounded.estimates import Estimates
from experts.residency.policies.bounded.lookahead import Job, Lane, plan
from experts.residency.policies.bounded.owed import Owed
from experts.residency.policies.bounded.room import victims
from experts.residency.policies.eviction import can_begin, fits


class InTime:
    """max_wait_s: the bound; reserve_s: of it, for what the look-ahead cannot know."""

    def __init__(
        self, max_wait_s: float, *, reserve_s: float, estimates: Estimates, owed: Owed
    ) -> None:
        self.max_wait_s, self.reserve_s = max_wait_s, reserve_s
        self._estimates, self._owed = estimates, owed
        self.promised: dict[str, str] = {}
        """By slot, the model that must be loaded next but cannot yet."""
        self.next_s = float("inf")
        """When the first slot will have no time to lose, as of the last look."""

    def forced(self, view: View) -> Iterator[Load]:
        """First jobs of slots that have no more time to lose."""
        cold = [m for m in view.queues if not view.where(m)]
        promised = {n: m for n, m in self.promised.items() if m in cold and not view.slots[n].down}
        self.promised, self.next_s = {}, float("inf")
        for name, model in promised.items():
            yield from self._now(view, name, model)
        lanes = self._lanes(view)
        plan(
            self._jobs(view, [m for m in cold if m not in promised.values()]),
            lanes,
            reserve_s=self.reserve_s,
            load_s=lambda slot, model: (
                view.load_s(slot, model) + self._estimates.clear_s(view, view.slots[slot], model)
            ),
            hold_s=lambda slot, model: self._estimates.hold_s(view, view.slots[slot], model),
            fits=lambda slot, model: fits(view, view.slots[slot], model),
        )
        for lane in lanes:
            spare_s = lane.slack_s - self.reserve_s
            if not lane.jobs:
                continue
            if spare_s > 0:
                self.next_s = min(self.next_s, view.now_s + spare_s)
            elif not -self.max_wait_s < lane.slack_s < -self.reserve_s:
                # Not if it is late anyway: finishing what is loaded first saves the load that
                # brings it back, and capacity is what is missing. But not for ever, either.
                yield from self._now(view, lane.slot, lane.jobs[0].model)

    def _now(self, view: View, name: str, model: str) -> Iterator[Load]:
        """Load it, or promise it the slot until that can be."""
        slot, evict = view.slots[name], None
        if can_begin(slot):
            evict = victims(view, slot, model, self._owed, cut_short=True)
        if evict is None:
            self.promised[name] = model
        else:
            yield Load(slot=name, model=model, evict=evict)

    def _lanes(self, view: View) -> list[Lane]:
        """Slots that are up and not promised, the least missed first."""
        up = [s for n, s in view.slots.items() if not s.down and n not in self.promised]
        return [
            Lane(slot=slot.slot.name, free_s=self._estimates.free_s(view, slot))
            for slot in sorted(up, key=lambda s: self._estimates.missed(view, s))
        ]

    def _jobs(self, view: View, cold: list[str]) -> list[Job]:
        """In the order of their deadlines, each after the loads from disk of those before it: the
        disk is taken to be what holds loads up, also where it is not, which errs on the early
        side."""
        jobs, disk_free_s = [], view.now_s
        for model in sorted(cold, key=lambda m: view.queues[m].oldest.arrival_s):
            deadline_s = view.queues[model].oldest.arrival_s + self.max_wait_s
            jobs.append(Job(model, deadline_s, disk_free_s))
            if view.tier(model) == "disk":
                able = [n for n, s in view.slots.items() if fits(view, s, model)]
                disk_free_s += view.load_s(able[0], model)
        return jobs
