"""What must be loaded by when, so that nobody waits too long: deadlines on slots, and their slack.

The models that people wait for and that are nowhere resident are jobs with a deadline: the oldest
request's arrival plus the bound. Doing one takes a slot for the load and, where a slot holds one
base, for serving who waits. Jobs are put in the order of their deadlines (EDF) on as few slots as
will do, in the order in which the slots are least missed; what does not fit in time goes to
whichever slot would have it soonest. The slack of a slot is the least time by which a job on it is
early. As long as that is more than a reserve, the slot may go on with what it has: every request
that comes meanwhile for what it would load then saves a load. When it is not, the slot's first job
must begin.

EDF is optimal on one machine when jobs are known; with several, with arrivals to come, and loads
that depend on what is resident, it is a heuristic, and the reserve is there for what it misses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Job:
    """A model to be loaded."""

    model: str
    deadline_s: float
    """When its oldest request must have started."""
    ready_s: float
    """When its load can begin, as far as the disk goes: after the loads from disk before it."""


@dataclass(slots=True)
class Lane:
    """A slot, and the jobs planned on it."""

    slot: str
    free_s: float
    """When the next load could begin."""
    jobs: list[Job] = field(default_factory=list)
    slack_s: float = float("inf")


def plan(
    jobs: Sequence[Job],
    lanes: Sequence[Lane],
    *,
    reserve_s: float,
    load_s: Callable[[str, str], float],
    hold_s: Callable[[str, str], float],
    fits: Callable[[str, str], bool],
) -> None:
    """Fill the lanes with the jobs. ``lanes``: the least missed first.

    load_s, hold_s: seconds of loading, and of holding the slot after it, by slot and model."""
    for job in sorted(jobs, key=lambda j: (j.deadline_s, j.model)):
        best, best_ready_s = None, float("inf")
        for lane in lanes:
            if not fits(lane.slot, job.model):
                continue
            ready_s = max(lane.free_s, job.ready_s) + load_s(lane.slot, job.model)
            if ready_s < best_ready_s:
                best, best_ready_s = lane, ready_s
            if ready_s <= job.deadline_s - reserve_s:
                best, best_ready_s = lane, ready_s
                break
        if best is None:
            continue
        best.jobs.append(job)
        best.slack_s = min(best.slack_s, job.deadline_s - best_ready_s)
        best.free_s = best_ready_s + hold_s(best.slot, job.model)
