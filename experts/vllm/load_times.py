"""Expected seconds of loads on real engines, for residency policies: read off the record."""

from __future__ import annotations

from collections.abc import Mapping

from experts.residency.slots import SlotState
from experts.residency.values import Model, Tier
from experts.vllm.record import BYTES_PER_S, SwapRecord
from experts.vllm.slot import EngineSlot


class MeasuredLoads:
    """Keeps ``experts.residency.state.LoadTimes``."""

    def __init__(self, slots: Mapping[str, EngineSlot], record: SwapRecord) -> None:
        self._slots, self._record = slots, record

    def load_s(self, slot: SlotState, model: Model, tier: Tier) -> float:
        way = self._slots[slot.slot.name].way(model.name)
        return self._record.expected_s(way, model.name, model.n_bytes, tier)

    def read_s(self, model: Model) -> float:
        return model.n_bytes / BYTES_PER_S["disk"]
