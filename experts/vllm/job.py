"""A call on its way through the fleet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from experts.local.row import Row
from experts.values import Delta, ErrorCode, Usage
from experts.vllm.asking import Asked


@dataclass(eq=False, slots=True)
class Job:
    """Mutable. The fleet's thread owns it from being submitted until ``done`` is set."""

    request_id: str
    model: str
    asked: Asked
    new_row: Callable[[], Row]
    """Each attempt begins anew."""
    timeout_s: float | None = None
    """From being submitted."""
    timeout_said_s: float | None = None
    """By the caller, from asking: for the error."""
    caller: str = ""
    tell: Callable[[Delta], None] | None = None
    """Of a stream: called in the fleet's thread."""
    row: Row = field(init=False)
    n_attempts: int = 0
    is_alone: bool = False
    """It is being asked as a suspect of killing engines: without other suspects beside it."""
    n_deaths_alone: int = 0
    load_s: float = 0.0
    """Its share of the loads that it waited for."""
    n_batch: int = 1
    is_counted: bool = True
    """Every token of the attempt is in the row; False while an answer comes in one piece."""
    error: str | None = None
    error_code: ErrorCode | None = None
    done: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.row = self.new_row()
        # asyncio would cancel it with the task that waits for it, and nobody could set it any more.
        # Who does not want the answer takes the job back (``Fleet.cancel``).
        self.done.set_running_or_notify_cancel()

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

    def take(self, tokens: list[tuple[int, float]]) -> None:
        for token, logprob in tokens:
            if self.row.done:
                break
            self.row.take(token, logprob, is_end=token in self.asked.end_ids)
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
