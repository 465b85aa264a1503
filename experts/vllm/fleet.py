"""The fleet: a residency policy's decisions, carried out on real engines.

Calls come in as jobs and wait here, never in an engine. ``State`` (experts/residency) keeps the
books, the policy decides, and this module does it: starts jobs on engines, swaps models when a
slot is drained, reads ahead, ends engines that died or hang and puts their calls back at their
place in the queue. A job is answered once: its future is set when it leaves the books, and it
leaves them once.

Everything runs in one thread with an event loop of its own, because engines outlive the loops of
those who ask (the command line runs one loop, tests run many), and because whoever blocks theirs
must not keep engines waiting. What a load took is charged to the calls that waited for it, in
equal parts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experts.errors import ConclaveError, EngineFailed, PolicyError, UserError
from experts.residency.policies.base import Load, Policy, Serve, WakeAt
from experts.residency.slots import Loading
from experts.residency.state import State
from experts.residency.values import Model, Slot, StandIn, Waiting
from experts.values import LoadOutlook
from experts.vllm.asking import generate, stream
from experts.vllm.control import Refused
from experts.vllm.job import CannotAsk, Job
from experts.vllm.load_times import MeasuredLoads
from experts.vllm.loop_thread import LoopThread
from experts.vllm.record import SwapRecord
from experts.vllm.slot import EngineSlot, Servable

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_ATTEMPTS = 10
"""At one call. Engines that are killed from outside should not cost anybody an answer."""
SUSPECT_ATTEMPTS = 2
"""A call that engines died under this often may be what kills them: from now on it runs on a slot
without other suspects, so that it is found out, and those who ran beside it are not blamed."""
MAX_DEATHS_ALONE = 3
MAX_LOAD_FAILURES = 8
"""In a row, of one model; then those who wait for it are told. An engine that somebody killed
counts once, one that failed by itself twice, one that hung four times."""
FIRST_BACK_OFF_S = 0.25
"""It doubles."""
MAX_BACK_OFF_S = 30.0
"""Before an engine that died again without having answered anything, and before a load that failed
again, is tried again."""
_SUSPECT_S = 8.0
"""How long an engine that failed a call may take to die: vLLM 0.32 took 5 s to notice that its core
was gone."""
_PROBE_S = 0.2
_WRONG = (400, 422)
"""HTTP's word for a request that would be refused tomorrow, too: a schema that is none."""
_SHOWN_CHARS = 1000
_FIRST_SERVICE_S = 1.0
_SMOOTHING = 0.1
_READ_BYTES = 8 << 20


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
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._service_s: dict[str, float] = {}
        self._owed_s: dict[str, float] = {}
        """Seconds of loading that nobody waited for: the next call to the model bears them."""
        self._load_failures: dict[str, int] = {}
        self._deaths: dict[str, int] = {}
        """Engines lost since the slot last answered, by slot."""
        self._epochs = dict.fromkeys(self._slots, 0)
        """Counts the engines that each slot lost: what began before is void."""
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._suspects = {name: asyncio.Lock() for name in self._slots}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_pending = 0
        """Tasks under way that will change the books: loads, reads, slots coming back."""
        self._timer: asyncio.TimerHandle | None = None
        self._turn_is_due = False
        self._thread = LoopThread("The fleet of vLLM engines", self._shut)

    # From any thread

    def submit(self, jobs: Iterable[Job]) -> None:
        """Put jobs into the queue; each one's ``done`` tells when it is answered, or failed."""
        batch = list(jobs)
        self._thread.call(self._arrive, batch)

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Nobody waits for these any more. ``done`` is set for them, too."""
        batch = list(jobs)
        self._thread.call_if_running(self._cancel, batch)  # closing ends them all

    def expect_more(self, more: bool) -> None:
        """Tell the policy whether anything may come beyond what has been submitted."""

        def tell() -> None:
            self._state.more_to_come = more
            self._happened()

        self._thread.call(tell)

    def load(self, model: str, slot: str) -> float:
        """Bring a model into an idle slot now, before anybody asks; the seconds it took, which the
        caller puts on the books. Blocks. Raises what a load raises."""
        return self._thread.run(self._preload(model, slot)).result()

    @property
    def slots(self) -> Mapping[str, EngineSlot]:
        return self._slots

    def use(self, policy: Policy) -> None:
        """Another policy decides from now on. Raises PolicyError while calls wait or run."""
        if self._jobs:
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

    @property
    def _now_s(self) -> float:
        return max(time.monotonic(), self._state.now_s)

    def _arrive(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._jobs[job.request_id] = job
            if job.timeout_s is not None:
                loop = asyncio.get_running_loop()
                self._deadlines[job.request_id] = loop.call_later(job.timeout_s, self._expire, job)
        self._state.advance(self._now_s)
        for job in jobs:
            self._state.arrive(
                Waiting(
                    request_id=job.request_id,
                    model=job.model,
                    arrival_s=self._state.now_s,
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

    def _cancel(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._give_up(job)

    def _expire(self, job: Job) -> None:
        job.fail(f"no answer within {job.timeout_said_s or job.timeout_s:g} s", "timeout")
        self._give_up(job)

    def _give_up(self, job: Job) -> None:
        if job.request_id not in self._jobs:
            return
        if task := self._running.get(job.request_id):
            task.cancel()  # hangs up, so that the engine stops; then it finishes
            return
        self._leave_queue(job)
        self._happened()

    def _leave_queue(self, job: Job) -> None:
        self._state.cancel(job.request_id)
        job.row.cancel()
        self._finish(job)

    def _finish(self, job: Job) -> None:
        """Once for each job: it leaves here."""
        del self._jobs[job.request_id]
        if timer := self._deadlines.pop(job.request_id, None):
            timer.cancel()
        job.done.set_result(None)

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
        state.advance(self._now_s)
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
            self._fail_waiting(f"policy {self.policy.name!r}: {said}")
        for serve in started:
            self._start(serve)
        for slot in state.loads_to_start():
            self._spawn(self._load(slot))
        if state.host.reading is not None and state.host.reading != was_reading:
            self._spawn(self._read(state.host.reading))
        if wake_s is not None:
            left_s = max(0.0, wake_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left_s, self._happened)
        if state.n_waiting and not (self._running or self._n_pending or self._timer):
            stuck = PolicyError(
                f"Policy {self.policy.name!r} leaves {state.n_waiting} calls waiting with nothing "
                "left to happen."
            )
            log.error("%s", stuck)
            self._fail_waiting(str(stuck))

    def _fail_waiting(self, error: str, model: str | None = None) -> None:
        for job in list(self._jobs.values()):
            if job.request_id not in self._running and model in (None, job.model):
                job.fail(error)
                self._leave_queue(job)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that ends in a change of the books."""

        async def counted() -> None:
            try:
                await work
            finally:
                self._n_pending -= 1
                self._happened()

        self._n_pending += 1
        task = asyncio.create_task(counted())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Serving

    def _start(self, serve: Serve) -> None:
        job = self._jobs[serve.request_id]
        job.load_s += self._owed_s.pop(serve.model, 0.0)
        if job.started_s is None:
            job.started_s = time.monotonic()
        job.n_batch = len(self._state.slots[serve.slot].running)
        task = asyncio.create_task(self._serve(job, serve))
        self._running[job.request_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            # Cancelled before its first step, a task runs none of its code.
            if task.cancelled() and self._running.get(job.request_id) is task:
                job.row.cancel()
                self._served(job)

        task.add_done_callback(ended)

    async def _serve(self, job: Job, serve: Serve) -> None:
        try:
            if job.n_attempts < SUSPECT_ATTEMPTS:
                await self._attempt(job, serve)
            else:
                async with self._suspects[serve.slot]:
                    job.is_alone = True
                    await self._attempt(job, serve)
                    job.is_alone = False  # if the engine died, that was counted
        except asyncio.CancelledError:  # by its caller, or its deadline
            job.row.cancel()
        if self._is_mine(job):  # else the slot was lost, or the call failed: it is in the queue
            self._served(job)

    def _served(self, job: Job) -> None:
        """It leaves the books, answered or not."""
        self._state.advance(self._now_s)
        del self._running[job.request_id]
        self._state.completed(job.request_id)
        self._finish(job)
        self._happened()

    async def _attempt(self, job: Job, serve: Serve) -> None:
        slot, started = self._slots[serve.slot], time.monotonic()
        try:
            await self._ask(slot, job, serve.model)
        except CannotAsk as problem:  # by the stand-in: then it is for the one that was asked
            log.info("%s cannot stand in for %s: %s", serve.model, job.model, problem)
            if self._is_mine(job):
                self._again(job, only_itself=True)
        except EngineFailed as error:
            if isinstance(error, Refused) and error.status < 500:
                job.fail(
                    error.reason[:_SHOWN_CHARS], "refused" if error.status in _WRONG else "failed"
                )
            else:
                await self._suspect(job, serve.slot, error)
        except Exception as error:
            log.exception("call to %s", serve.model)
            job.fail(f"{type(error).__name__}: {error}")
        else:
            self._learn(serve.model, time.monotonic() - started)
            self._deaths.pop(serve.slot, None)

    def _is_mine(self, job: Job) -> bool:
        """Whether the present task is the one that serves the job."""
        return self._running.get(job.request_id) is asyncio.current_task()

    async def _ask(self, slot: EngineSlot, job: Job, model: str) -> None:
        prompted = job.own
        if model != job.model:  # in a thread: templates and tokenizers take their time
            prompted = await asyncio.to_thread(job.prompted_for, model)
        name = slot.served_name(model)
        job.begin(prompted)
        if job.streams:
            async with aclosing(stream(slot.control, name, job.asked)) as pieces:
                async for tokens in pieces:
                    job.take(tokens)
                    if job.row.done:  # by a stop sequence: the engine need not go on
                        break
        else:
            job.is_counted = False
            tokens = await generate(slot.control, name, job.asked)
            job.is_counted = True
            job.take(tokens)
        job.row.end_at_length()
        job.show()

    def _learn(self, model: str, took_s: float) -> None:
        known_s = self._service_s.get(model, took_s)
        self._service_s[model] = known_s + _SMOOTHING * (took_s - known_s)

    async def _suspect(self, job: Job, slot: str, problem: EngineFailed) -> None:
        """The engine failed a call. If it is dying, all of its calls go back; if not, this one."""
        engine, left_s = self._slots[slot].engine, _SUSPECT_S
        while left_s > 0 and self._is_mine(job):
            if not engine.is_running or not await engine.is_healthy():
                self._slot_lost(slot, str(problem))
                return
            if isinstance(problem, Refused) and "EngineCore" not in problem.reason:
                break  # it said why, and it is not its death
            left_s -= _PROBE_S
            await asyncio.sleep(_PROBE_S)
        if self._is_mine(job):
            self._again(job)
            self._back_in_queue(job, str(problem))

    def _again(self, job: Job, *, only_itself: bool = False) -> None:
        """It runs, and is to wait again; ``only_itself``: for the model that was asked alone."""
        self._state.advance(self._now_s)
        del self._running[job.request_id]
        self._state.again(job.request_id, only_itself=only_itself)
        self._happened()

    def _back_in_queue(self, job: Job, why: str) -> None:
        """The books have it waiting again; it may have been tried too often for that."""
        if job.tell and job.row.n_shown:
            # What was shown cannot be taken back, and another answer may differ.
            job.fail(f"the stream broke off: {why}")
        elif job.n_deaths_alone >= MAX_DEATHS_ALONE or job.n_attempts >= MAX_ATTEMPTS:
            job.fail(f"{why} ({job.n_attempts} attempts)")
        if job.error is not None:
            self._leave_queue(job)

    # Engines that are lost

    def _slot_lost(self, slot: str, why: str) -> None:
        """Its engine died or hangs: what ran there waits again, and the engine is ended."""
        if self._state.slots[slot].down or self._thread.is_closed:
            return
        log.warning("slot %s is lost: %s", slot, why)
        if self._watches.get(slot) is not asyncio.current_task():
            self._unwatch(slot)
        self._state.advance(self._now_s)
        self._epochs[slot] += 1
        self._deaths[slot] = self._deaths.get(slot, 0) + 1
        lost = [self._jobs[w.request_id] for w in self._state.slot_down(slot)]
        for job in lost:
            job.n_deaths_alone += job.is_alone
            job.is_alone = False
            task = self._running.pop(job.request_id)
            if task is not asyncio.current_task():
                task.cancel()
        for job in lost:
            self._back_in_queue(job, why)
        self._spawn(self._revive(slot))
        self._happened()

    async def _revive(self, slot: str) -> None:
        """End what is left of the engine, and open the slot again; the next load starts another."""
        if load := self._loads.get(slot):
            load.cancel()
            await asyncio.wait([load])
        await self._slots[slot].abandon()
        n_deaths = self._deaths.get(slot, 1)
        if n_deaths > 1:
            await asyncio.sleep(_back_off_s(n_deaths - 1))
        self._state.advance(self._now_s)
        self._state.slot_up(slot)

    async def _watch(self, slot: str) -> None:
        """Until its engine dies or stops making tokens."""
        engine = self._slots[slot].engine
        hang_s = engine.settings.hang_s
        died = asyncio.create_task(engine.ended())
        n_done, since = -1.0, time.monotonic()
        try:
            while True:
                await asyncio.wait([died], timeout=hang_s / 4)
                if died.done():
                    self._slot_lost(slot, str(died.result()))
                    return
                if not self._state.slots[slot].running:
                    n_done, since = -1.0, time.monotonic()
                    continue
                try:
                    now_done = await engine.control.tokens_done()
                except EngineFailed:
                    now_done = n_done
                if now_done != n_done:
                    n_done, since = now_done, time.monotonic()
                elif time.monotonic() - since > hang_s:
                    self._slot_lost(slot, str(engine.failure(f"made no token in {hang_s:g} s")))
                    return
        finally:
            died.cancel()

    # Loading

    async def _load(self, slot: str) -> None:
        task = asyncio.create_task(self._carry_out(slot, self._epochs[slot]))
        self._loads[slot] = task
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():  # what it started must have been ended before anything else is
                task.cancel()
                await asyncio.wait([task])
            del self._loads[slot]
        if not task.cancelled() and (error := task.exception()):
            raise error

    async def _carry_out(self, slot: str, epoch: int) -> None:
        state, engines = self._state, self._slots[slot]
        loading = state.slots[slot].loading
        assert loading is not None  # noqa: S101
        base = self.models[loading.model].base
        stays = base is not None and base == engines.base
        if not stays:
            self._unwatch(slot)
        error = await self._loaded(engines, loading, leaving=loading.evict if stays else ())
        if isinstance(error, UserError):  # no other attempt will help
            self._fail_waiting(str(error), loading.model)
        elif error is not None:
            await asyncio.sleep(_back_off_s(self._load_failures.get(loading.model, 0) // 2 + 1))
        if epoch != self._epochs[slot]:
            return
        state.advance(self._now_s)
        if error is None:
            state.load_ended(slot)
            self._load_failures.pop(loading.model, None)
        else:
            self._not_loaded(slot, loading.model, error)
        if engines.engine.is_running and slot not in self._watches:
            self._watches[slot] = asyncio.create_task(self._watch(slot))

    async def _loaded(
        self, engines: EngineSlot, loading: Loading, leaving: Sequence[str]
    ) -> EngineFailed | UserError | None:
        """Load and charge it; what went wrong, if anything. leaving: adapters to be taken out."""
        started = time.monotonic()
        error: EngineFailed | UserError | None = None
        try:
            for name in leaving:
                await engines.drop(name)
            await engines.load(loading.model, tier=loading.tier)
        except (EngineFailed, UserError) as problem:
            error = problem
            log.warning("slot %s: %s is not loaded: %s", engines.name, loading.model, problem)
        except Exception as problem:  # a disk that is full: as good as any failure to load
            log.exception("slot %s: loading %s", engines.name, loading.model)
            said = f"{type(problem).__name__}: {problem}"
            error = EngineFailed(f"Slot {engines.name!r} cannot load {loading.model!r}: {said}")
            await engines.abandon()
        finally:
            if not isinstance(error, UserError):  # it was refused before an engine was asked
                self._charge(loading.model, time.monotonic() - started)
        return error

    def _not_loaded(self, slot: str, model: str, error: EngineFailed | UserError) -> None:
        state, engines = self._state, self._slots[slot]
        state.load_failed(slot)
        if engines.base is not None:
            # It was refused before anything was touched: what was to leave is there still.
            state.slot_up(slot, [engines.base, *sorted(engines.adapters)])
        elif state.slots[slot].resident:  # an adapter's load took the base's engine with it
            self._slot_lost(slot, str(error))
        if isinstance(error, UserError):
            return
        counts = 4 if error.is_hung else 1 if error.is_killed else 2
        n_failures = self._load_failures.get(model, 0) + counts
        self._load_failures[model] = n_failures
        if n_failures >= MAX_LOAD_FAILURES:
            self._fail_waiting(str(error), model)

    def _charge(self, model: str, seconds: float) -> None:
        """Shared among those who wait for it; what nobody waits for is owed by the next."""
        waiting = [
            j for j in self._jobs.values() if j.model == model and j.request_id not in self._running
        ]
        if not waiting:
            self._owed_s[model] = self._owed_s.get(model, 0.0) + seconds
        for job in waiting:
            job.load_s += seconds / len(waiting)

    def _unwatch(self, slot: str) -> None:
        if watch := self._watches.pop(slot, None):
            watch.cancel()

    async def _read(self, model: str) -> None:
        """Into the operating system's cache, so that a load finds it there."""
        weights = self.models[model].weights
        ok = True
        try:
            await asyncio.to_thread(_read_through, weights.folder)
        except OSError as error:
            log.warning("cannot read ahead of %s: %s", model, error)
            ok = False
        self._state.advance(self._now_s)
        self._state.prefetch_ended(ok=ok)

    async def _preload(self, model: str, slot: str) -> float:
        state = self._state
        while state.slots[slot].loading is not None:  # the policy's
            await asyncio.sleep(_PROBE_S)
        state.advance(self._now_s)
        resident = state.slots[slot].resident
        if model in resident:
            return 0.0
        base = self.models[model].base
        evict = () if base in resident else tuple(m for m in resident if not self.models[m].base)
        state.apply(Load(slot=slot, model=model, evict=evict))
        started = time.monotonic()
        if begun := [self._spawn(self._load(name)) for name in state.loads_to_start()]:
            await asyncio.wait(begun)
        while state.slots[slot].loading is not None:  # it waits for what runs there
            await asyncio.sleep(_PROBE_S)
        self._owed_s.pop(model, None)
        if model not in state.slots[slot].resident:
            last = self.record.swaps[-1].error if self.record.swaps else ""
            raise EngineFailed(f"Slot {slot!r} could not load {model!r}: {last}")
        return time.monotonic() - started

    async def _shut(self) -> None:
        for slot in list(self._watches):
            self._unwatch(slot)
        for job in list(self._jobs.values()):
            job.fail("the fleet of vLLM engines was closed")
            if task := self._running.pop(job.request_id, None):
                task.cancel()
            self._finish(job)
        if self._timer:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(engines.stop() for engines in self._slots.values()))


def _residency_model(model: Servable) -> Model:
    return Model(
        name=model.name,
        n_bytes=model.weights.n_bytes,
        family=model.family,
        adapter_of=model.base,
    )


def _back_off_s(n_failures: int) -> float:
    """After so many failures in a row."""
    return min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (n_failures - 1))


def _read_through(folder: Path) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            buffer = bytearray(_READ_BYTES)
            while file.readinto(buffer):
                pass
