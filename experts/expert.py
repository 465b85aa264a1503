"""The Expert protocol, and the pool that strategies see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from experts.cards import ExpertCard
from experts.errors import UnknownExpert
from experts.modes import DIRECT
from experts.values import Arm, Call, Completion, Delta, LoadOutlook, Usage


@runtime_checkable
class Expert(Protocol):
    """Something that can answer: a whole model, an adapter, a tool, a person."""

    @property
    def card(self) -> ExpertCard: ...

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        """Answer a batch, in order. A call that fails is a failed completion; nothing is raised
        for it, so that one bad call never loses its neighbours.

        When the awaiting task is cancelled, an expert stops its work and returns what it has, with
        ``finish_reason="cancelled"``: half an answer is paid like a whole one."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        """Deltas as they come, then exactly one completion.

        When the task that awaits the next piece is cancelled, the work stops and the next piece is
        the completion, with ``finish_reason="cancelled"``: as in ``complete``, it is paid. Closing
        the iterator stops the work, too, but leaves nobody to tell the bill."""
        ...


@runtime_checkable
class TellingExpert(Protocol):
    """An expert whose calls end one by one, and which takes more while it is at work: one behind
    an API, a fleet of engines. Drivers ask it as soon as there is something to ask, and nobody
    waits for the slowest call of a batch."""

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        """As ``complete``, but ``tell`` is told of every completion when it is there, with the
        call's place in ``calls``; when this returns, of all of them. What ``tell`` raises is
        raised. When cancelled, it tells what it has and returns."""
        ...


@runtime_checkable
class LoadingExpert(Protocol):
    """An expert that has to be loaded before it can answer, and may be unloaded again."""

    def load_outlook(self) -> LoadOutlook | None:
        """The load that a call would have to wait for now; None when it is there. Called before
        every decision, from any thread: it must be quick and change nothing."""
        ...


@runtime_checkable
class PlanningExpert(Protocol):
    """An expert that plans ahead, and so does better for knowing that little more will come: which
    of several models is loaded next, say."""

    def expect_more(self, more: bool) -> None:
        """Whether calls may come from somewhere beyond those that are there and what follows from
        their answers. Everybody begins by expecting more, and who says that nothing comes takes it
        back when that is over. It promises nothing: a call that comes all the same is answered.
        From any thread, before or after calls."""
        ...


@runtime_checkable
class ReplaceableExpert(Protocol):
    """An expert whose calls may carry stand-ins (``Call.stand_ins``)."""

    @property
    def stand_ins(self) -> frozenset[str]:
        """Experts that can answer in its place; empty where its owner does not want that."""
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """The cards of the experts that may be asked: what strategies and routers know of them."""

    cards: tuple[ExpertCard, ...]
    _by_name: dict[str, ExpertCard] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {card.name: card for card in self.cards})

    @property
    def arms(self) -> tuple[Arm, ...]:
        return tuple(arm for card in self.cards for arm in card.arms)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(card.name for card in self.cards)

    @property
    def versions(self) -> dict[str, str]:
        """Version of each expert's weights, by name."""
        return {card.name: card.version for card in self.cards}

    def card(self, name: str) -> ExpertCard:
        """Raises UnknownExpert, with the nearest names."""
        if (card := self._by_name.get(name)) is None:
            raise UnknownExpert(name, self.names)
        return card

    def in_mode(self, call: Call) -> Call:
        """The call with what its arm's mode adds to the prompt; itself where the mode adds nothing,
        or the expert or the mode is not of this pool."""
        if call.arm.mode == DIRECT.name:
            return call
        modes = [m for c in self.cards if c.name == call.arm.expert for m in c.modes]
        for mode in modes:
            if mode.name == call.arm.mode:
                return replace(call, messages=mode.put(call.messages))
        return call

    def most_usd(self, call: Call) -> float:
        """Upper bound of what a call can cost in tokens, whoever of those that may answers it."""
        if not call.stand_ins:
            return self.card(call.arm.expert).most_usd(call)
        return max(self.card(name).most_usd(call) for name in call.experts)

    def most_usage(self, call: Call) -> Usage:
        """The most tokens that a call can use, whoever of those that may answers it."""
        if not call.stand_ins:
            return self.card(call.arm.expert).most_usage(call)
        usages = [self.card(name).most_usage(call) for name in call.experts]
        return max(usages, key=lambda u: u.input_tokens + u.output_tokens)

    @classmethod
    def of(cls, experts: Iterable[Expert]) -> Pool:
        return cls(tuple(e.card for e in experts))
