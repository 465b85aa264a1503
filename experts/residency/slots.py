"""A slot at a moment: what is resident, what runs, what is being loaded."""

from __future__ import annotations

from dataclasses import dataclass

from experts.residency.values import Slot, Tier, Waiting


@dataclass(slots=True)
class Running:
    """A request that is being served."""

    request: Waiting
    model: str
    started_s: float
    expected_end_s: float


@dataclass(slots=True)
class Loading:
    """A load, from being asked for to its end."""

    model: str
    evict: tuple[str, ...]
    """Everything that leaves, adapters of an evicted base included."""
    brings: tuple[str, ...]
    """What becomes resident: the model, and its base where that was missing."""
    n_bytes: int
    tier: Tier
    """Where the weights were when the load was asked for."""
    asked_s: float
    load_s: float
    """Expected, without the drain."""
    expected_end_s: float
    started_s: float | None = None

    @property
    def started(self) -> bool:
        return self.started_s is not None


class SlotState:
    """The books of one slot. Only ``State`` writes in them."""

    __slots__ = (
        "down",
        "family",
        "loading",
        "n_running",
        "resident",
        "running",
        "slot",
        "used_bytes",
    )

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.down = False
        self.family = ""
        """Of the base that was loaded last: its engine may take another of the family in place."""
        self.resident: dict[str, float] = {}
        self.loading: Loading | None = None
        self.running: dict[str, Running] = {}
        self.n_running: dict[str, int] = {}
        self.used_bytes = 0
        """Of the resident and of the load that was asked for; what it evicts is not in it."""

    @property
    def n_free(self) -> int:
        if self.down or not self.resident:
            return 0
        return self.slot.concurrency - len(self.running)

    @property
    def free_bytes(self) -> int:
        return self.slot.memory_bytes - self.used_bytes

    @property
    def drained(self) -> bool:
        """Whether a load that was asked for can begin."""
        loading = self.loading
        return (
            loading is not None
            and not loading.started
            and not any(name in self.n_running for name in loading.evict)
        )

    def expected_drain_s(self, models: tuple[str, ...], now_s: float) -> float:
        """Until nothing that runs now runs on these models; 0 where nothing does."""
        if not any(name in self.n_running for name in models):
            return 0.0
        ends = [r.expected_end_s for r in self.running.values() if r.model in models]
        return max(0.0, max(ends) - now_s)

    def start(self, request: Waiting, model: str, service_s: float, now_s: float) -> None:
        self.running[request.request_id] = Running(request, model, now_s, now_s + service_s)
        self.n_running[model] = self.n_running.get(model, 0) + 1
        self.resident[model] = now_s

    def end(self, request_id: str) -> Running:
        running = self.running.pop(request_id)
        left = self.n_running[running.model] - 1
        if left:
            self.n_running[running.model] = left
        else:
            del self.n_running[running.model]
        return running
