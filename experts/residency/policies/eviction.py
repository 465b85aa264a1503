"""Who must leave a slot so that a model fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from experts.residency.policies.base import SlotView, View


def make_room(
    view: View, slot: SlotView, model: str, victims: Iterable[str]
) -> tuple[str, ...] | None:
    """The first of ``victims``, in their order, whose leaving makes room; None if all do not.

    The base of an adapter that is to be loaded stays. A base takes its adapters along."""
    base = view.models[model].adapter_of
    needed = view.bytes_to_load(slot.slot.name, model) - slot.free_bytes
    brings_base = base is None or base not in slot.resident
    n_bases = sum(view.models[m].adapter_of is None for m in slot.resident) + brings_base
    too_many = n_bases - slot.slot.max_bases if slot.slot.max_bases is not None else 0
    leaving: list[str] = []
    for victim in victims:
        if needed <= 0 and too_many <= 0:
            break
        if victim == base or victim in leaving:
            continue
        gone = [
            m
            for m in slot.resident
            if m not in leaving and (m == victim or view.models[m].adapter_of == victim)
        ]
        leaving += gone
        needed -= sum(view.models[m].n_bytes for m in gone)
        too_many -= sum(view.models[m].adapter_of is None for m in gone)
    return tuple(leaving) if needed <= 0 and too_many <= 0 else None


def fits(view: View, slot: SlotView, model: str) -> bool:
    """Whether the slot is large enough at all."""
    base = view.models[model].adapter_of
    needed = view.models[model].n_bytes + (view.models[base].n_bytes if base else 0)
    return needed <= slot.slot.memory_bytes


def can_begin(slot: SlotView) -> bool:
    """Whether a load may be asked for."""
    return not slot.down and slot.loading is None


def has_room(view: View, slot: SlotView, victims: Sequence[str], *, cold: bool = True) -> bool:
    """Cheap, and never wrong about no: whether something that is waited for could be loaded if the
    victims left. ``cold``: only of what is in no slot."""
    wanted = (m for m in view.queues if not (cold and view.where(m)))
    if slot.slot.max_bases == 1 and slot.resident and not victims:
        return any(view.models[m].adapter_of for m in wanted)
    free_bytes = slot.free_bytes + sum(view.models[m].n_bytes for m in victims)
    return any(view.models[m].n_bytes <= free_bytes for m in wanted)


def idle_residents(view: View, slot: SlotView) -> list[str]:
    """Residents with neither running nor waiting requests, least recently used first."""
    return by_last_use(slot, keep=lambda m: m in slot.n_running or m in view.queues)


def by_last_use(slot: SlotView, keep: Callable[[str], bool] = lambda model: False) -> list[str]:
    """Residents, least recently used first, without those to ``keep``."""
    resident = slot.resident
    return sorted((m for m in resident if not keep(m)), key=lambda m: resident[m])
