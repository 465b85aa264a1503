"""Random machines and requests for the property tests, and all policies by name."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from eval.benchmarks.residency import policies
from experts.residency.bandwidths import Bandwidths
from experts.residency.clock import Machine
from experts.residency.policies.base import Policy
from experts.residency.values import Model, Slot, StandIn, Waiting

POLICIES: dict[str, Callable[[], Policy]] = policies(30.0)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Up to six bases and two adapters on up to three slots; every model fits every slot."""
    n = draw(st.integers(1, 6))
    models = [
        Model(
            name=f"m{i}",
            n_bytes=draw(st.integers(1, 40)),
            family=draw(st.sampled_from(["", "f"])),
        )
        for i in range(n)
    ]
    for i in range(draw(st.integers(0, 2))):
        base = draw(st.sampled_from(models[:n]))
        models.append(Model(name=f"a{i}", n_bytes=draw(st.integers(1, 5)), adapter_of=base.name))
    slots = [
        Slot(
            name=f"s{i}",
            memory_bytes=draw(st.integers(45, 120)),
            concurrency=draw(st.integers(1, 4)),
            max_bases=draw(st.sampled_from([1, 2, None])),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    return Machine(
        models=tuple(models),
        slots=tuple(slots),
        load_times=Bandwidths(
            host_bytes_per_s=50.0, disk_bytes_per_s=10.0, swap_s=0.1, restart_s=0.5
        ),
        host_memory_bytes=draw(st.sampled_from([0, 50, 500])),
    )


@st.composite
def requests(draw: st.DrawFn, machine: Machine) -> list[Waiting]:
    n = draw(st.integers(1, 40))
    names = [m.name for m in machine.models]
    asked = []
    for i in range(n):
        stand_ins = (
            (StandIn(model=draw(st.sampled_from(names)), service_s=1.0, loss_usd=0.0),)
            if draw(st.booleans())
            else ()
        )
        asked.append(
            Waiting(
                request_id=f"r{i}",
                model=draw(st.sampled_from(names)),
                arrival_s=draw(st.sampled_from([0.0, 0.5, 3.0, 10.0, 40.0])),
                service_s=draw(st.sampled_from([0.1, 1.0, 5.0])),
                caller=draw(st.sampled_from("abc")),
                stand_ins=stand_ins,
            )
        )
    return asked


@st.composite
def runs(draw: st.DrawFn) -> tuple[Machine, list[Waiting]]:
    machine = draw(machines())
    return machine, draw(requests(machine))
