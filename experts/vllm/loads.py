"""Loads that the policy decided on, carried out: one at a time on a slot, charged, tried again.

What a load took is charged to the calls that waited for it, in equal parts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experts.errors import EngineFailed, UserError
from experts.residency.policies.base import Load
from experts.residency.slots import Loading
from experts.vllm.books import Books
from experts.vllm.patience import LoadFailures, Patience
from experts.vllm.pending import Pending
from experts.vllm.record import SwapRecord
from experts.vllm.slot import EngineSlot, Servable
from experts.vllm.watching import Watches

log = logging.getLogger(__name__)

_PROBE_S = 0.2
_READ_BYTES = 8 << 20


class Loads:
    """Belongs to the fleet's thread."""

    def __init__(
        self,
        books: Books,
        slots: Mapping[str, EngineSlot],
        models: Mapping[str, Servable],
        record: SwapRecord,
        *,
        patience: Patience,
        watches: Watches,
        pending: Pending,
        lost: Callable[[str, str], object],
    ) -> None:
        """lost: told of a slot that lost its engine, and why."""
        self._books, self._slots, self._models, self._record = books, slots, models, record
        self._failures = LoadFailures(patience)
        self._watches, self._pending, self._lost = watches, pending, lost
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._epochs = dict.fromkeys(slots, 0)
        """Counts the engines that each slot lost: loads that began before are void."""

    async def load(self, slot: str) -> None:
        """What the books say that the slot loads."""
        task = asyncio.create_task(self._carry_out(slot, self._epochs[slot]))
        self._under_way[slot] = task
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():  # what it started must have been ended before anything else is
                task.cancel()
                await asyncio.wait([task])
            del self._under_way[slot]
        if not task.cancelled() and (error := task.exception()):
            raise error

    def void(self, slot: str) -> None:
        """The slot has lost its engine: what is being loaded there changes the books no more."""
        self._epochs[slot] += 1

    async def end(self, slot: str) -> None:
        """Whatever is being loaded there."""
        if load := self._under_way.get(slot):
            load.cancel()
            await asyncio.wait([load])

    async def preload(self, model: str, slot: str) -> float:
        """Into an idle slot, though nobody asked; the seconds it took, which nobody is charged.
        Raises EngineFailed."""
        state = self._books.state
        while state.slots[slot].loading is not None:  # the policy's
            await asyncio.sleep(_PROBE_S)
        self._books.advance()
        resident = state.slots[slot].resident
        if model in resident:
            return 0.0
        base = self._models[model].base
        evict = () if base in resident else tuple(m for m in resident if not self._models[m].base)
        state.apply(Load(slot=slot, model=model, evict=evict))
        started = time.monotonic()
        if begun := [self._pending.begin(self.load(name)) for name in state.loads_to_start()]:
            await asyncio.wait(begun)
        while state.slots[slot].loading is not None:  # it waits for what runs there
            await asyncio.sleep(_PROBE_S)
        self._books.settle_s(model)
        if model not in state.slots[slot].resident:
            last = self._record.swaps[-1].error if self._record.swaps else ""
            raise EngineFailed(f"Slot {slot!r} could not load {model!r}: {last}")
        return time.monotonic() - started

    async def read(self, model: str) -> None:
        """Into the operating system's cache, so that a load finds it there."""
        weights = self._models[model].weights
        ok = True
        try:
            await asyncio.to_thread(_read_through, weights.folder)
        except OSError as error:
            log.warning("cannot read ahead of %s: %s", model, error)
            ok = False
        self._books.advance()
        self._books.state.prefetch_ended(ok=ok)

    async def _carry_out(self, slot: str, epoch: int) -> None:
        books, engines = self._books, self._slots[slot]
        loading = books.state.slots[slot].loading
        assert loading is not None  # noqa: S101
        base = self._models[loading.model].base
        stays = base is not None and base == engines.base
        if not stays:
            self._watches.end(slot)
        error = await self._loaded(engines, loading, leaving=loading.evict if stays else ())
        if isinstance(error, UserError):  # no other attempt will help
            books.fail_waiting(str(error), loading.model)
        elif error is not None:
            await asyncio.sleep(self._failures.back_off_s(loading.model))
        if epoch != self._epochs[slot]:
            return
        books.advance()
        if error is None:
            books.state.load_ended(slot)
            self._failures.forget(loading.model)
        else:
            self._not_loaded(slot, loading.model, error)
        if engines.engine.is_running:
            self._watches.begin(slot, engines.engine)

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
            self._books.charge(loading.model, time.monotonic() - started)
        return error

    def _not_loaded(self, slot: str, model: str, error: EngineFailed | UserError) -> None:
        state, engines = self._books.state, self._slots[slot]
        state.load_failed(slot)
        if engines.base is not None:
            # It was refused before anything was touched: what was to leave is there still.
            state.slot_up(slot, [engines.base, *sorted(engines.adapters)])
        elif state.slots[slot].resident:  # an adapter's load took the base's engine with it
            self._lost(slot, str(error))
        if isinstance(error, EngineFailed) and self._failures.count(model, error):
            self._books.fail_waiting(str(error), model)


def _read_through(folder: Path) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            buffer = bytearray(_READ_BYTES)
            while file.readinto(buffer):
                pass
