"""What a load would do to a slot, and whether that can be: memory, bases, adapters.

Values in, values out: ``State`` writes it into the books.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experts.errors import DoesNotFit, PolicyError, UnknownName
from experts.residency.policies.base import Load
from experts.residency.slots import SlotState
from experts.residency.values import Model, Slot

Models = Mapping[str, Model]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """What changes in the slot."""

    leaves: tuple[str, ...]
    """What is evicted, and the adapters of an evicted base, in the order of residence."""
    brings: tuple[str, ...]
    """The model, after its base where that is missing."""
    n_bytes: int
    """Of what it brings."""
    freed_bytes: int


def plan_load(models: Models, slot: SlotState, load: Load) -> LoadPlan:
    """Raises PolicyError when it cannot be, UnknownName for an unknown model."""
    name = f"slot {slot.slot.name!r}"
    if load.model not in models:
        raise UnknownName(load.model, models, what="model")
    if slot.down:
        raise PolicyError(f"Load of {load.model!r} into {name}, which is down.")
    if slot.loading is not None:
        raise PolicyError(
            f"Load of {load.model!r} into {name}, which is loading {slot.loading.model!r}."
        )
    if load.model in slot.resident and load.model not in load.evict:
        raise PolicyError(f"{load.model!r} is resident in {name} already.")
    leaves = _leaves(models, slot, load)
    brings = tuple(m for m in _chain(models, load.model) if m not in slot.resident or m in leaves)
    plan = LoadPlan(
        leaves=leaves,
        brings=brings,
        n_bytes=sum(models[m].n_bytes for m in brings),
        freed_bytes=sum(models[m].n_bytes for m in leaves),
    )
    if slot.used_bytes - plan.freed_bytes + plan.n_bytes > slot.slot.memory_bytes:
        raise PolicyError(
            f"{load.model!r} needs {plan.n_bytes} bytes in {name}; {slot.free_bytes} are free, "
            f"and {slot.free_bytes + plan.freed_bytes} after the eviction. Evict more."
        )
    stays = [m for m in slot.resident if m not in leaves]
    n_bases = sum(models[m].adapter_of is None for m in (*stays, *brings))
    if slot.slot.max_bases is not None and n_bases > slot.slot.max_bases:
        raise PolicyError(
            f"{name} would hold {n_bases} bases; its engine takes {slot.slot.max_bases}."
        )
    return plan


def missing_in(models: Models, slot: SlotState, model: str) -> tuple[str, ...]:
    """What of the model and its base is not resident in the slot, the base first."""
    return tuple(m for m in _chain(models, model) if m not in slot.resident)


def check_fit(models: Models, slots: Sequence[Slot]) -> None:
    """Raises DoesNotFit when a model fits nowhere, UnknownName when the base of an adapter is
    missing."""
    largest = max((slot.memory_bytes for slot in slots), default=0)
    for model in models.values():
        if model.adapter_of is not None and model.adapter_of not in models:
            raise UnknownName(model.adapter_of, models, what="base model")
        needed = sum(models[m].n_bytes for m in _chain(models, model.name))
        if needed > largest:
            raise DoesNotFit(
                f"{model.name!r} needs {needed} bytes; the largest slot has {largest}. "
                "Use a smaller precision or a larger slot, or leave the model out."
            )


def _chain(models: Models, model: str) -> tuple[str, ...]:
    base = models[model].adapter_of
    return (model,) if base is None else (base, model)


def _leaves(models: Models, slot: SlotState, load: Load) -> tuple[str, ...]:
    missing = [name for name in load.evict if name not in slot.resident]
    if missing:
        raise PolicyError(
            f"{', '.join(missing)} cannot leave slot {slot.slot.name!r}: it is not resident."
        )
    evict = set(load.evict)
    # In the order of residence, so that runs repeat exactly.
    return tuple(m for m in slot.resident if m in evict or models[m].adapter_of in evict)
