"""What holds for every policy, whatever the machine and the requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.residency.bandwidths import FixedLoads
from experts.residency.clock import Machine, Trace, play
from experts.residency.lower_bounds import lower_bounds
from experts.residency.policies.base import Action, Load, Policy, Serve, View, WakeAt
from experts.residency.policies.bounded import BoundedGrouping
from experts.residency.state import State
from experts.residency.summary import summarise
from experts.residency.values import Model, Slot, Waiting
from tests.experts.residency.worlds import POLICIES, runs

quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Run = tuple[Machine, list[Waiting]]


class Watched:
    """A policy whose view is checked at every decision: what slots and host memory hold, fits."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.name, self.max_wait_s = policy, policy.name, policy.max_wait_s

    def decide(self, view: View) -> Iterator[Action]:
        self.check(view)
        for action in self.policy.decide(view):
            yield action
            self.check(view)

    def check(self, view: View) -> None:
        for slot in view.slots.values():
            held = sum(view.models[m].n_bytes for m in slot.resident)
            assert held <= slot.slot.memory_bytes
            assert len(slot.running) <= slot.slot.concurrency
            bases = [m for m in slot.resident if view.models[m].adapter_of is None]
            assert slot.slot.max_bases is None or len(bases) <= slot.slot.max_bases
            assert all(view.models[m].adapter_of in {None, *slot.resident} for m in slot.resident)
        assert sum(view.models[m].n_bytes for m in view.host.holds) <= view.host.memory_bytes


def told(trace: Trace) -> list[tuple[str, str, str, float, float]]:
    return [(s.request.request_id, s.model, s.slot, s.start_s, s.end_s) for s in trace.served]


@pytest.mark.parametrize("name", POLICIES)
@quickly
@given(run=runs())
def test_every_request_is_served_once_where_its_model_is_and_runs_repeat(
    name: str, run: Run
) -> None:
    machine, requests = run
    trace = play(Watched(POLICIES[name]()), machine, requests)
    assert Counter(s.request.request_id for s in trace.served) == Counter(
        r.request_id for r in requests
    )
    for served in trace.served:
        assert served.start_s >= served.request.arrival_s
        assert served.model == served.request.model
        # No work without a load: one ended in that slot before it started.
        assert any(
            load.slot == served.slot
            and load.ended_s <= served.start_s
            and (load.model == served.model or base_of(machine, load.model) == served.model)
            for load in trace.loads
        )
    assert told(play(POLICIES[name](), machine, requests)) == told(trace)


def base_of(machine: Machine, model: str) -> str | None:
    return next(m.adapter_of for m in machine.models if m.name == model)


@pytest.mark.parametrize("name", POLICIES)
@quickly
@given(run=runs())
def test_no_batch_ends_before_its_lower_bound(name: str, run: Run) -> None:
    machine, requests = run
    batch = [
        Waiting(request_id=r.request_id, model=r.model, arrival_s=0.0, service_s=r.service_s)
        for r in requests
    ]
    trace = play(POLICIES[name](), machine, batch, offline=True)
    assert trace.end_s >= lower_bounds(machine, batch).makespan_s - 1e-6


@quickly
@given(run=runs(), factor=st.sampled_from([0.3, 1.0, 3.0]))
def test_ours_loses_nothing_when_expectations_are_wrong_and_stand_ins_are_allowed(
    run: Run, factor: float
) -> None:
    machine, requests = run
    policy = Watched(BoundedGrouping(10.0, load_usd_per_s=1.0))
    true_s = {r.request_id: r.service_s * factor for r in requests}
    trace = play(policy, machine, requests, true_s=true_s)
    assert summarise(trace).n_requests == len(requests)
    for s in trace.served:
        assert s.model in {s.request.model, *(x.model for x in s.request.stand_ins)}


@pytest.mark.parametrize("is_seen", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", POLICIES)
def test_nobody_loads_for_calls_that_were_all_cancelled(name: str, is_seen: bool) -> None:
    """Cancelled before the policy saw them, or after."""
    slot = Slot(name="s", memory_bytes=1)
    state = State([Model(name=n, n_bytes=1) for n in "ab"], [slot], FixedLoads(seconds=2.0))
    policy = POLICIES[name]()

    def arrive(request_id: str, model: str) -> None:
        state.arrive(
            Waiting(request_id=request_id, model=model, arrival_s=state.now_s, service_s=1.0)
        )

    def turn(at_s: float) -> list[Action]:
        state.advance(at_s)
        actions = [a for a in state.ask(policy) if not isinstance(a, WakeAt)]
        state.loads_to_start()
        return actions

    arrive("first", "a")
    assert turn(0.0) == [Load(slot="s", model="a")]
    ids = [f"r{i}" for i in range(3)]
    for request_id in ids:
        arrive(request_id, "b")
    if is_seen:
        assert turn(1.0) == []
    for request_id in ids:
        state.cancel(request_id)
    state.load_ended("s")
    assert turn(2.0) == [Serve(slot="s", request_id="first", model="a")]
    state.completed("first")
    assert turn(3.0) == []
    assert turn(500.0) == []
