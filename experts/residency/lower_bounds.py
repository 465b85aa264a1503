"""What no policy can beat: lower bounds on the makespan of an offline batch.

Each is a sum that any schedule must pay, however clever, so their maximum is a bound, too. None is
attained in general (the exact problem contains bin packing), so a ratio of 1.2 to the bound does
not mean that 20 % could be won.

Notation: slots s with C_s requests at once; model m with requests of total work W_m and longest
service p_m; L_m the least seconds in which any slot can load it from host memory; D_m the seconds
of reading it from disk. Models that are ``resident`` at the start need no load, models ``in_host``
no reading.

* **work**: sum of W_m / sum of C_s. A slot serves at most C_s request-seconds a second.
* **occupation** (slots for one base each): (sum of (L_m + max(W_m / C, p_m))) / number of slots,
  with C the largest C_s. While a slot holds m it holds nobody else. To serve m's requests it must
  hold m for at least W_m / C in all (over all slots that ever hold it), and at least once for p_m;
  and at least once it is being loaded for L_m, in which nobody is served there. These stretches
  are disjoint for different models on one slot, so their sum is at most slots x makespan.
* **copying** (slots that hold several): (sum of L_m) / number of slots: one load a slot at a time.
* **disk**: the disk reads one after the other, so the last model is read at sum of D_m at the
  earliest, and can then be loaded (reading and copying overlap, so only service follows): plus the
  least over those models of max(W_m / sum of C_s, p_m).
* **longest**: max over m of (L_m from where it is + max(p_m, W_m / sum of C_s)).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from experts.residency.clock import Machine
from experts.residency.slots import SlotState
from experts.residency.values import Model, Tier, Waiting


@dataclass(frozen=True, kw_only=True, slots=True)
class LowerBounds:
    """Seconds, each a lower bound on the makespan."""

    work_s: float
    occupation_s: float
    """0 where some slot holds several bases."""
    copying_s: float
    disk_s: float
    longest_s: float

    @property
    def makespan_s(self) -> float:
        return float(max(asdict(self).values()))


def lower_bounds(machine: Machine, requests: Iterable[Waiting]) -> LowerBounds:
    """For requests that are all there at the start.

    Requests that allow stand-ins are taken at their word: bounds hold for runs without."""
    work_s: dict[str, float] = defaultdict(float)
    longest_s: dict[str, float] = defaultdict(float)
    for r in requests:
        work_s[r.model] += r.service_s
        longest_s[r.model] = max(longest_s[r.model], r.service_s)
    models = {m.name: m for m in machine.models if m.name in work_s}
    n_slots = len(machine.slots)
    n_places = sum(s.concurrency for s in machine.slots)
    widest = max(s.concurrency for s in machine.slots)
    cold = [m for m in models.values() if m.name not in machine.resident.values()]

    def least_load_s(model: Model, tier: Tier) -> float:
        slots = (SlotState(s) for s in machine.slots if model.n_bytes <= s.memory_bytes)
        return min(_load_s(machine, slot, model, tier) for slot in slots)

    copying_s = {m.name: least_load_s(m, "host") for m in cold}
    occupied_s = sum(
        copying_s.get(name, 0.0) + max(work_s[name] / widest, longest_s[name]) for name in models
    )
    one_base = all(s.max_bases == 1 for s in machine.slots)
    adapters = any(m.adapter_of for m in machine.models)
    after_s = {name: max(longest_s[name], work_s[name] / n_places) for name in models}
    unread = [m for m in cold if m.name not in machine.in_host]
    read_s = sum(machine.load_times.read_s(m) for m in unread)
    return LowerBounds(
        work_s=sum(work_s.values()) / n_places,
        # Adapters share a base's slot, so their stretches are not disjoint.
        occupation_s=occupied_s / n_slots if one_base and not adapters else 0.0,
        copying_s=sum(copying_s.values()) / n_slots,
        disk_s=read_s + min((after_s[m.name] for m in unread), default=0.0),
        longest_s=max(
            (
                after_s[m.name]
                + (least_load_s(m, "disk" if m in unread else "host") if m in cold else 0.0)
                for m in models.values()
            ),
            default=0.0,
        ),
    )


def _load_s(machine: Machine, slot: SlotState, model: Model, tier: Tier) -> float:
    """The cheapest way: in place, where the family allows."""
    slot.family = model.family
    return machine.load_times.load_s(slot, model, tier)
