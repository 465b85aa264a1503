"""One slot's engines, and the ways by which a model gets into them.

A slot answers with one engine, which holds one base model and adapters on it. Ways, cheapest first:

1. ``adapter``: a LoRA on the base that is there. Many at once; nothing waits.
2. ``in_place``: weights of the same family replace the base's in the running engine.
3. ``wake``: an engine that was put to sleep instead of stopped wakes up; after level 2, which drops
   the weights, they are read again, and may be another model's of its family.
4. ``restart``: a new process.

A way that fails is recorded and the next is tried; a restart always can be. The caller has drained
the slot: nothing runs on what leaves. Every way but the first ends with a reset of the prefix cache
and a look at whether the right weights answer (``verify``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experts.errors import BadModel, EngineFailed
from experts.local.fingerprint import tokenizer_fingerprint
from experts.vllm.checkpoint import (
    Adapter,
    Checkpoint,
    check_adapter,
    read_adapter,
    read_checkpoint,
)
from experts.vllm.control import Control
from experts.vllm.engine import Engine, EngineSettings
from experts.vllm.record import Swap, SwapRecord, Way
from experts.vllm.verify import Verifier

log = logging.getLogger(__name__)

SKIP_TOKENIZER = "--skip-tokenizer-init"
"""Then one engine can be models with different tokenizers, one after the other."""
MAX_ADAPTERS = 31
"""In one batch; each place takes memory for the largest rank. More can be loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Servable:
    """A model that engines can hold."""

    name: str
    weights: Checkpoint | Adapter
    base: str | None = None
    """An adapter's; None for a base."""
    args: tuple[str, ...] = ()
    """Of the engine, for this base."""
    tokenizer: str = ""
    """Fingerprint of the tokenizer that the engine keeps, for guided output; empty if it keeps
    none."""

    @property
    def family(self) -> str:
        """Equal for bases that one running engine can hold one after the other. An engine goes on
        guiding with the tokenizer that it was started with."""
        if isinstance(self.weights, Adapter):
            return ""
        return " ".join((self.weights.family, self.tokenizer, *self.args))


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotSettings:
    """What a slot does with engines that it does not need."""

    sleep_level: Literal[1, 2] | None = None
    """Put to sleep instead of stopped when a model of another family takes the slot: 1 keeps the
    weights in host memory, 2 drops them. None stops it."""
    max_asleep: int = 1
    """Beyond it, the one that has slept longest is stopped."""
    max_lora_rank: int = 16
    in_place: bool = True
    """Other weights of a family are put into the running engine; False starts a new one."""


class EngineSlot:
    """See the module. One task at a time may load or stop; answering goes on beside it."""

    def __init__(
        self,
        name: str,
        engine: EngineSettings,
        settings: SlotSettings,
        models: Mapping[str, Servable],
        record: SwapRecord,
        verifier: Verifier,
    ) -> None:
        self.name, self.settings, self.models = name, settings, models
        self.record, self._verifier, self._engine_settings = record, verifier, engine
        self._asleep: dict[str, Engine] = {}
        """By the base that they held, longest asleep first."""
        self.base: str | None = None
        """In the engine that is awake."""
        self.adapters: set[str] = set()
        self.engine = self._new_engine()

    @property
    def control(self) -> Control:
        return self.engine.control

    def served_name(self, model: str) -> str:
        """Under which the engine answers as ``model``. An adapter's carries the fingerprint: vLLM
        finds keys and values again by an adapter's name and folder, whatever is in it by then."""
        target = self.models[model]
        return f"{model}-{target.weights.version}" if target.base else self.engine.served_name

    def way(self, model: str) -> Way:
        """By which it would be tried first, as things are."""
        target = self.models[model]
        if target.base is not None and target.base == self.base:
            return "adapter"
        return self._ways(self.models[target.base or model])[0]

    async def load(self, model: str, *, tier: str) -> float:
        """Make ``model`` answer here, with its base where that is missing; the seconds it took,
        failed ways included.

        tier: where its weights were, for the record. Raises BadModel, before anything is touched
        or because the folder was written while an engine read it, and EngineFailed when no way
        worked; then the slot holds what ``base`` and ``adapters`` say.
        """
        started = time.perf_counter()
        target = self.models[model]
        self._check(target)
        if target.base is not None:
            if self.base != target.base:
                await self._load_base(self.models[target.base], tier)
            await self._try("adapter", target, tier)
        else:
            await self._load_base(target, tier)
        try:
            self._check(target)
        except BadModel:  # nobody knows what was read
            await (self.drop(model) if target.base else self.abandon())
            raise
        return time.perf_counter() - started

    async def drop(self, model: str) -> None:
        """Take an adapter out. A base stays until another takes its place."""
        if model in self.adapters:
            self.adapters.discard(model)
            with contextlib.suppress(EngineFailed):
                await self.control.unload_adapter(self.served_name(model))

    async def stop(self, *, at_once: bool = False) -> None:
        """End all engines of this slot."""
        self.base = None
        self.adapters.clear()
        asleep, self._asleep = list(self._asleep.values()), {}
        for engine in (self.engine, *asleep):
            await engine.stop(at_once=at_once)

    async def abandon(self) -> None:
        """End the engine that answers, at once: it died, or hangs. Those asleep sleep on."""
        self.base = None
        self.adapters.clear()
        await self.engine.stop(at_once=True)

    def _check(self, target: Servable) -> None:
        """Read the headers again: a folder may have changed since it was first looked at."""
        if isinstance(target.weights, Adapter):
            base = self.models[target.base or ""]
            assert isinstance(base.weights, Checkpoint)  # noqa: S101
            _check_same(read_checkpoint(base.weights.folder), base.weights)
            adapter = read_adapter(target.weights.folder)
            check_adapter(adapter, base.weights, max_rank=self.settings.max_lora_rank)
            _check_same(adapter, target.weights)
            return
        _check_same(read_checkpoint(target.weights.folder), target.weights)

    def _ways(self, target: Servable) -> list[Way]:
        ways: list[Way] = []
        if self._has_family(target) and self.engine.is_running and self._can_reload(target):
            ways.append("in_place")
        if self._sleeper(target) is not None:
            ways.append("wake")
        return [*ways, "restart"]

    def _has_family(self, target: Servable) -> bool:
        base = self.base  # others look on from their threads while it changes
        return base is not None and self.models[base].family == target.family

    def _can_reload(self, target: Servable) -> bool:
        """Whether other weights can be put into a running engine of this family. vLLM 0.32 on CPUs
        packs linear layers away, and forgets some in a reload without saying so: all of them where
        the engine takes adapters, and the head where it is tied to the embeddings, as no tensor of
        the file comes for it. There it is done only where the checksums would tell."""
        weights, args = target.weights, self._args(target)
        assert isinstance(weights, Checkpoint)  # noqa: S101
        if not (self.settings.in_place and self._verifier.can_tell(weights, args)):
            return False
        if not (self._lora_args(target.name) or weights.is_tied):
            return True
        return self._verifier.sees_layers(weights, args)

    def _sleeper(self, target: Servable) -> str | None:
        """The base under which an engine sleeps that could wake up as ``target``."""
        if target.name in self._asleep:
            return target.name
        if self.settings.sleep_level == 2 and self._can_reload(
            target
        ):  # it has no weights, so it may get any of its family
            for base in list(self._asleep):
                if self.models[base].family == target.family:
                    return base
        return None

    async def _load_base(self, target: Servable, tier: str) -> None:
        errors: list[str] = []
        is_hung = is_killed = False
        for way in self._ways(target):
            try:
                await self._try(way, target, tier)
                return
            except EngineFailed as error:
                errors.append(f"{way}: {error}")
                is_hung, is_killed = is_hung or error.is_hung, error.is_killed
                log.warning("slot %s: %s to %s failed: %s", self.name, way, target.name, error)
                # Nobody knows what it holds now.
                await self.abandon()
        raise EngineFailed(
            f"Slot {self.name!r} cannot load {target.name!r}. Tried " + "; ".join(errors),
            is_hung=is_hung,
            is_killed=is_killed,
        )

    async def _try(self, way: Way, target: Servable, tier: str) -> None:
        """One way, and its line in the record. What is cancelled, since its fleet is closed or its
        slot was lost, tells nothing about the way."""
        before, started, error, is_cancelled = self.base, time.perf_counter(), "", False
        bound_s = self._bound_s(way, target, tier)
        try:
            async with asyncio.timeout(bound_s):
                await self._go(way, target)
        except TimeoutError:
            error = f"it was not done within {bound_s:.3g} s: the engine hangs"
            raise EngineFailed(error, is_hung=True) from None
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        except Exception as problem:
            error = str(problem) or type(problem).__name__
            raise
        finally:
            swap = Swap(
                way=way,
                slot=self.name,
                model=target.name,
                before=before,
                seconds=time.perf_counter() - started,
                ok=not error,
                n_bytes=target.weights.n_bytes,
                tier=tier,
                error=error[:1000],
                at_s=time.time(),
            )
            if not is_cancelled:
                self.record.add(swap)

    async def _go(self, way: Way, target: Servable) -> None:
        if way == "adapter":
            await self._add_adapter(target)
        elif way == "in_place":
            await self._reload(target)
        elif way == "wake":
            await self._wake(target)
        else:
            await self._restart(target)

    def _bound_s(self, way: Way, target: Servable, tier: str) -> float:
        """Seconds after which a swap counts as hung; a start has its own bound within this one."""
        settings = self._engine_settings
        if way == "restart":
            return settings.start_s + settings.stop_s + settings.hang_s
        expected_s = self.record.expected_s(way, target.name, target.weights.n_bytes, tier)
        return settings.hang_s + 10 * expected_s

    async def _add_adapter(self, target: Servable) -> None:
        name = self.served_name(target.name)
        await self.control.load_adapter(name, str(target.weights.folder.resolve()))
        self.adapters.add(target.name)

    async def _reload(self, target: Servable) -> None:
        assert isinstance(target.weights, Checkpoint)  # noqa: S101
        control = self.control
        self.base = None
        await control.pause()
        # They were made for the base that leaves, and vLLM would go on to answer with them.
        for adapter in list(self.adapters):
            self.adapters.discard(adapter)
            await control.unload_adapter(self.served_name(adapter))
        await control.reload_weights(str(target.weights.folder.resolve()))
        await control.reset_prefix_cache()
        await control.resume()
        await self._verified(target, is_start=False)

    async def _wake(self, target: Servable) -> None:
        assert isinstance(target.weights, Checkpoint)  # noqa: S101
        base = self._sleeper(target)
        if base is None:
            raise EngineFailed(f"No engine sleeps that could be {target.name!r}.")
        engine = self._asleep.pop(base)
        try:
            await self._make_way()
        except BaseException:  # also when we are cancelled: who stops us must know of it
            self._asleep[base] = engine
            raise
        self.engine = engine
        control = self.control
        if self.settings.sleep_level == 2:
            await control.wake_up("weights")
            await control.reload_weights(str(target.weights.folder.resolve()))
            await control.wake_up("kv_cache")
        await control.wake_up()
        if await control.is_sleeping():
            raise EngineFailed(f"The engine of {base!r} did not wake up.")
        await control.reset_prefix_cache()
        await self._verified(target, is_start=False)

    async def _restart(self, target: Servable) -> None:
        assert isinstance(target.weights, Checkpoint)  # noqa: S101
        await self._make_way()
        await self.engine.start(target.weights.folder.resolve(), *self._own_args(target))
        await self._verified(target, is_start=True)

    async def _make_way(self) -> None:
        """Of the engine that is awake: to sleep if that is wanted and it can, else ended. Leaves an
        engine that does not run."""
        base, self.base = self.base, None
        level = self.settings.sleep_level
        if level is None or base is None or not self.engine.is_running:
            await self.engine.stop()
            self.adapters.clear()
            return
        for adapter in list(self.adapters):
            await self.drop(adapter)
        try:
            await self.control.sleep(level)
        except EngineFailed as error:
            log.warning("slot %s: %s does not sleep: %s", self.name, base, error)
            await self.engine.stop(at_once=True)
            return
        while len(self._asleep) >= self.settings.max_asleep:
            longest = next(iter(self._asleep))
            await self._asleep.pop(longest).stop()
        self._asleep[base] = self.engine
        self.engine = self._new_engine()

    def _new_engine(self) -> Engine:
        """By the first name that no sleeper has: logs go by it, and should not be ever more."""
        taken = {engine.name for engine in self._asleep.values()}
        names = (f"{self.name}-{n}" for n in itertools.count(2))
        name = next(name for name in itertools.chain([self.name], names) if name not in taken)
        return Engine(name, self._engine_settings)

    async def _verified(self, target: Servable, *, is_start: bool) -> None:
        assert isinstance(target.weights, Checkpoint)  # noqa: S101
        await self._verifier.check(
            self.control,
            self.engine.served_name,
            target.weights,
            self._args(target),
            is_start=is_start,
        )
        self.base = target.name

    def _own_args(self, target: Servable) -> tuple[str, ...]:
        """Of an engine for this base, beside those of every engine of the slot."""
        skip = () if target.tokenizer else (SKIP_TOKENIZER,)
        return (*target.args, *self._lora_args(target.name), *skip)

    def _args(self, target: Servable) -> tuple[str, ...]:
        """All of them."""
        return (*self._own_args(target), *self._engine_settings.args)

    def _lora_args(self, base: str) -> tuple[str, ...]:
        of_family = [
            m
            for m in self.models.values()
            if m.base and self.models[m.base].family == self.models[base].family
        ]
        if not of_family:
            return ()
        # One place more than there are adapters, always empty: vLLM 0.32 on CPUs takes that of the
        # last place for requests to the base that share a batch with an adapter's (index -1 in
        # lora/ops/torch_ops); with all places taken, the base answered as the last adapter.
        n = str(min(len(of_family), MAX_ADAPTERS) + 1)
        n_stored = str(len(of_family) + 1)
        rank = str(self.settings.max_lora_rank)
        return (
            "--enable-lora", "--max-loras", n, "--max-cpu-loras", n_stored, "--max-lora-rank", rank
        )  # fmt: skip


def _check_same(found: Checkpoint | Adapter, known: Checkpoint | Adapter) -> None:
    """What was learned of a model is not true of other weights, so they are not served under its
    name."""
    if found.speech != known.speech:  # calls are put into tokens as it was
        raise BadModel(
            f"{known.folder} has another tokenizer or chat template than when Conclave started. "
            "Start it again."
        )
    if found.version != known.version:
        raise BadModel(
            f"{known.folder} holds other weights than when Conclave started. Start it again."
        )
    if found.config != known.config:
        raise BadModel(
            f"{known.folder} has another configuration than when Conclave started. Start it again."
        )


def servable(
    name: str, folder: Path, *, args: tuple[str, ...] = (), guided: bool = False
) -> Servable:
    """A base in a folder; ``guided``: its engine keeps the tokenizer. Raises BadModel."""
    weights, tokenizer = read_checkpoint(folder), ""
    if guided:
        try:
            tokenizer = tokenizer_fingerprint(folder) or ""
        except (OSError, ValueError) as error:
            raise BadModel(f"The tokenizer in {folder} cannot be read: {error}") from None
        if not tokenizer:
            raise BadModel(
                f"{folder} has no tokenizer (tokenizer.json, tokenizer.model, ...), and guided "
                "output needs one. Copy it there, or set `guided: false`."
            )
    return Servable(name=name, weights=weights, args=args, tokenizer=tokenizer)


def servable_adapter(name: str, folder: Path, base: Servable, *, max_rank: int) -> Servable:
    """An adapter in a folder. Raises BadModel, also when it was not made for ``base``."""
    adapter = read_adapter(folder)
    if not isinstance(base.weights, Checkpoint):
        raise BadModel(f"{base.name!r} is an adapter itself; it cannot be the base of {name!r}.")
    check_adapter(adapter, base.weights, max_rank=max_rank)
    return Servable(name=name, weights=adapter, base=base.name)
