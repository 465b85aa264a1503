"""What residency is about: models with bytes, slots with memory, and requests that wait.

Only what is true before anything runs. How things stand at a moment is in ``state.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tier = Literal["slot", "host", "disk"]
"""Where a model's weights are at best: in the slot, in host memory, or on disk only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Weights that a slot can hold: an expert's, or an adapter's."""

    name: str
    n_bytes: int
    """In a slot's memory, and to be moved when it is loaded. An adapter's own, without its base."""
    family: str = ""
    """Models of one family (equal, not empty) can replace each other in place, in one engine."""
    adapter_of: str | None = None
    """The base that this adapter (LoRA) sits on. It is loaded without a swap of the base."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """An engine, or a GPU that holds several: memory, and requests that can run at once."""

    name: str
    memory_bytes: int
    """For weights; what the engine needs for keys and values is not in it."""
    concurrency: int = 1
    """Requests that run at once, over all models in the slot."""
    max_bases: int | None = 1
    """Base models that may be in it at once; None for as many as memory allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """Another model that may answer a request, by its caller's leave."""

    model: str
    service_s: float
    """Expected seconds on it."""
    loss_usd: float
    """What the caller expects to lose by it: (P(right) of the asked - P(right) of this) x V, and
    what it costs more. Negative when it is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A request until it is served."""

    request_id: str
    """Unique among the requests that wait or run."""
    model: str
    arrival_s: float
    """On the driver's clock, from any origin."""
    service_s: float
    """Expected seconds from start to last token."""
    caller: str = ""
    """Whom fairness is owed to: a tenant, a key."""
    stand_ins: tuple[StandIn, ...] = ()
