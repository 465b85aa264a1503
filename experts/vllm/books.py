"""The fleet's books: who waits, who is served, and what loading they have to pay for.

Each call is in them twice: as a request that residency policies see (``State``), and as the job of
somebody who waits for it. Here both come, change and leave together. A job is answered once: its
future is set when it leaves the books, and it leaves them once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from experts.residency.state import State
from experts.residency.values import StandIn, Waiting
from experts.vllm.job import Job

_FIRST_SERVICE_S = 1.0
_SMOOTHING = 0.1


class Books:
    """Belongs to the fleet's thread."""

    def __init__(self, state: State, happened: Callable[[], None]) -> None:
        """happened: told that something changed, so that it may be time to decide anew."""
        self.state = state
        self.jobs: dict[str, Job] = {}
        self.running: dict[str, asyncio.Task[None]] = {}
        """Who serves a job, by the job's id; the others wait."""
        self._happened = happened
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._service_s: dict[str, float] = {}
        self._owed_s: dict[str, float] = {}
        """Seconds of loading that nobody waited for: the next call to the model bears them."""

    def advance(self) -> None:
        """To now."""
        self.state.advance(max(time.monotonic(), self.state.now_s))

    # Coming

    def arrive(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.jobs[job.request_id] = job
            if job.timeout_s is not None:
                loop = asyncio.get_running_loop()
                self._deadlines[job.request_id] = loop.call_later(job.timeout_s, self._expire, job)
        self.advance()
        for job in jobs:
            self.state.arrive(
                Waiting(
                    request_id=job.request_id,
                    model=job.model,
                    arrival_s=self.state.now_s,
                    service_s=self._expected_s(job.model),
                    caller=job.caller,
                    stand_ins=tuple(
                        StandIn(
                            model=name,
                            service_s=self._expected_s(name),
                            loss_usd=substitute.loss_usd,
                        )
                        for name, substitute in job.substitutes.items()
                    ),
                )
            )
        self._happened()

    def _expected_s(self, model: str) -> float:
        return self._service_s.get(model, _FIRST_SERVICE_S)

    def learn(self, model: str, took_s: float) -> None:
        """What serving a call of the model took."""
        known_s = self._service_s.get(model, took_s)
        self._service_s[model] = known_s + _SMOOTHING * (took_s - known_s)

    # Being served

    def is_mine(self, job: Job) -> bool:
        """Whether the present task is the one that serves the job."""
        return self.running.get(job.request_id) is asyncio.current_task()

    def again(self, job: Job, *, only_itself: bool = False) -> None:
        """It runs, and is to wait again; ``only_itself``: for the model that was asked alone."""
        self.advance()
        del self.running[job.request_id]
        self.state.again(job.request_id, only_itself=only_itself)
        self._happened()

    # Leaving

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these any more."""
        for job in jobs:
            self._give_up(job)

    def _expire(self, job: Job) -> None:
        job.fail(f"no answer within {job.timeout_said_s or job.timeout_s:g} s", "timeout")
        self._give_up(job)

    def _give_up(self, job: Job) -> None:
        if job.request_id not in self.jobs:
            return
        if task := self.running.get(job.request_id):
            task.cancel()  # hangs up, so that the engine stops; then it finishes
            return
        self.leave_queue(job)
        self._happened()

    def leave_queue(self, job: Job) -> None:
        """It waits, and need not any more."""
        self.state.cancel(job.request_id)
        job.row.cancel()
        self._finish(job)

    def served(self, job: Job) -> None:
        """It runs, and is over: answered or not."""
        self.advance()
        del self.running[job.request_id]
        self.state.completed(job.request_id)
        self._finish(job)
        self._happened()

    def fail_waiting(self, error: str, model: str | None = None) -> None:
        """All that wait, or those for one model."""
        for job in list(self.jobs.values()):
            if job.request_id not in self.running and model in (None, job.model):
                job.fail(error)
                self.leave_queue(job)

    def close(self, error: str) -> None:
        """Fail all there are."""
        for job in list(self.jobs.values()):
            job.fail(error)
            if task := self.running.pop(job.request_id, None):
                task.cancel()
            self._finish(job)

    def _finish(self, job: Job) -> None:
        """Once for each job: it leaves here."""
        del self.jobs[job.request_id]
        if timer := self._deadlines.pop(job.request_id, None):
            timer.cancel()
        job.done.set_result(None)

    # Paying for loads

    def charge(self, model: str, seconds: float) -> None:
        """Shared among those who wait for it; what nobody waits for is owed by the next."""
        waiting = [
            j for j in self.jobs.values() if j.model == model and j.request_id not in self.running
        ]
        if not waiting:
            self._owed_s[model] = self._owed_s.get(model, 0.0) + seconds
        for job in waiting:
            job.load_s += seconds / len(waiting)

    def settle_s(self, model: str) -> float:
        """What is owed for the model, which is owed no more."""
        return self._owed_s.pop(model, 0.0)
