"""CoServe: arrange by expert, assign to the shortest queue, evict by expected use.

Source: CoServe, ASPLOS 2025 (arXiv:2503.02354). (i) A request is put behind the queued requests of
the same expert; (ii) it goes to the executor whose queue then ends first, execution and switches
predicted; (iii) evicted are first the experts that nobody in the queue waits for, then by ascending
usage probability, which is given beforehand, not learned from the run. Groups are served in the
order in which they were opened. A group that is joined without pause holds up all behind it:
nothing bounds waiting. What its profiler decides (residents against batch memory) is the slot's
configuration here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

from experts.residency.policies.base import Action, Load, Serve, SlotView, View
from experts.residency.policies.eviction import can_begin, fits, make_room


class CoServe:
    """``usage``: probability that a request asks for a model; by counts so far where None."""

    name = "CoServe"
    max_wait_s = None

    def __init__(self, usage: Mapping[str, float] | None = None) -> None:
        self.usage = usage
        self._groups: dict[str, dict[str, OrderedDict[str, float]]] = {}
        """Per slot, per model in the order of opening: request ids and their seconds."""
        self._work_s: dict[str, float] = {}

    def decide(self, view: View) -> Iterator[Action]:
        for name in view.slots:
            if name not in self._groups:
                self._groups[name], self._work_s[name] = {}, 0.0
        for request in sorted(view.new, key=lambda r: r.arrival_s):
            chosen = self._assign(view, request.model)
            self._groups[chosen].setdefault(request.model, OrderedDict())[request.request_id] = (
                request.service_s
            )
            self._work_s[chosen] += request.service_s
        for name, slot in view.slots.items():
            yield from self._run(view, name, slot)

    def _assign(self, view: View, model: str) -> str:
        able = [n for n, s in view.slots.items() if not s.down and fits(view, s, model)]
        able = able or [n for n, s in view.slots.items() if fits(view, s, model)]

        def ends_s(name: str) -> float:
            slot = view.slots[name]
            switches = [m for m in self._groups[name] if m not in slot.resident]
            if model not in slot.resident and model not in switches:
                switches.append(model)
            work_s = self._work_s[name] / slot.slot.concurrency
            return work_s + sum(view.load_s(name, m) for m in switches)

        return min(able, key=ends_s)

    def _run(self, view: View, name: str, slot: SlotView) -> Iterator[Action]:
        groups = self._groups[name]
        for model in list(groups):
            group = groups[model]
            while group and not view.is_waiting(next(iter(group))):  # its caller went away
                self._work_s[name] -= group.popitem(last=False)[1]
            if not group:
                del groups[model]
                continue
            if model not in slot.resident:
                if can_begin(slot):
                    evict = make_room(view, slot, model, self._victims(view, slot))
                    if evict is not None:
                        yield Load(slot=name, model=model, evict=evict)
                return
            while group and slot.n_free > 0:
                request_id = next(iter(group))
                self._work_s[name] -= group.pop(request_id)
                if view.is_waiting(request_id):
                    yield Serve(slot=name, request_id=request_id, model=model)
            if group:
                return
            del groups[model]

    def _victims(self, view: View, slot: SlotView) -> list[str]:
        groups = self._groups[slot.slot.name]
        used = self.usage or view.n_arrived
        return sorted(slot.resident, key=lambda m: (m in groups, used.get(m, 0.0)))
