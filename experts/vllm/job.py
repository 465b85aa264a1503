"""A call on its way through the fleet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from experts.local.row import Row
from experts.values import Delta, ErrorCode, Usage
from experts.vllm.asking import Asked, Token, Tokens
from experts.vllm.extra import wants_logprobs


class CannotAsk(Exception):
    """A call cannot be put to a model: too long for it, or its chat template refuses it."""

    def __init__(self, reason: str, code: ErrorCode = "failed") -> None:
        self.reason: str = reason
        self.code: ErrorCode = code
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompted:
    """A call in the tokens of one model."""

    model: str
    asked: Asked
    new_row: Callable[[], Row]
    """Each attempt begins anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitute:
    """A model that may answer in the place of the one that was asked."""

    loss_usd: float
    """What its caller expects to lose by it."""
    prompted: Callable[[], Prompted]
    """Puts the call into its tokens; raises CannotAsk. It may take seconds."""


@dataclass(eq=False, slots=True)
class Job:
    """Mutable. The fleet's thread owns it from being submitted until ``done`` is set."""

    request_id: str
    own: Prompted
    """For the model that was asked."""
    substitutes: Mapping[str, Substitute] = field(default_factory=dict)
    """By model."""
    timeout_s: float | None = None
    """From being submitted."""
    timeout_said_s: float | None = None
    """By the caller, from asking: for the error."""
    caller: str = ""
    tell: Callable[[Delta], None] | None = None
    """Of a stream: called in the fleet's thread."""
    present: Prompted = field(init=False)
    """As its last attempt was asked: its model is the one that answered."""
    row: Row = field(init=False)
    tokens: list[Token] = field(default_factory=list)
    """Of the last attempt, where the caller wants to know of each."""
    n_attempts: int = 0
    is_alone: bool = False
    """It is being asked as a suspect of killing engines: without other suspects beside it."""
    n_deaths_alone: int = 0
    load_s: float = 0.0
    """Its share of the loads that it waited for."""
    started_s: float | None = None
    """When an engine was first given it, on the monotonic clock; None while it waits."""
    n_batch: int = 1
    is_counted: bool = True
    """Every token of the attempt is in the row; False while an answer comes in one piece."""
    error: str | None = None
    error_code: ErrorCode | None = None
    done: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.present = self.own
        self.row = self.own.new_row()
        # asyncio would cancel it with the task that waits for it, and nobody could set it any more.
        # Who does not want the answer takes the job back (``Fleet.cancel``).
        self.done.set_running_or_notify_cancel()

    @property
    def model(self) -> str:
        """That was asked."""
        return self.own.model

    @property
    def asked(self) -> Asked:
        return self.present.asked

    @property
    def streams(self) -> bool:
        """Whether tokens are looked at as they come: somebody watches, or one may end it."""
        return self.tell is not None or bool(self.asked.sampling.stop)

    @property
    def usage(self) -> Usage:
        """What its last attempt used; at most, where the engine was stopped in the middle."""
        if self.n_attempts == 0:
            return Usage()
        if self.is_counted:
            return self.row.usage
        return Usage(
            input_tokens=len(self.asked.prompt),
            output_tokens=self.asked.max_tokens,
            estimated=True,
        )

    def prompted_for(self, model: str) -> Prompted:
        """Raises CannotAsk for a substitute that cannot take it."""
        return self.own if model == self.own.model else self.substitutes[model].prompted()

    def begin(self, prompted: Prompted) -> None:
        """Another attempt."""
        if self.n_attempts or prompted is not self.present:
            self.present, self.row = prompted, prompted.new_row()
            self.tokens.clear()
        self.n_attempts += 1

    def take(self, tokens: Tokens) -> None:
        wants_each = wants_logprobs(self.asked.sampling.extra)
        for token in tokens:
            if self.row.done:
                break
            is_end = token.id in self.asked.end_ids
            self.row.take(token.id, token.logprob, is_end=is_end)
            if wants_each and not is_end:
                self.tokens.append(token)
        self.show()

    def show(self) -> None:
        if self.tell and (delta := self.row.new_text()):
            self.tell(delta)

    def fail(self, error: str, code: ErrorCode = "failed") -> None:
        self.row.cancel(timed_out=code == "timeout")
        self.error, self.error_code = error, code


_NUMBERS = itertools.count(1)


def new_request_id() -> str:
    """Unique in this process."""
    return f"r{next(_NUMBERS)}"
