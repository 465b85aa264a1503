"""Experts that are asked everything once, for benchmarks in which many strategies ask the same.

A bundled expert's words depend on its prompt and sampling alone (sampling is seeded by the call,
whatever it is decoded beside), so what one strategy heard is what another would. Each is charged as
if it had asked itself; the machine computes it once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from experts.cards import ExpertCard
from experts.expert import Expert
from experts.values import Arm, Call, Completion, Delta, Message, Sampling

_PIECE = 256
"""Calls; as many as a local expert decodes together."""
_Key = tuple[Arm, tuple[Message, ...], Sampling]


class Memory:
    """What all experts of a pool have said, and how long that took to compute."""

    def __init__(self) -> None:
        self.said: dict[_Key, Completion] = {}
        self.seconds: dict[_Key, float] = {}
        """A call's part of its batch's wall time."""
        self.one_at_a_time = asyncio.Lock()
        """Experts share their cores; what one waits for another is not its own time."""

    def seconds_of(self, completions: Sequence[Completion]) -> float:
        """Of computing all of these, calls that were answered from memory included."""
        return sum(self.seconds.get(_key(c.call), 0.0) for c in completions)


class Remembering:
    """An expert that is asked each thing once. It keeps the Expert protocol, and no more of it: it
    has no load to tell of, so it is to be loaded before."""

    def __init__(self, expert: Expert, memory: Memory) -> None:
        self._expert, self._memory = expert, memory

    @property
    def card(self) -> ExpertCard:
        return self._expert.card

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        said = self._memory.said
        async with self._memory.one_at_a_time:
            missing = list({_key(c): c for c in calls if _key(c) not in said}.items())
            for i in range(0, len(missing), _PIECE):
                piece = missing[i : i + _PIECE]
                started = time.perf_counter()
                completions = await self._expert.complete([call for _, call in piece])
                each_s = (time.perf_counter() - started) / len(piece)
                for (key, _), completion in zip(piece, completions, strict=True):
                    said[key] = completion
                    self._memory.seconds[key] = each_s
        return [replace(said[_key(call)], call=call) for call in calls]

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        [completion] = await self.complete([call])
        yield completion


def remembering(experts: Mapping[str, Expert], memory: Memory) -> dict[str, Expert]:
    """The same pool, asked each thing once."""
    return {name: Remembering(expert, memory) for name, expert in experts.items()}


def _key(call: Call) -> _Key:
    return call.arm, call.messages, call.sampling
