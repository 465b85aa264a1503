"""How long moving weights takes, from bytes and bandwidths; for the virtual clock.

Real engines take their expectations from what was measured (``experts/vllm``). Bytes over
bandwidth leave out what does not scale with bytes, so there is a constant for it: a swap in place,
or the start of an engine where the weights are of another family and the slot holds one engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from experts.residency.slots import SlotState
from experts.residency.values import Model, Tier


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidths:
    """Bytes a second, and seconds that every load takes besides."""

    host_bytes_per_s: float
    """From host memory into a slot (PCIe, NVLink-C2C), each slot by its own way."""
    disk_bytes_per_s: float
    """From disk into host memory, shared by all: one read at a time."""
    swap_s: float = 0.0
    """Drain, reset of caches, verification."""
    restart_s: float = 0.0
    """More, where an engine for one base must start anew for another family."""

    def load_s(self, slot: SlotState, model: Model, tier: Tier) -> float:
        """Reading and copying overlap, so the slower of the two counts."""
        rate = self.host_bytes_per_s
        if tier == "disk":
            rate = min(rate, self.disk_bytes_per_s)
        seconds = self.swap_s + model.n_bytes / rate
        if slot.slot.max_bases == 1 and model.adapter_of is None:
            in_place = model.family and model.family == slot.family
            seconds += 0.0 if in_place else self.restart_s
        return seconds

    def read_s(self, model: Model) -> float:
        return model.n_bytes / self.disk_bytes_per_s


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedLoads:
    """Every load takes the same, whatever the weights; nothing is read ahead."""

    seconds: float

    def load_s(self, slot: SlotState, model: Model, tier: Tier) -> float:
        return self.seconds

    def read_s(self, model: Model) -> float:
        return 0.0
