"""The fleet: a residency policy's decisions, carried out on real engines.

Calls come in as jobs and wait here, never in an engine. ``State`` (experts/residency) keeps the
books, ``books`` its jobs with it; the policy decides, and this module sees to it that it is done:
``serving`` puts jobs to engines, ``loads`` swaps models and reads ahead, and engines that died or
hang are ended here, their calls back at their place in the queue.

Everything runs in one thread with an event loop of its own, because engines outlive the loops of
those who ask (the command line runs one loop, tests run many), and because whoever blocks theirs
must not keep engines waiting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from experts.errors import ConclaveError, PolicyError
from experts.loop_thread import LoopThread
from experts.residency.policies.base import Policy, Serve, WakeAt
from experts.residency.state import State
from experts.residency.values import Model, Slot
from experts.values import LoadOutlook
from experts.vllm.books import Books
from experts.vllm.job import Job
from experts.vllm.load_times import MeasuredLoads
from experts.vllm.loads import Loads
from experts.vllm.patience import Patience
from experts.vllm.pending import Pending
from experts.vllm.record import SwapRecord
from experts.vllm.serving import Serving
from experts.vllm.slot import EngineSlot, Servable
from experts.vllm.watching import Watches

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetSlot:
    """A slot as policies see it, and its engines."""

    slot: Slot
    engines: EngineSlot


class Fleet:
    """See the module. Safe to use from any thread and any event loop."""

    def __init__(
        self,
        slots: Sequence[FleetSlot],
        models: Mapping[str, Servable],
        policy: Policy,
        record: SwapRecord,
        *,
        host_memory_bytes: int = 0,
        patience: Patience | None = None,
    ) -> None:
        """host_memory_bytes: what the operating system can be expected to keep of files that were
        read. Raises DoesNotFit when a model is larger than every slot."""
        self.models, self.policy, self.record = models, policy, record
        self._slots = {s.slot.name: s.engines for s in slots}
        self._state = State(
            [_residency_model(m) for m in models.values()],
            [s.slot for s in slots],
            MeasuredLoads(self._slots, record),
            host_memory_bytes=host_memory_bytes,
            now_s=time.monotonic(),
        )
        self._patience = patience or Patience()
        self._deaths: dict[str, int] = {}
        """Engines lost since the slot last answered, by slot."""
        self._books = Books(self._state, self._happened)
        self._pending = Pending(self._happened)
        self._watches = Watches(self._is_busy, self._slot_lost)
        self._serving = Serving(
            self._books,
            self._slots,
            lost=self._slot_lost,
            answered=lambda slot: self._deaths.pop(slot, None),
        )
        self._loads = Loads(
            self._books,
            self._slots,
            models,
            record,
            patience=self._patience,
            watches=self._watches,
            pending=self._pending,
            lost=self._slot_lost,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._turn_is_due = False
        self._thread = LoopThread("The fleet of vLLM engines", self._shut)

    # From any thread

    def submit(self, jobs: Iterable[Job]) -> None:
        """Put jobs into the queue; each one's ``done`` tells when it is answered, or failed."""
        batch = list(jobs)
        self._thread.call(self._books.arrive, batch)

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Nobody waits for these any more. ``done`` is set for them, too."""
        batch = list(jobs)
        self._thread.call_if_running(self._books.cancel, batch)  # closing ends them all

    def expect_more(self, more: bool) -> None:
        """Tell the policy whether anything may come beyond what has been submitted."""
        # Not in the thread: it need not have started yet, and must not for this.
        self._state.more_to_come = more
        self._thread.call_if_running(self._happened)

    def load(self, model: str, slot: str) -> float:
        """Bring a model into an idle slot now, before anybody asks; the seconds it took, which the
        caller puts on the books. Blocks. Raises what a load raises."""
        return self._thread.run(self._loads.preload(model, slot)).result()

    @property
    def slots(self) -> Mapping[str, EngineSlot]:
        return self._slots

    def use(self, policy: Policy) -> None:
        """Another policy decides from now on. Raises PolicyError while calls wait or run."""
        if self._books.jobs:
            raise PolicyError("A policy is changed when nothing waits and nothing runs.")
        self.policy = policy

    async def outside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the fleet's loop, where its connections live: for benchmarks, which put
        calls to an engine past the queue."""
        return await asyncio.wrap_future(self._thread.run(work))

    def load_outlook(self, model: str) -> LoadOutlook | None:
        """What a call to the model would have to wait for now; None when a slot holds it. Takes no
        lock: it reads single values of the books, and a moment's difference does not matter."""
        slots = list(self._state.slots.values())
        if any(model in slot.resident for slot in slots):
            return None
        n_bytes = self._state.models[model].n_bytes
        able = [slot for slot in slots if n_bytes <= slot.slot.memory_bytes]
        load_s = min(self._state.load_s(slot.slot.name, model) for slot in able)
        return LoadOutlook(load_s=load_s, n_waiting=len(self._state.queues.get(model, ())))

    def close(self) -> None:
        """End all engines and fail what still waits. Blocks until no process is left."""
        self._thread.close()

    # Everything below runs in the fleet's thread.

    # Deciding

    def _happened(self) -> None:
        """Something changed: decide soon, once for all that changes before that."""
        if not self._turn_is_due and not self._thread.is_closed:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._thread.is_closed:
            return
        state = self._state
        self._books.advance()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        was_reading, wake_s = state.host.reading, None
        started: list[Serve] = []
        try:
            for action in state.ask(self.policy):
                if isinstance(action, WakeAt):
                    wake_s = min(action.at_s, wake_s or action.at_s)
                elif isinstance(action, Serve):
                    started.append(action)
        except Exception as error:  # the policy is wrong: nobody should wait for it to be right
            log.exception("policy %s", self.policy.name)
            said = str(error) if isinstance(error, ConclaveError) else repr(error)
            self._books.fail_waiting(f"policy {self.policy.name!r}: {said}")
        for serve in started:
            self._serving.start(serve)
        for slot in state.loads_to_start():
            self._pending.begin(self._loads.load(slot))
        if state.host.reading is not None and state.host.reading != was_reading:
            self._pending.begin(self._loads.read(state.host.reading))
        if wake_s is not None:
            left_s = max(0.0, wake_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left_s, self._happened)
        if state.n_waiting and not (self._books.running or self._pending or self._timer):
            stuck = PolicyError(
                f"Policy {self.policy.name!r} leaves {state.n_waiting} calls waiting with nothing "
                "left to happen."
            )
            log.error("%s", stuck)
            self._books.fail_waiting(str(stuck))

    # Engines that are lost

    def _is_busy(self, slot: str) -> bool:
        return bool(self._state.slots[slot].running)

    def _slot_lost(self, slot: str, why: str) -> None:
        """Its engine died or hangs: what ran there waits again, and the engine is ended."""
        if self._state.slots[slot].down or self._thread.is_closed:
            return
        log.warning("slot %s is lost: %s", slot, why)
        self._watches.end(slot)
        self._books.advance()
        self._loads.void(slot)
        self._deaths[slot] = self._deaths.get(slot, 0) + 1
        lost = [self._books.jobs[w.request_id] for w in self._state.slot_down(slot)]
        for job in lost:
            job.n_deaths_alone += job.is_alone
            job.is_alone = False
            task = self._books.running.pop(job.request_id)
            if task is not asyncio.current_task():
                task.cancel()
        for job in lost:
            self._serving.back_in_queue(job, why)
        self._pending.begin(self._revive(slot))
        self._happened()

    async def _revive(self, slot: str) -> None:
        """End what is left of the engine, and open the slot again; the next load starts another."""
        await self._loads.end(slot)
        await self._slots[slot].abandon()
        n_deaths = self._deaths.get(slot, 1)
        if n_deaths > 1:
            await asyncio.sleep(self._patience.back_off_s(n_deaths - 1))
        self._books.advance()
        self._state.slot_up(slot)

    async def _shut(self) -> None:
        self._watches.end_all()
        self._books.close("the fleet of vLLM engines was closed")
        if self._timer:
            self._timer.cancel()
        await self._pending.end()
        await asyncio.gather(*(engines.stop() for engines in self._slots.values()))


def _residency_model(model: Servable) -> Model:
    return Model(
        name=model.name,
        n_bytes=model.weights.n_bytes,
        family=model.family,
        adapter_of=model.base,
    )
