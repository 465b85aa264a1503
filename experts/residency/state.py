"""The books: how things stand, and what may become of them.

``State`` is what policies see (``policies.base.View``) and what a driver writes in: it applies the
actions, and refuses those that cannot be. So whatever the policy and whatever the driver, a
request is served once, only where its model is resident, and no slot holds more than its memory.

A driver's turn::

    state.advance(now_s)
    state.arrive(request), state.completed(request_id), state.load_ended(slot), ...
    for action in state.ask(policy):
        ...                            # applied: send what is to be served, set the timer
    for slot in state.loads_to_start():
        ...                            # drained: swap now, and tell load_ended or load_failed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from experts.errors import PolicyError, UnknownName
from experts.residency.host import HostMemory
from experts.residency.placing import check_fit, missing_in, plan_load
from experts.residency.policies.base import Action, Load, Policy, Prefetch, Serve
from experts.residency.queue import Queue
from experts.residency.slots import Loading, Running, SlotState
from experts.residency.values import Model, Slot, Tier, Waiting


class LoadTimes(Protocol):
    """Expected seconds of moving weights: from bandwidths, or from what was measured."""

    def load_s(self, slot: SlotState, model: Model, tier: Tier) -> float:
        """Into the slot as it is now, by the way that would be used; without the drain."""
        ...

    def read_s(self, model: Model) -> float:
        """From disk into host memory."""
        ...


class State:
    """See the module. ``models`` and ``slots`` are checked: DoesNotFit when a model fits nowhere,
    UnknownName when the base of an adapter is missing."""

    def __init__(
        self,
        models: Iterable[Model],
        slots: Iterable[Slot],
        load_times: LoadTimes,
        *,
        host_memory_bytes: int = 0,
        now_s: float = 0.0,
    ) -> None:
        self.models = {m.name: m for m in models}
        self.slots = {s.name: SlotState(s) for s in slots}
        self.load_times = load_times
        self.host = HostMemory(host_memory_bytes)
        self.now_s = now_s
        self.queues: dict[str, Queue] = {}
        self.new: list[Waiting] = []
        self.n_arrived = dict.fromkeys(self.models, 0)
        self.more_to_come = True
        self.disk_free_s = now_s
        """When the disk is expected to be done with what it was asked for: one read at a time."""
        self._reading_end_s = now_s
        self._waiting: dict[str, Waiting] = {}
        self._slot_of: dict[str, str] = {}
        self._where: dict[str, list[str]] = {name: [] for name in self.models}
        self._known: set[str] = set()
        self._asked_loads: list[str] = []
        check_fit(self.models, slots=[s.slot for s in self.slots.values()])

    # What a policy sees

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    def is_waiting(self, request_id: str) -> bool:
        return request_id in self._waiting

    def where(self, model: str) -> Sequence[str]:
        return self._where[model]

    def tier(self, model: str) -> Tier:
        if any(model in self.slots[s].resident for s in self._where[model]):
            return "slot"
        return self._stored(model)

    def load_s(self, slot: str, model: str) -> float:
        state = self.slots[slot]
        seconds = 0.0
        for name in missing_in(self.models, state, model):
            tier = self._stored(name)
            if name == self.host.reading:
                # Its bytes are on their way: what is left of that, then a load from host memory.
                seconds += max(0.0, self._reading_end_s - self.now_s)
                tier = "host"
            elif tier == "disk":
                seconds += max(0.0, self.disk_free_s - self.now_s)
            seconds += self.load_times.load_s(state, self.models[name], tier)
        return seconds

    def read_s(self, model: str) -> float:
        stored = self._stored(model)
        return self.load_times.read_s(self.models[model]) if stored == "disk" else 0.0

    def bytes_to_load(self, slot: str, model: str) -> int:
        return sum(self.models[m].n_bytes for m in missing_in(self.models, self.slots[slot], model))

    # What happens

    def advance(self, now_s: float) -> None:
        if now_s < self.now_s:
            raise ValueError(f"Time went back from {self.now_s} to {now_s} seconds.")
        self.now_s = now_s

    def arrive(self, request: Waiting) -> None:
        """Raises UnknownName for an unknown model, ValueError for an id that waits or runs."""
        for name in (request.model, *(s.model for s in request.stand_ins)):
            if name not in self.models:
                raise UnknownName(name, self.models, what="model")
        if request.request_id in self._known:
            raise ValueError(
                f"There is a request {request.request_id!r} already; ids tell them apart."
            )
        self._known.add(request.request_id)
        self.n_arrived[request.model] += 1
        self._put(request)

    def slot_of(self, request_id: str) -> str:
        """Where it runs."""
        return self._slot_of[request_id]

    def completed(self, request_id: str) -> Running:
        """It was served, or failed for good."""
        running = self.slots[self._slot_of.pop(request_id)].end(request_id)
        self._known.discard(request_id)
        return running

    def again(self, request_id: str, *, only_itself: bool = False) -> None:
        """It was being served, and was not: it waits again, as old as it is. ``only_itself``: for
        its own model, as no stand-in can take it."""
        slot = self.slots[self._slot_of.pop(request_id)]
        request = slot.end(request_id).request
        self._put(replace(request, stand_ins=()) if only_itself else request)

    def cancel(self, request_id: str) -> None:
        """Its caller went away while it waited. One that runs ends as ``completed``."""
        request = self._waiting.pop(request_id)
        self._take(request)
        self._known.discard(request_id)

    def loads_to_start(self) -> list[str]:
        """Slots whose load can begin, as what it evicts has ended. Told once; they count as
        started from now on."""
        ready = []
        for name in self._asked_loads:
            loading = self.slots[name].loading
            if loading is not None and (loading.started or self.slots[name].drained):
                self._begin(self.slots[name], loading)
                ready.append(name)
        for name in ready:
            self._asked_loads.remove(name)
        return ready

    def load_ended(self, slot: str) -> Loading:
        state = self.slots[slot]
        loading = self._end_of_load(state)
        for name in loading.brings:
            state.resident[name] = self.now_s
            if self.models[name].adapter_of is None:
                state.family = self.models[name].family
            self.host.keep(name, self.models[name].n_bytes, self.now_s)
        return loading

    def load_failed(self, slot: str) -> Loading:
        """What was to be evicted is gone, and the model is not there."""
        state = self.slots[slot]
        loading = self._end_of_load(state)
        state.used_bytes -= loading.n_bytes
        for name in loading.brings:
            self._where[name].remove(slot)
        return loading

    @property
    def prefetch_s(self) -> float:
        """Expected seconds until the prefetch that is under way ends."""
        return self._reading_end_s - self.now_s

    def put_in_host(self, model: str) -> None:
        """Its weights are in host memory, however they came there; least recently used go."""
        self.host.keep(model, self.models[model].n_bytes, self.now_s)

    def prefetch_ended(self, *, ok: bool = True) -> None:
        self.host.end(self.now_s, ok=ok)

    def slot_down(self, slot: str) -> list[Waiting]:
        """Its engine died: nothing is resident. What ran there waits again, and is returned."""
        state = self.slots[slot]
        if state.loading is not None:
            if slot in self._asked_loads:
                self._asked_loads.remove(slot)
            self.load_failed(slot)
        lost = [running.request for running in state.running.values()]
        for request in lost:
            self.again(request.request_id)
        for name in state.resident:
            self._where[name].remove(slot)
        state.resident.clear()
        state.family = ""
        state.used_bytes = 0
        state.down = True
        return lost

    def slot_up(self, slot: str, resident: Sequence[str] = ()) -> None:
        """Its engine is there (again), with these models in it."""
        state = self.slots[slot]
        state.down = False
        for name in resident:
            if name not in state.resident:
                state.resident[name] = self.now_s
                state.used_bytes += self.models[name].n_bytes
                self._where[name].append(slot)

    # What a policy asks for

    def ask(self, policy: Policy) -> Iterator[Action]:
        """The policy's actions, each after it was applied. Take them all."""
        for action in policy.decide(self):
            self.apply(action)
            yield action
        self.new.clear()

    def apply(self, action: Action) -> None:
        """Raises PolicyError when it cannot be; then nothing has changed. A timer changes
        nothing here."""
        if isinstance(action, Serve):
            self._serve(action)
        elif isinstance(action, Load):
            self._load(action)
        elif isinstance(action, Prefetch):
            self._prefetch(action)

    def _serve(self, action: Serve) -> None:
        request, slot = self._waiting.get(action.request_id), self.slots[action.slot]
        if request is None:
            raise PolicyError(f"Request {action.request_id!r} is not waiting: it cannot be served.")
        if action.model not in slot.resident:
            raise PolicyError(
                f"{action.model!r} is not resident in slot {action.slot!r}, which has "
                f"{', '.join(slot.resident) or 'nothing'}. Load it first."
            )
        if slot.n_free < 1:
            raise PolicyError(f"Slot {action.slot!r} runs {len(slot.running)} requests: no more.")
        service_s = request.service_s
        if action.model != request.model:
            allowed = {s.model: s.service_s for s in request.stand_ins}
            if action.model not in allowed:
                raise PolicyError(
                    f"Request {action.request_id!r} asked for {request.model!r}; {action.model!r} "
                    f"is none of its stand-ins ({', '.join(allowed) or 'it has none'})."
                )
            service_s = allowed[action.model]
        del self._waiting[action.request_id]
        self._take(request)
        self._slot_of[action.request_id] = action.slot
        slot.start(request, action.model, service_s, self.now_s)

    def _load(self, action: Load) -> None:
        slot = self.slots[action.slot]
        plan = plan_load(self.models, slot, action)
        load_s = self.load_s(action.slot, action.model)
        drain_s = slot.expected_drain_s(plan.leaves, self.now_s)
        for name in plan.leaves:
            del slot.resident[name]
            self._where[name].remove(action.slot)
        for name in plan.brings:
            self._where[name].append(action.slot)
        slot.used_bytes += plan.n_bytes - plan.freed_bytes
        slot.loading = Loading(
            model=action.model,
            evict=plan.leaves,
            brings=plan.brings,
            n_bytes=plan.n_bytes,
            tier=self._furthest(plan.brings),
            asked_s=self.now_s,
            load_s=load_s,
            expected_end_s=self.now_s + drain_s + load_s,
        )
        self._asked_loads.append(action.slot)
        if slot.drained:
            self._begin(slot, slot.loading)

    def _prefetch(self, action: Prefetch) -> None:
        if action.model not in self.models:
            raise UnknownName(action.model, self.models, what="model")
        model = self.models[action.model]
        self.host.begin(action.model, model.n_bytes, action.evict)
        self._ask_disk(model)
        self._reading_end_s = self.disk_free_s

    # The books

    def _begin(self, slot: SlotState, loading: Loading) -> None:
        """The load starts, and asks the disk before anything that is asked for later."""
        if loading.started:
            return
        loading.load_s = self.load_s(slot.slot.name, loading.model)
        loading.tier = self._furthest(loading.brings)
        loading.started_s = self.now_s
        loading.expected_end_s = self.now_s + loading.load_s
        for name in loading.brings:
            if self._stored(name) == "disk" and name != self.host.reading:
                self._ask_disk(self.models[name])

    def _ask_disk(self, model: Model) -> None:
        self.disk_free_s = max(self.disk_free_s, self.now_s) + self.load_times.read_s(model)

    def _put(self, request: Waiting) -> None:
        self._waiting[request.request_id] = request
        self.new.append(request)
        queue = self.queues.get(request.model)
        if queue is None:
            queue = self.queues[request.model] = Queue()
        queue.put(request)

    def _take(self, request: Waiting) -> None:
        queue = self.queues[request.model]
        queue.take(request.request_id)
        if not queue:
            del self.queues[request.model]

    def _end_of_load(self, state: SlotState) -> Loading:
        if state.loading is None:
            raise ValueError(f"Slot {state.slot.name!r} is loading nothing.")
        loading, state.loading = state.loading, None
        return loading

    def _stored(self, model: str) -> Tier:
        return "host" if model in self.host.holds else "disk"

    def _furthest(self, models: Sequence[str]) -> Tier:
        return "disk" if any(m not in self.host.holds for m in models) else "host"
