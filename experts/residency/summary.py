"""A run in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experts.residency.clock import Trace
from experts.residency.fairness import fairness_between_callers


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Figures of one run; waits are seconds from arrival until service starts."""

    n_requests: int
    makespan_s: float
    """From the first arrival to the last answer."""
    throughput_per_s: float
    n_loads: int
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    fairness: float
    """Jain's index over callers, in (0, 1]; see ``fairness``."""
    serving_share: float
    """Of the slot-time spent on serving or on loading while nobody was served: the serving part."""
    utilisation: float
    """Request-seconds served, of all that the slots could have run until the last answer."""
    n_stand_ins: int
    n_prefetches: int


def summarise(trace: Trace, *, window_s: float = 10.0) -> Summary:
    """Zeros (and a fairness and share of 1) for a run without requests.

    window_s: in which fairness between callers is asked for."""
    waits = sorted(s.wait_s for s in trace.served)
    makespan_s = trace.end_s - trace.start_s
    work_s = sum(s.end_s - s.start_s for s in trace.served)
    capacity_s = makespan_s * sum(slot.concurrency for slot in trace.slots)
    spent_s = trace.busy_s + trace.stalled_s
    n = len(waits)
    return Summary(
        n_requests=n,
        makespan_s=makespan_s,
        throughput_per_s=n / makespan_s if makespan_s else 0.0,
        n_loads=len(trace.loads),
        wait_mean_s=sum(waits) / n if n else 0.0,
        wait_p50_s=quantile(waits, 0.5),
        wait_p99_s=quantile(waits, 0.99),
        wait_max_s=waits[-1] if waits else 0.0,
        fairness=fairness_between_callers(trace, window_s),
        serving_share=trace.busy_s / spent_s if spent_s else 1.0,
        utilisation=work_s / capacity_s if capacity_s else 0.0,
        n_stand_ins=sum(s.model != s.request.model for s in trace.served),
        n_prefetches=trace.n_prefetches,
    )


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed; 0 of nothing.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, max(0, -int(-share * len(ascending) // 1) - 1))]
