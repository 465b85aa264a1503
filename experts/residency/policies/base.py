"""The seam: what a residency policy sees, and what it may ask for.

``decide`` is called at every event (arrival, completion, load done or failed, timer), once for
all that happens at one moment. Each action is applied before the next is taken, so that a
generator sees in the view what it has done so far; a list will do, too. A policy does no I/O and
has no clock and no randomness; it may remember. The same object drives the virtual clock and real
engines, so it never knows how long something *will* take, only what is expected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from experts.residency.values import Model, Slot, Tier, Waiting


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Start a waiting request in a slot where ``model`` is resident.

    ``model`` is the request's own, or one of its stand-ins (then it is recorded as such)."""

    slot: str
    request_id: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Bring ``model`` into ``slot`` in place of ``evict``.

    From now on the evicted serve nothing new; the load begins when what runs on them has ended
    (drain). What stays resident serves on. An adapter brings its base along where the base is
    missing; a base that is evicted takes its adapters with it. One load a slot at a time."""

    slot: str
    model: str
    evict: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefetch:
    """Read ``model`` from disk into host memory in place of ``evict`` (host memory's, not a
    slot's). What is read for a load goes through host memory, too, and stays while there is room,
    least recently used out first."""

    model: str
    evict: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class WakeAt:
    """Call ``decide`` again at this moment, if nothing happens before."""

    at_s: float


Action = Serve | Load | Prefetch | WakeAt


class RunningView(Protocol):
    """A request that is being served."""

    @property
    def request(self) -> Waiting: ...
    @property
    def model(self) -> str:
        """Who serves it."""
        ...

    @property
    def expected_end_s(self) -> float: ...


class LoadingView(Protocol):
    """A load that was asked for and has not ended."""

    @property
    def model(self) -> str: ...
    @property
    def started(self) -> bool:
        """False while what is evicted still runs."""
        ...

    @property
    def expected_end_s(self) -> float:
        """The drain included."""
        ...


class SlotView(Protocol):
    """A slot at a moment."""

    @property
    def slot(self) -> Slot: ...
    @property
    def down(self) -> bool:
        """Its engine is not there: nothing can be served or loaded."""
        ...

    @property
    def resident(self) -> Mapping[str, float]:
        """Models that can serve, and when each last started a request or was loaded."""
        ...

    @property
    def loading(self) -> LoadingView | None: ...
    @property
    def running(self) -> Mapping[str, RunningView]:
        """By request id, also of models that are being evicted."""
        ...

    @property
    def n_running(self) -> Mapping[str, int]:
        """By model; models without any are not in it."""
        ...

    @property
    def n_free(self) -> int:
        """Requests that could start now. While a load into a slot for one base runs, nothing can
        be served, as nothing is resident."""
        ...

    @property
    def free_bytes(self) -> int:
        """With the load that is under way paid for."""
        ...

    def expected_drain_s(self, models: tuple[str, ...], now_s: float) -> float:
        """Until nothing that runs now runs on these models; 0 where nothing does."""
        ...


class QueueView(Protocol):
    """Requests that wait for one model, oldest first. Never empty."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Waiting]: ...
    @property
    def oldest(self) -> Waiting: ...
    @property
    def work_s(self) -> float:
        """Sum of the expected seconds."""
        ...

    def waited_s(self, now_s: float) -> float:
        """Sum of what they have waited so far."""
        ...

    @property
    def callers(self) -> Collection[str]:
        """Who waits here."""
        ...

    def oldest_of(self, caller: str) -> Waiting: ...


class HostView(Protocol):
    """Host memory that holds copies of weights."""

    @property
    def memory_bytes(self) -> int: ...
    @property
    def free_bytes(self) -> int: ...
    @property
    def holds(self) -> Mapping[str, float]:
        """Models, and when each was last used (read, or loaded from here)."""
        ...

    @property
    def reading(self) -> str | None:
        """What is being prefetched."""
        ...


class View(Protocol):
    """How things stand. It is live: it changes as actions are applied, so copy what must last."""

    @property
    def now_s(self) -> float: ...
    @property
    def models(self) -> Mapping[str, Model]: ...
    @property
    def slots(self) -> Mapping[str, SlotView]: ...
    @property
    def queues(self) -> Mapping[str, QueueView]:
        """Only of models for which somebody waits."""
        ...

    @property
    def host(self) -> HostView: ...
    @property
    def n_arrived(self) -> Mapping[str, int]:
        """Requests that asked for each model, since the start."""
        ...

    @property
    def new(self) -> Sequence[Waiting]:
        """What joined the queues since the last decision: arrived, or back from a slot that
        failed."""
        ...

    def is_waiting(self, request_id: str) -> bool:
        """False when it was served, or its caller went away."""
        ...

    @property
    def more_to_come(self) -> bool:
        """False when everything that will ever be asked is known: an offline batch."""
        ...

    def where(self, model: str) -> Sequence[str]:
        """Slots where it is resident, or being loaded."""
        ...

    def tier(self, model: str) -> Tier: ...

    def load_s(self, slot: str, model: str) -> float:
        """Expected seconds to load it there now, without the drain, by the way that would be used
        and from the tier that it is in."""
        ...

    def read_s(self, model: str) -> float:
        """Expected seconds of reading it from disk, as if the disk were free; 0 if it is in host
        memory."""
        ...

    def bytes_to_load(self, slot: str, model: str) -> int:
        """Its bytes, and its base's where that is missing there."""
        ...


class Policy(Protocol):
    """What to do next. One object serves one run: it may remember what it did."""

    @property
    def name(self) -> str: ...
    @property
    def max_wait_s(self) -> float | None:
        """The longest that a request may wait before it starts; None where nothing is promised."""
        ...

    def decide(self, view: View) -> Iterable[Action]: ...
