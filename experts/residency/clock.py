"""The virtual clock: a policy's decisions played out, event by event, in no time at all.

Exact: nothing is sampled and no time step is chosen. What a run takes follows from the requests,
their true seconds, and the load times; policies see only the expected ones. Runs repeat exactly.

It does not model that many requests in one batch slow each other (their seconds are given), nor
failures: those are the fleet's, and are tested there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from experts.errors import PolicyError
from experts.residency.policies.base import Policy, Serve, WakeAt
from experts.residency.state import LoadTimes, State
from experts.residency.values import Model, Slot, Tier, Waiting

_COMPLETED, _LOADED, _READ = range(3)


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request."""

    request: Waiting
    model: str
    """Who served it: another than was asked for when a stand-in did."""
    slot: str
    start_s: float
    end_s: float

    @property
    def wait_s(self) -> float:
        """From arrival until it started."""
        return self.start_s - self.request.arrival_s


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that ended."""

    slot: str
    model: str
    n_bytes: int
    tier: Tier
    asked_s: float
    started_s: float
    """After the drain."""
    ended_s: float


@dataclass(slots=True)
class Trace:
    """Everything that happened in a run."""

    slots: tuple[Slot, ...]
    served: list[Served] = field(default_factory=list)
    """In the order of their ends."""
    loads: list[Loaded] = field(default_factory=list)
    n_prefetches: int = 0
    busy_s: float = 0.0
    """Slot-seconds in which a slot served at least one request."""
    stalled_s: float = 0.0
    """Slot-seconds in which a slot loaded and served nobody."""
    start_s: float = 0.0
    end_s: float = 0.0
    """The last answer."""
    gave_up: bool = False
    """A wait was longer than ``give_up_s``, and the run was left there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What requests are played on."""

    models: tuple[Model, ...]
    slots: tuple[Slot, ...]
    load_times: LoadTimes
    host_memory_bytes: int = 0
    resident: Mapping[str, str] = field(default_factory=dict)
    """Model by slot, of what is loaded at the start."""
    in_host: tuple[str, ...] = ()
    """Models with a copy in host memory at the start."""


def play(
    policy: Policy,
    machine: Machine,
    requests: Iterable[Waiting],
    *,
    offline: bool = False,
    true_s: Mapping[str, float] | None = None,
    give_up_s: float = float("inf"),
) -> Trace:
    """Play the requests until the last is answered.

    offline: the policy is told that nothing comes beyond what has arrived at the start.
    give_up_s: leave the run when a request starts after a longer wait, to save time.
    true_s: seconds by request id, where they differ from the expected ``service_s``.
    Raises PolicyError when the policy leaves requests waiting for ever.
    """
    return _Clock(policy, machine, requests, offline=offline, true_s=true_s or {}).run(give_up_s)


class _Clock:
    def __init__(
        self,
        policy: Policy,
        machine: Machine,
        requests: Iterable[Waiting],
        *,
        offline: bool,
        true_s: Mapping[str, float],
    ) -> None:
        self.policy, self.true_s = policy, true_s
        self.requests: Sequence[Waiting] = sorted(requests, key=lambda r: r.arrival_s)
        now_s = self.requests[0].arrival_s if self.requests else 0.0
        self.state = State(
            machine.models,
            machine.slots,
            machine.load_times,
            host_memory_bytes=machine.host_memory_bytes,
            now_s=now_s,
        )
        self.state.more_to_come = not offline
        for slot, model in machine.resident.items():
            self.state.slot_up(slot, [model])
        for model in machine.in_host:
            self.state.put_in_host(model)
        self.trace = Trace(slots=tuple(machine.slots), start_s=now_s, end_s=now_s)
        self.events: list[tuple[float, int, int, str]] = []
        self.n_events = 0
        self.wake_s: float | None = None
        self.longest_wait_s = 0.0

    def run(self, give_up_s: float) -> Trace:
        i, n = 0, len(self.requests)
        while i < n or self.state.n_waiting or self.events:
            times = [self.events[0][0]] if self.events else []
            if i < n:
                times.append(self.requests[i].arrival_s)
            if self.wake_s is not None:
                times.append(self.wake_s)
            if not times:
                raise PolicyError(
                    f"Policy {self.policy.name!r} leaves {self.state.n_waiting} requests waiting "
                    f"for {', '.join(sorted(self.state.queues))}, with nothing left to happen."
                )
            now_s = min(times)
            self._pass_until(now_s)
            if self.longest_wait_s > give_up_s:
                self.trace.gave_up = True
                return self.trace
            while i < n and self.requests[i].arrival_s <= now_s:
                self.state.arrive(self.requests[i])
                i += 1
            while self.events and self.events[0][0] <= now_s:
                _, _, kind, what = heapq.heappop(self.events)
                self._happen(kind, what)
            self._decide()
        return self.trace

    def _happen(self, kind: int, what: str) -> None:
        state, now_s = self.state, self.state.now_s
        if kind == _COMPLETED:
            slot = state.slot_of(what)
            done = state.completed(what)
            self.trace.served.append(Served(done.request, done.model, slot, done.started_s, now_s))
            self.trace.end_s = now_s
        elif kind == _LOADED:
            load = state.load_ended(what)
            self.trace.loads.append(
                Loaded(
                    what,
                    load.model,
                    load.n_bytes,
                    load.tier,
                    load.asked_s,
                    load.asked_s if load.started_s is None else load.started_s,
                    now_s,
                )
            )
        else:
            state.prefetch_ended()
            self.trace.n_prefetches += 1

    def _decide(self) -> None:
        state, now_s = self.state, self.state.now_s
        self.wake_s = None
        was_reading = state.host.reading
        for action in state.ask(self.policy):
            if isinstance(action, WakeAt):
                if action.at_s <= now_s:
                    raise PolicyError(
                        f"Policy {self.policy.name!r} asks at {now_s} s to be woken at "
                        f"{action.at_s} s, which is not later."
                    )
                self.wake_s = min(action.at_s, self.wake_s or action.at_s)
                continue
            if not isinstance(action, Serve):
                continue
            running = state.slots[action.slot].running[action.request_id]
            self.longest_wait_s = max(self.longest_wait_s, now_s - running.request.arrival_s)
            true_s = self.true_s.get(action.request_id)
            ends_s = running.expected_end_s if true_s is None else now_s + true_s
            self._at(ends_s, _COMPLETED, action.request_id)
        for slot in state.loads_to_start():
            loading = state.slots[slot].loading
            assert loading is not None  # noqa: S101
            self._at(loading.expected_end_s, _LOADED, slot)
        if state.host.reading is not None and state.host.reading != was_reading:
            self._at(now_s + state.prefetch_s, _READ, state.host.reading)

    def _at(self, time_s: float, kind: int, what: str) -> None:
        heapq.heappush(self.events, (time_s, self.n_events, kind, what))
        self.n_events += 1

    def _pass_until(self, now_s: float) -> None:
        """Book what the slots did until now, before anything changes."""
        passed_s = now_s - self.state.now_s
        for slot in self.state.slots.values():
            if slot.running:
                self.trace.busy_s += passed_s
            elif slot.loading is not None and slot.loading.started:
                self.trace.stalled_s += passed_s
        self.state.advance(now_s)
