"""Which expert is loaded when: all residency policies on the same requests, on a virtual clock.

Nothing is served and nothing waits: the clock plays every decision out (``experts/residency``).
Policies take turns on each seed's requests, so all see the same. Four questions:

* **batch**: everything is asked at once of 150 experts with a trillion parameters in all. How long
  until the last answer, beside a lower bound that no policy can beat?
* **online**: requests come by themselves, Poisson and in bursts. How long do they wait, and is the
  longest wait within the bound?
* **capacity**: how much can come before somebody waits longer than the bound?
* **llmux**: the eleven workloads with more than one model that llmux published figures for.

``conclave bench residency`` takes some ten minutes, ``--quick`` less than one. The last line of it
is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.benchmarks import residency_scenarios as scenarios
from eval.benchmarks.residency_scenarios import Case, Times
from eval.statistics import bootstrap_interval
from experts.residency.clock import Machine, Trace, play
from experts.residency.lower_bounds import lower_bounds
from experts.residency.policies.base import Policy
from experts.residency.policies.belady import belady
from experts.residency.policies.bounded import BoundedGrouping
from experts.residency.policies.collation import FifoCollation
from experts.residency.policies.coserve import CoServe
from experts.residency.policies.drain_first import DrainFirst
from experts.residency.policies.first_come import first_come
from experts.residency.policies.largest_queue import LargestQueue
from experts.residency.policies.least_used import least_used
from experts.residency.summary import Summary, summarise
from experts.residency.values import Waiting

OURS = "bounded grouping (ours)"
GOAL_RATIO, GOAL_P99, GOAL_S = 1.25, 0.5, 60.0
"""Makespan over the bound; p99 wait over first-come's; seconds for 100,000 requests."""

Policies = dict[str, Callable[[], Policy]]


def policies(max_wait_s: float | None) -> Policies:
    """All of them, by name; a fresh one for each run, as they remember.

    llmux's limit triggers when it has passed, so at an equal bound it is given half of it."""
    limit_s = max_wait_s / 2 if max_wait_s is not None else 1e9
    made: list[Callable[[], Policy]] = [
        first_come,
        least_used,
        belady,
        FifoCollation,
        LargestQueue,
        lambda: DrainFirst(limit_s),
        CoServe,
        lambda: BoundedGrouping(max_wait_s),
    ]
    return {make().name: make for make in made}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A policy's figures in one case: means over seeds, the longest wait over all of them."""

    policy: str
    n_seeds: int
    makespan_s: float
    makespan_interval_s: tuple[float, float]
    """95 %, bootstrap over seeds."""
    to_bound: float | None
    """Makespan over its lower bound, the worst of the seeds; batches only."""
    n_loads: float
    wait_p50_s: float
    wait_p99_s: float
    wait_p99_interval_s: tuple[float, float]
    wait_max_s: float
    fairness: float
    serving_share: float
    cpu_s: float
    """Of simulating one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One case."""

    name: str
    n_requests: int
    max_wait_s: float | None
    lower_bound_s: float | None
    """Mean over seeds."""
    rows: list[Row]


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """The highest load at which nobody waits beyond the bound."""

    case: str
    policy: str
    load: float
    """Work that arrives, as a share of what the slots could run, mean over seeds."""
    interval: tuple[float, float]
    per_s: float
    """Requests a second at this load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Serving share over llmux's workloads, at one switch cost."""

    policy: str
    switch_s: float
    serving_share: float
    wait_max_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All of it; ``goals`` says which of the promises held."""

    seeds: list[int]
    tables: list[Table]
    capacities: list[Capacity]
    shares: list[Share]
    large_s: float
    """Processor seconds for our policy on the large batch."""
    large_n: int
    large_to_bound: float
    goals: dict[str, bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is run."""

    n_batch: int = 10_000
    n_online: int = 8_000
    n_capacity: int = 6_000
    n_large: int = 100_000
    n_seeds: int = 3
    n_steps: int = 6
    n_experts: int = 150


QUICK = Size(
    n_batch=1_500, n_online=1_500, n_capacity=600, n_large=2_000, n_seeds=2, n_steps=3, n_experts=30
)

Tell = Callable[[str], None]


def run_bench(size: Size, *, seed: int = 0, tell: Tell = lambda what: None) -> Report:
    seeds = [seed + i for i in range(size.n_seeds)]
    tables = [_batch(size, seeds, one_base, tell) for one_base in (False, True)]
    two, many = scenarios.two_slots(), scenarios.trillion(n_experts=size.n_experts, warm=True)
    kinds: list[tuple[Case, str, float, Times]] = [
        (two, "Poisson, load 0.5", 0.5, scenarios.poisson),
        (two, "bursts, load 0.25", 0.25, scenarios.bursty),
        (many, "Poisson, load 0.5", 0.5, scenarios.poisson),
        (many, "self-exciting, load 0.4", 0.4, scenarios.self_exciting),
    ]
    for case, name, load, times in kinds:
        tell(f"{case.name}: {name}")
        tables.append(
            _table(
                f"{case.name}: {name}",
                case.machine,
                [case.online(size.n_online, load, s, times) for s in seeds],
                case.max_wait_s,
                offline=False,
            )
        )
    capacities = _capacities(two, size.n_capacity, size, seeds, tell)
    # Twenty times as many requests a second come here: a run must last several bounds.
    capacities += _capacities(many, 2 * size.n_capacity, size, seeds, tell)
    shares = _llmux()
    tell(f"batch of {size.n_large} requests")
    large = scenarios.trillion(n_experts=size.n_experts, warm=False)
    requests = large.offline(size.n_large, seed)
    started = time.process_time()
    trace = play(BoundedGrouping(), large.machine, requests, offline=True)
    large_s = time.process_time() - started
    large_to_bound = (trace.end_s - trace.start_s) / lower_bounds(
        large.machine, requests
    ).makespan_s
    return Report(
        seeds=seeds,
        tables=tables,
        capacities=capacities,
        shares=shares,
        large_s=large_s,
        large_n=size.n_large,
        large_to_bound=large_to_bound,
        goals=_goals(tables, capacities, large_s, large_to_bound),
    )


def _batch(size: Size, seeds: Sequence[int], one_base: bool, tell: Tell) -> Table:
    case = scenarios.trillion(n_experts=size.n_experts, warm=False, one_base=one_base)
    tell(f"{case.name}: batch")
    batches = [case.offline(size.n_batch, s) for s in seeds]
    return _table(f"{case.name}: batch", case.machine, batches, None, offline=True)


def _table(
    name: str,
    machine: Machine,
    runs: Sequence[list[Waiting]],
    max_wait_s: float | None,
    *,
    offline: bool,
) -> Table:
    bounds = [lower_bounds(machine, run).makespan_s for run in runs] if offline else None
    made = policies(max_wait_s)
    done: dict[str, list[tuple[Summary, float]]] = {policy: [] for policy in made}
    for run in runs:
        for policy, make in made.items():
            started = time.process_time()
            trace = play(make(), machine, run, offline=offline)
            done[policy].append((summarise(trace), time.process_time() - started))
    return Table(
        name=name,
        n_requests=len(runs[0]),
        max_wait_s=max_wait_s,
        lower_bound_s=float(np.mean(bounds)) if bounds else None,
        rows=[_row(policy, of, bounds) for policy, of in done.items()],
    )


def _row(policy: str, runs: Sequence[tuple[Summary, float]], bounds: list[float] | None) -> Row:
    summaries = [summary for summary, _ in runs]

    def mean(of: Iterable[float]) -> float:
        return float(np.mean(list(of)))

    makespans = np.array([s.makespan_s for s in summaries])
    p99s = np.array([s.wait_p99_s for s in summaries])
    return Row(
        policy=policy,
        n_seeds=len(runs),
        makespan_s=mean(makespans),
        makespan_interval_s=_interval(makespans),
        to_bound=float((makespans / np.array(bounds)).max()) if bounds else None,
        n_loads=mean(s.n_loads for s in summaries),
        wait_p50_s=mean(s.wait_p50_s for s in summaries),
        wait_p99_s=mean(p99s),
        wait_p99_interval_s=_interval(p99s),
        wait_max_s=max(s.wait_max_s for s in summaries),
        fairness=mean(s.fairness for s in summaries),
        serving_share=mean(s.serving_share for s in summaries),
        cpu_s=mean(seconds for _, seconds in runs),
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 %, bootstrap over seeds; with few seeds hardly more than their range."""
    return bootstrap_interval(lambda rows: values[rows].mean(axis=1), len(values))


def _capacities(case: Case, n: int, size: Size, seeds: Sequence[int], tell: Tell) -> list[Capacity]:
    """By bisection on the load, for each seed; a run is left at the first wait that is too long.

    A policy may hold at a load and fail at a lower one, as arrivals differ: bisection finds one of
    the borders, and the seeds tell how much that matters."""
    rows = []
    for name, make in policies(case.max_wait_s).items():
        tell(f"{case.name}: capacity of {name}")
        loads = []
        for s in seeds:
            low, high = 0.0, 1.28
            for _ in range(size.n_steps):
                middle = (low + high) / 2
                trace = _within(case, make(), case.online(n, middle, s))
                low, high = (low, middle) if trace.gave_up else (middle, high)
            loads.append(low)
        rows.append(
            Capacity(
                case=case.name,
                policy=name,
                load=float(np.mean(loads)),
                interval=_interval(np.array(loads)),
                per_s=case.per_s(float(np.mean(loads))),
            )
        )
    return rows


def _within(case: Case, policy: Policy, requests: list[Waiting]) -> Trace:
    return play(policy, case.machine, requests, give_up_s=case.max_wait_s)


def _llmux() -> list[Share]:
    """As its simulator sums up: switch and service seconds over the workloads."""
    rows = []
    for switch_s in scenarios.LLMUX_SWITCHES_S:
        served: dict[str, list[float]] = {}
        waits: dict[str, float] = {}
        for arrivals in scenarios.llmux_workloads().values():
            machine, requests = scenarios.llmux_case(arrivals, switch_s)
            # The bound must leave room for switching there and back; llmux has one limit for all.
            bound_s = max(scenarios.LLMUX_LIMIT_S, 6 * switch_s)
            made = policies(bound_s) | {
                "drain first (llmux)": lambda: DrainFirst(scenarios.LLMUX_LIMIT_S)
            }
            for name, make in made.items():
                trace = play(make(), machine, requests)
                sums = served.setdefault(name, [0.0, 0.0])
                sums[0] += switch_s * len(trace.loads)
                sums[1] += scenarios.LLMUX_SERVICE_S * len(requests)
                longest = max(s.wait_s for s in trace.served)
                waits[name] = max(waits.get(name, 0.0), longest)
        rows += [
            Share(
                policy=name,
                switch_s=switch_s,
                serving_share=service / (switching + service),
                wait_max_s=waits[name],
            )
            for name, (switching, service) in served.items()
        ]
    return rows


def _goals(
    tables: Sequence[Table], capacities: Sequence[Capacity], large_s: float, large_to_bound: float
) -> dict[str, bool]:
    """The promises, each over all tables that speak of it."""
    ours = [(table, _of(table, OURS)) for table in tables]
    batches = [row.to_bound for _, row in ours if row.to_bound is not None]
    online = [(table, row) for table, row in ours if table.max_wait_s is not None]
    best: dict[str, float] = {}
    for c in capacities:
        if c.policy != OURS:
            best[c.case] = max(best.get(c.case, 0.0), c.load)
    loads = {c.case: c.load for c in capacities if c.policy == OURS}
    return {
        "makespan within 1.25 of the bound": max(*batches, large_to_bound) <= GOAL_RATIO,
        "longest wait within the bound": all(
            table.max_wait_s is not None and row.wait_max_s <= table.max_wait_s
            for table, row in online
        ),
        "p99 wait at most half of first-come's": all(
            row.wait_p99_s <= GOAL_P99 * _of(table, "first-come + LRU").wait_p99_s
            for table, row in online
        ),
        "most throughput at the bound": all(loads[case] > best[case] for case in loads),
        "large batch simulated in 60 s": large_s < GOAL_S,
    }


def _of(table: Table, policy: str) -> Row:
    return next(row for row in table.rows if row.policy == policy)
