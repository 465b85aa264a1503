"""What a model that was loaded owes: service to those who waited for its load.

Until they are served it is not evicted, not even for a deadline: cutting it short would load it
twice for the same requests, and under overload every load would be followed by the next.
"""

from __future__ import annotations

from experts.residency.policies.base import Load, SlotView, View


class Owed:
    def __init__(self) -> None:
        self._loading: dict[str, str] = {}
        """By slot, the model that was being loaded when it was last looked."""
        self._loaded_s: dict[tuple[str, str], float] = {}
        """When each model's load ended, by slot."""

    def begun(self, load: Load) -> None:
        self._loading[load.slot] = load.model
        for model in load.evict:
            self._loaded_s.pop((load.slot, model), None)

    def note_ended(self, view: View) -> bool:
        """Whether loads have ended, or failed, since it was last looked."""
        ended = False
        for name, slot in view.slots.items():
            loading = slot.loading.model if slot.loading else None
            before = self._loading.get(name)
            if before is not None and before != loading:
                ended = True
                if before in slot.resident:
                    self._loaded_s[name, before] = view.now_s
            if loading is None:
                self._loading.pop(name, None)
            else:
                self._loading[name] = loading
        return ended

    def owes(self, view: View, slot: SlotView, model: str) -> bool:
        loaded_s = self._loaded_s.get((slot.slot.name, model), float("-inf"))
        return model in view.queues and view.queues[model].oldest.arrival_s <= loaded_s
