"""Machines and requests for ``conclave bench residency``: the field's cases, seeded.

Sizes and bandwidths are those of usual hardware, rounded: 8 GPUs with 100 GB for weights each
(H200 less its keys and values), 32 requests at once, 50 GB/s from host memory (PCIe 5), one NVMe
group of 7 GB/s, 2 TB of host memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experts.residency.bandwidths import Bandwidths, FixedLoads
from experts.residency.clock import Machine
from experts.residency.values import Model, Slot, Waiting
from experts.residency.workloads import (
    Demand,
    bursty_times,
    experts_of,
    poisson_times,
    requests_at,
    self_exciting_times,
    zipf_shares,
)

CALLERS = ("batch", "app", "team", "person")
CALLER_SHARES = (0.7, 0.2, 0.07, 0.03)
Times = Callable[[int, float, int], np.ndarray]
"""Arrival times from n, rate and seed."""


def poisson(n: int, per_s: float, seed: int) -> np.ndarray:
    return poisson_times(n, per_s, seed=seed)


def bursty(n: int, per_s: float, seed: int) -> np.ndarray:
    return bursty_times(n, per_s, seed=seed)


def self_exciting(n: int, per_s: float, seed: int) -> np.ndarray:
    return self_exciting_times(n, per_s, seed=seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A machine and what is asked of it."""

    name: str
    machine: Machine
    demand: Demand
    max_wait_s: float
    """The bound on waiting, where requests come by themselves."""

    def offline(self, n: int, seed: int) -> list[Waiting]:
        return requests_at(np.zeros(n), self.demand, seed=seed)

    def online(self, n: int, load: float, seed: int, times: Times = poisson) -> list[Waiting]:
        """load: work that arrives, as a share of what the slots could run; loads come on top."""
        return requests_at(times(n, self.per_s(load), seed), self.demand, seed=seed)

    def per_s(self, load: float) -> float:
        """Requests a second that make this load."""
        places = sum(slot.concurrency for slot in self.machine.slots)
        mean_s = float(np.dot(self.demand.shares, self.demand.service_s))
        return load * places / mean_s


def trillion(*, n_experts: int = 150, warm: bool, one_base: bool = False, seed: int = 0) -> Case:
    """150 experts of 1 to 70 billion parameters, a trillion in all, on eight GPUs.

    warm: all weights are in host memory at the start (online); else on disk (a batch's start).
    one_base: a GPU runs one engine with one base, instead of as many as fit."""
    models = experts_of(n_experts, 1e12 * n_experts / 150, seed=seed)
    slots = tuple(
        Slot(
            name=f"gpu{i}",
            memory_bytes=100 * 10**9,
            concurrency=32,
            max_bases=1 if one_base else None,
        )
        for i in range(8)
    )
    shares = zipf_shares(n_experts, 1.0)
    np.random.default_rng([seed, 5]).shuffle(shares)
    return Case(
        name=f"{n_experts} experts" + (", one a GPU" if one_base else ""),
        max_wait_s=15.0,
        machine=Machine(
            models=tuple(models),
            slots=slots,
            load_times=Bandwidths(host_bytes_per_s=50e9, disk_bytes_per_s=7e9, swap_s=0.3),
            host_memory_bytes=2 * 10**12,
            in_host=tuple(m.name for m in models) if warm else (),
        ),
        demand=Demand(
            models=[m.name for m in models],
            shares=shares,
            # A token takes about as long as reading the weights once; half a second besides.
            service_s=[0.5 + m.n_bytes / 14e9 for m in models],
            callers=CALLERS,
            caller_shares=CALLER_SHARES,
        ),
    )


def two_slots() -> Case:
    """Eight experts, skewed, on two engines that hold one each; swaps of 3 s."""
    models = tuple(Model(name=f"m{i}", n_bytes=1, family="same") for i in range(8))
    slots = tuple(Slot(name=f"slot{i}", memory_bytes=1, concurrency=16) for i in range(2))
    return Case(
        name="2 slots, 8 experts",
        max_wait_s=60.0,
        machine=Machine(models=models, slots=slots, load_times=FixedLoads(seconds=3.0)),
        demand=Demand(
            models=[m.name for m in models],
            shares=zipf_shares(8, 1.2),
            service_s=[2.0] * 8,
            callers=CALLERS,
            caller_shares=CALLER_SHARES,
        ),
    )


# llmux's twelve. Source: its simulator (github.com/doublewordai/llmux, tests/policy_sim.rs at
# commit 18d8c72): one GPU, one request at a time of 0.5 s, a limit on waiting of 15 s, switches of
# 2, 5, 10 and 20 s, the first load free. Its figure is 1 - switch time / (switch + service time),
# summed over the workloads without the first; one with a single model says nothing about switching.

LLMUX_SERVICE_S, LLMUX_LIMIT_S, LLMUX_SWITCHES_S = 0.5, 15.0, (2.0, 5.0, 10.0, 20.0)


def llmux_workloads() -> dict[str, list[tuple[str, float]]]:
    """Model and arrival in seconds of each request, by workload."""

    def alternating(n: int, gap_s: float, shift_s: float) -> list[tuple[str, float]]:
        return [(m, i * gap_s + s) for i in range(n) for m, s in (("A", 0.0), ("B", shift_s))]

    def bursts(size: int, n: int) -> list[tuple[str, float]]:
        return [("AB"[b % 2], 5.0 * b + 0.01 * i) for b in range(n) for i in range(size)]

    def dominant(n: int, share: float) -> list[tuple[str, float]]:
        n_rare = int(n * (1 - share))
        rows, rare = [], 0
        for i in range(n):
            due = rare < min(n_rare, int((i + 1) / n * n_rare))
            rare += due
            rows.append(("B" if due else "A", 0.05 * i))
        return rows

    surge = [("A", 0.5 * i) for i in range(20)] + [("B", 5 + 0.01 * i) for i in range(20)]
    thrice = [("ABC"[k % 3], 3.0 * k + 0.1 * i) for k in range(6) for i in range(10)]
    return {
        "balanced": alternating(20, 0.2, 0.1),
        "bursty": bursts(10, 4),
        "dominant": dominant(50, 0.8),
        "interleave": alternating(30, 0.01, 0.001),
        "surge": surge,
        "three models": thrice,
        "random 50": _congruential(50, 42),
        "random 100": _congruential(100, 123),
        "random 200": _congruential(200, 456),
        "dominant 95": dominant(80, 0.95),
        "heavy burst": bursts(50, 6),
    }


def _congruential(n: int, seed: int) -> list[tuple[str, float]]:
    """The generator of the source, so that the arrivals are the same."""
    state, now_s, rows = seed, 0.0, []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        now_s += (state >> 40) % 200 / 1000
        rows.append(("AB"[(state >> 33) % 2], now_s))
    return rows


def llmux_case(rows: Sequence[tuple[str, float]], switch_s: float) -> tuple[Machine, list[Waiting]]:
    """The machine, with the first model loaded, and the requests."""
    models = tuple(Model(name=m, n_bytes=1) for m in sorted({m for m, _ in rows}))
    first = min(rows, key=lambda row: row[1])[0]
    machine = Machine(
        models=models,
        slots=(Slot(name="gpu", memory_bytes=1),),
        load_times=FixedLoads(seconds=switch_s),
        resident={"gpu": first},
    )
    requests = [
        Waiting(request_id=str(i), model=m, arrival_s=at_s, service_s=LLMUX_SERVICE_S)
        for i, (m, at_s) in enumerate(rows)
    ]
    return machine, requests
