"""Each mechanism of bounded grouping, in the smallest run that would go otherwise without it."""

from __future__ import annotations

import pytest

from experts.residency.bandwidths import Bandwidths, FixedLoads
from experts.residency.clock import Machine, Trace, play
from experts.residency.policies.bounded import BoundedGrouping
from experts.residency.values import Model, Slot, Waiting

LOAD_S = 2.0


def one_slot(*models: str, load_s: float = LOAD_S) -> Machine:
    """One base at a time, one request at a time."""
    return Machine(
        models=tuple(Model(name=name, n_bytes=1) for name in models),
        slots=(Slot(name="slot", memory_bytes=1),),
        load_times=FixedLoads(seconds=load_s),
    )


def asks(
    model: str, *at_s: float, service_s: float = 1.0, caller: str = "", name: str = ""
) -> list[Waiting]:
    """A request of the model at each time; ``name`` tells them from others of the caller."""
    return [
        Waiting(
            request_id=f"{name or model}{i}{caller}",
            model=model,
            arrival_s=t,
            service_s=service_s,
            caller=caller,
        )
        for i, t in enumerate(at_s)
    ]


def every(step_s: float, start_s: float, end_s: float) -> list[float]:
    return [start_s + step_s * i for i in range(int((end_s - start_s) / step_s))]


def loaded(trace: Trace) -> list[str]:
    return [load.model for load in trace.loads]


def wait_s(trace: Trace, model: str) -> float:
    """The longest."""
    return max(s.wait_s for s in trace.served if s.request.model == model)


# Rule 1: serve


def test_callers_that_are_new_each_time_do_not_keep_one_waiting_who_had_much() -> None:
    # Whoever is new stands below who was given ten seconds; only the bound speaks for them.
    had_much = asks("a", 0.0, service_s=10.0, caller="heavy", name="first")
    then = asks("a", 10.0, caller="heavy")
    others = [r for i in range(60) for r in asks("a", 10.0 + i, caller=f"new{i}")]
    trace = play(BoundedGrouping(20.0), one_slot("a"), [*had_much, *then, *others])
    heavy = [s for s in trace.served if s.request.caller == "heavy"]
    assert 10 <= heavy[1].wait_s <= 13  # from half of the bound on, by age


def test_who_was_away_takes_turns_with_who_was_there_and_does_not_catch_up() -> None:
    there = asks("a", *every(1.0, 0.0, 60.0), caller="there")
    back = asks("a", *[30.0] * 20, caller="back")
    trace = play(BoundedGrouping(), one_slot("a"), [*there, *back])
    after = [s.request.caller for s in trace.served if s.start_s > 31]
    assert after[:10].count("back") == 5


# Rule 2: buy when the rent equals the price


def test_a_load_waits_until_it_has_been_waited_for_as_long_as_others_will_wait_for_it() -> None:
    # a comes once a second and would be away for 4.2 s: 1 x 4.2^2 / 2 = 8.8 request-seconds, of
    # which a rate that forgets within two bounds has learned nine tenths.
    popular = asks("a", *every(1.0, 0.0, 400.0), service_s=0.1)
    lonely = asks("b", 300.0, service_s=0.1)
    trace = play(BoundedGrouping(60.0), one_slot("a", "b", load_s=4.0), [*popular, *lonely])
    load = next(load for load in trace.loads if load.model == "b")
    assert load.asked_s - 300 == pytest.approx(8, abs=1)


def test_what_nobody_asks_for_any_more_leaves_at_once() -> None:
    trace = play(BoundedGrouping(60.0), one_slot("a", "b"), [*asks("a", 0.0), *asks("b", 600.0)])
    assert wait_s(trace, "b") <= LOAD_S + 0.5


# Rule 3: always in time


def test_the_bound_is_kept_though_requests_take_longer_than_expected() -> None:
    # What runs when b must be loaded takes 4 s, not 1; a tenth of the bound is kept for that.
    steady = asks("a", *every(0.8, 0.0, 100.0))
    true_s = {r.request_id: 4.0 for r in steady}
    trace = play(
        BoundedGrouping(30.0), one_slot("a", "b"), [*steady, *asks("b", 20.0)], true_s=true_s
    )
    assert wait_s(trace, "b") <= 30


def test_who_waited_for_a_load_is_served_before_the_next_load() -> None:
    # Both cannot be in time. To cut a short for b would mean to load a twice.
    requests = [*asks("a", *[0.0] * 10), *asks("b", *[0.5] * 10)]
    assert loaded(play(BoundedGrouping(10.0), one_slot("a", "b"), requests)) == ["a", "b"]


LATE = [*asks("a", 0.0), *asks("a", 3.0, service_s=12.0, name="long"), *asks("b", 4.0)]
"""With a bound of 10 s b is late whatever is done: it comes when a slot is busy until 15 s."""


def test_what_is_late_anyway_lets_what_is_loaded_finish() -> None:
    # Cutting off those of a who came since would load it twice.
    requests = [*LATE, *asks("a", 5.0, 6.0, name="later")]
    assert loaded(play(BoundedGrouping(10.0), one_slot("a", "b"), requests)) == ["a", "b"]


def test_what_is_late_is_not_late_by_more_than_the_bound_once_more() -> None:
    requests = [*LATE, *asks("a", *every(1.0, 5.0, 60.0), name="later")]
    trace = play(BoundedGrouping(10.0), one_slot("a", "b"), requests)
    assert 15 <= wait_s(trace, "b") <= 20


def test_a_slot_that_is_promised_to_a_large_model_is_not_given_to_a_small_one_meanwhile() -> None:
    machine = Machine(
        models=(
            Model(name="large", n_bytes=3),
            *(Model(name=name, n_bytes=1) for name in "abc"),
        ),
        slots=(Slot(name="gpu", memory_bytes=3, concurrency=2, max_bases=None),),
        load_times=FixedLoads(seconds=LOAD_S),
    )
    # a always runs, so large must force its way. When it is time, b has just been loaded and owes
    # service; c comes just then, has room, and would owe service to many.
    requests = [
        *asks("a", *every(1.0, 0.0, 60.0)),
        *asks("large", 1.0),
        *asks("b", *[21.0] * 6),
        *asks("c", *[24.0] * 10),
    ]
    trace = play(BoundedGrouping(30.0), machine, requests)
    assert loaded(trace)[:4] == ["a", "b", "large", "a"]
    assert wait_s(trace, "large") <= 30


# An offline batch


def batch_s(machine: Machine, requests: list[Waiting]) -> float:
    return play(BoundedGrouping(), machine, requests, offline=True).end_s


@pytest.mark.parametrize(
    ("read_s", "serve_s", "makespan_s"),
    [
        # a's reading hides behind b's service: 1 + max(10, 10) + 2, in place of 10 + 2 + 10.
        ({"a": 10, "b": 1}, {"a": 2, "b": 10}, 13),
        # Both are served in less than they are read: b's service hides behind a's reading.
        ({"a": 10, "b": 10}, {"a": 1, "b": 8}, 21),
        # Both are served in more: what is read sooner is served sooner.
        ({"a": 8, "b": 3}, {"a": 20, "b": 20}, 43),
    ],
)
def test_a_batch_is_read_in_johnson_s_order(
    read_s: dict[str, int], serve_s: dict[str, int], makespan_s: float
) -> None:
    machine = Machine(
        models=tuple(Model(name=name, n_bytes=s) for name, s in read_s.items()),
        slots=(Slot(name="slot", memory_bytes=10),),
        load_times=Bandwidths(host_bytes_per_s=1e6, disk_bytes_per_s=1.0),
        host_memory_bytes=100,
    )
    requests = [r for name, s in serve_s.items() for r in asks(name, *[0.0] * s)]
    assert batch_s(machine, requests) == pytest.approx(makespan_s, abs=0.01)


def two_slots(**n_bytes: int) -> Machine:
    """A tenth of a second of reading a byte, and two seconds a load besides."""
    return Machine(
        models=tuple(Model(name=name, n_bytes=n) for name, n in n_bytes.items()),
        slots=(Slot(name="s0", memory_bytes=3), Slot(name="s1", memory_bytes=3)),
        load_times=Bandwidths(host_bytes_per_s=1e6, disk_bytes_per_s=10.0, swap_s=LOAD_S),
    )


def test_where_reading_is_next_to_nothing_a_batch_begins_with_what_is_served_longest() -> None:
    requests = [
        *asks("a", 0.0, service_s=6.0),
        *asks("b", 0.0, service_s=6.0),
        *asks("c", 0.0, 0.0, service_s=7.0),
    ]
    # c beside a and b, though it is read last. In the order of reading: 2 + 6 + 2 + 14.
    makespan_s = batch_s(two_slots(a=1, b=1, c=3), requests)
    assert makespan_s == pytest.approx(LOAD_S + 6 + LOAD_S + 6, abs=1)


def test_an_idle_slot_takes_over_part_of_a_long_queue() -> None:
    assert batch_s(two_slots(a=1), asks("a", *[0.0] * 40)) <= LOAD_S + 40 / 2 + 2
