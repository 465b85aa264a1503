"""Numbers that every request adds to: nothing but additions, since each of them is in its way.

Of one process, from its start; the ledger knows what happened before, and elsewhere. The event loop
and its threads add to them without a lock: who watches a server does not miss one in a million.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from experts.values import Completion

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
"""Upper ends of the buckets that durations are counted in."""


NAMED = ("named", "only")
"""Policy and strategy where the caller named the expert."""


@dataclass(slots=True)
class Durations:
    """How many fell into each bucket, the last one being all above; and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Calls:
    """Of one expert, for one purpose, with one outcome."""

    n: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    load_s: float = 0.0


class Meters:
    """Of one server."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        """By route and status."""
        self.request_s: dict[str, Durations] = {}
        """By route, until the response's last byte."""
        self.calls: dict[tuple[str, str, str], Calls] = {}
        """By expert, purpose and outcome: a finish reason, or an error's code."""
        self.call_s: dict[str, Durations] = {}
        """By expert."""
        self.decisions: dict[tuple[str, str], int] = {}
        """By policy and strategy; ``NAMED`` where there was none to choose."""
        self.router_cost_usd = 0.0

    def answered(self, route: str, status: int, seconds: float) -> None:
        key = route, status
        self.requests[key] = self.requests.get(key, 0) + 1
        durations = self.request_s.get(route)
        if durations is None:
            durations = self.request_s[route] = Durations()
        durations.add(seconds)

    def called(self, completions: Sequence[Completion]) -> None:
        for c in completions:
            call, usage = c.call, c.usage
            key = call.arm.expert, call.purpose, c.error_code or c.finish_reason
            calls = self.calls.get(key)
            if calls is None:
                calls = self.calls[key] = Calls()
            calls.n += 1
            calls.input_tokens += usage.input_tokens
            calls.cached_tokens += usage.cached_tokens
            calls.output_tokens += usage.output_tokens
            calls.cost_usd += c.cost_usd
            calls.load_s += c.load_s
            durations = self.call_s.get(key[0])
            if durations is None:
                durations = self.call_s[key[0]] = Durations()
            durations.add(c.latency_s)

    def decided(self, policy: str, strategy: str, router_cost_usd: float = 0.0) -> None:
        key = policy, strategy
        self.decisions[key] = self.decisions.get(key, 0) + 1
        self.router_cost_usd += router_cost_usd
