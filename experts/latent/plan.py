"""How a head is trained: everything that a run depends on beside its members and its questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from experts.errors import ConfigError
from experts.latent.card import SIZES_OF, FormName

Control = Literal["none", "shuffled", "zeroed"]
"""What a head is told of its peers: their states, another question's, or nothing. The last two are
there to show what a head learns without its peers."""


_FROM_ONE = (
    "n_slots", "top_k", "route_questions", "likely_routes", "joint_rows", "checkpoint_every",
)  # fmt: skip


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; it is a number from {least}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Three phases: *teaching*, a peer's states are to do what its words would do, had the primary
    been told them; *routing*, routes are tried, and the router learns which gave the right answer
    the best chance; *joint*, the language loss of right answers trains form and router
    together."""

    form: FormName = "soft_prefix"
    seed: int = 0
    n_slots: int = 12
    top_k: int = 2
    sizes: dict[str, int] = field(default_factory=dict)
    control: Control = "none"
    teach_steps: int = 1500
    teach_rows: int | None = None
    """64 for cache fusion, whose teaching runs the primary twice, else 256."""
    teach_rate: float = 3e-3
    route_questions: int = 1000
    """On which every route is tried."""
    likely_questions: int = 11_000
    """On which those routes are tried that a router fitted to the first ones thinks likeliest."""
    likely_routes: int = 2
    hopeless_share: float = 0.1
    """Of questions, those that every route tried does worst on: their best route is chance."""
    odd_route_nats: float = 1.0
    """How much better a route has to be than the one that other questions would have one expect."""
    rare_word_share: float = 0.002
    """Words of fewer than this share of the questions are nothing to the router."""
    route_steps: int = 800
    peer_cost_nats: float = 0.3
    """What a peer must better the right answer's log-probability by to be worth asking."""
    joint_steps: int = 400
    joint_rows: int = 48
    joint_rate: float = 5e-4
    router_rate: float = 0.1
    balance: float = 0.01
    """Weight of the loss that keeps all members in use."""
    checkpoint_every: int = 100
    """Steps."""

    def __post_init__(self) -> None:
        """Raises ConfigError for numbers that no training can have."""
        for name in _FROM_ONE:
            _check(name, getattr(self, name), 1)
        for name in ("teach_steps", "route_steps", "joint_steps", "likely_questions", "seed"):
            _check(name, getattr(self, name), 0)
        if self.teach_rows is not None:
            _check("teach_rows", self.teach_rows, 1)
        for name in ("teach_rate", "joint_rate", "router_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a number above 0.")
        for name in ("hopeless_share", "rare_word_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share, 0 to below 1.")
        if unknown := self.sizes.keys() - SIZES_OF[self.form]:
            known = ", ".join(sorted(SIZES_OF[self.form])) or "none"
            raise ConfigError(
                f"sizes: {min(unknown)!r} is no size of the form {self.form}. Known: {known}."
            )
        for name, size in self.sizes.items():
            _check(f"sizes.{name}", size, 1)

    @property
    def n_rows_taught(self) -> int:
        """At each step of teaching."""
        if self.teach_rows is not None:
            return self.teach_rows
        return 64 if self.form == "cache_fusion" else 256
