"""The books refuse what cannot be, and survive what goes wrong."""

from __future__ import annotations

import pytest

from experts.errors import DoesNotFit, PolicyError, UnknownName
from experts.residency.bandwidths import FixedLoads
from experts.residency.clock import Machine, play
from experts.residency.policies.base import Action, Load, Prefetch, Serve, View, WakeAt
from experts.residency.state import State
from experts.residency.values import Model, Slot, Waiting


def request(i: int = 0, model: str = "a", at_s: float = 0.0) -> Waiting:
    return Waiting(request_id=f"r{i}", model=model, arrival_s=at_s, service_s=1.0)


@pytest.fixture
def state() -> State:
    models = [Model(name=n, n_bytes=6) for n in "ab"]
    slots = [Slot(name="s", memory_bytes=10)]
    return State(models, slots, FixedLoads(seconds=2.0), host_memory_bytes=6)


def load(state: State, model: str, evict: tuple[str, ...] = ()) -> None:
    state.apply(Load(slot="s", model=model, evict=evict))
    assert state.loads_to_start() == ["s"]
    state.advance(state.now_s + 2)
    state.load_ended("s")


def test_a_request_is_served_where_its_model_is_and_once(state: State) -> None:
    state.arrive(request())
    serve = Serve(slot="s", request_id="r0", model="a")
    with pytest.raises(PolicyError, match="not resident"):
        state.apply(serve)
    load(state, "a")
    state.apply(serve)
    with pytest.raises(PolicyError, match="not waiting"):
        state.apply(serve)
    assert state.completed("r0").model == "a"
    assert (state.n_waiting, state.queues) == (0, {})


def test_memory_is_never_exceeded(state: State) -> None:
    load(state, "a")
    with pytest.raises(PolicyError, match="Evict more"):
        state.apply(Load(slot="s", model="b"))
    load(state, "b", evict=("a",))
    assert list(state.slots["s"].resident) == ["b"]
    with pytest.raises(PolicyError, match="cannot leave"):
        state.apply(Load(slot="s", model="a", evict=("a",)))


def test_a_load_waits_for_what_runs_on_the_evicted_and_they_serve_nothing_new(
    state: State,
) -> None:
    load(state, "a")
    state.arrive(request(0))
    state.arrive(request(1))
    state.apply(Serve(slot="s", request_id="r0", model="a"))
    state.apply(Load(slot="s", model="b", evict=("a",)))
    assert state.loads_to_start() == []
    with pytest.raises(PolicyError, match="not resident"):
        state.apply(Serve(slot="s", request_id="r1", model="a"))
    state.completed("r0")
    assert state.loads_to_start() == ["s"]


def test_what_ran_in_a_slot_that_died_waits_again_as_old_as_it_is(state: State) -> None:
    load(state, "a")
    for i in range(3):
        state.arrive(request(i, at_s=float(i)))
    state.apply(Serve(slot="s", request_id="r0", model="a"))
    assert [r.request_id for r in state.slot_down("s")] == ["r0"]
    assert [r.request_id for r in state.queues["a"]] == ["r0", "r1", "r2"]
    with pytest.raises(PolicyError, match="down"):
        state.apply(Load(slot="s", model="a"))
    state.slot_up("s")
    load(state, "a")
    assert state.where("a") == ["s"]


def test_after_a_failed_load_the_slot_is_empty_and_usable(state: State) -> None:
    load(state, "a")
    state.apply(Load(slot="s", model="b", evict=("a",)))
    state.loads_to_start()
    state.load_failed("s")
    assert (state.where("a"), state.where("b"), state.slots["s"].free_bytes) == ([], [], 10)
    load(state, "b")


def test_host_memory_keeps_what_was_read_last(state: State) -> None:
    load(state, "a")
    assert state.tier("a") == "slot"
    state.apply(Load(slot="s", model="b", evict=("a",)))
    assert state.tier("a") == "host"
    state.loads_to_start()
    state.load_ended("s")
    assert state.tier("a") == "disk"
    with pytest.raises(PolicyError, match="already"):
        state.apply(Prefetch(model="b"))
    state.apply(Prefetch(model="a", evict=("b",)))
    with pytest.raises(PolicyError, match="still being read"):
        state.apply(Prefetch(model="b"))
    state.prefetch_ended()
    assert state.tier("a") == "host"


def test_a_cancelled_request_is_gone(state: State) -> None:
    state.arrive(request())
    with pytest.raises(ValueError, match="already"):
        state.arrive(request())
    state.cancel("r0")
    assert not state.is_waiting("r0")


def test_a_model_that_fits_nowhere_is_told_at_the_start() -> None:
    with pytest.raises(DoesNotFit, match="largest slot has 10"):
        State(
            [Model(name="a", n_bytes=11)],
            [Slot(name="s", memory_bytes=10)],
            FixedLoads(seconds=1.0),
        )
    with pytest.raises(UnknownName):
        State(
            [Model(name="a", n_bytes=1, adapter_of="none")],
            [Slot(name="s", memory_bytes=10)],
            FixedLoads(seconds=1.0),
        )


class Idle:
    name = "idle"
    max_wait_s = None

    def __init__(self, *actions: Action) -> None:
        self.actions = actions

    def decide(self, view: View) -> tuple[Action, ...]:
        return self.actions


def test_a_policy_that_does_nothing_is_found_out() -> None:
    machine = Machine(
        models=(Model(name="a", n_bytes=1),),
        slots=(Slot(name="s", memory_bytes=1),),
        load_times=FixedLoads(seconds=1.0),
    )
    with pytest.raises(PolicyError, match="leaves 1 requests waiting"):
        play(Idle(), machine, [request()])
    with pytest.raises(PolicyError, match="not later"):
        play(Idle(WakeAt(at_s=0.0)), machine, [request()])
