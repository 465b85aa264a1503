"""A wire: one attempt at one call, to one model of one provider.

Retrying, deadlines and charging are the expert's (``expert``); a wire says only what happened, and
whether it may have been paid for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from experts.values import Call, ErrorCode, FinishReason, ToolCall, Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    text: str
    usage: Usage | None
    """As the server counted; None where it did not."""
    logprob: float | None = None
    """Of the whole text; None where it is not told."""
    token_logprobs: str | None = None
    """OpenAI's list of tokens, as JSON; None where it is not told, or in a stream."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"


class WireError(Exception):
    """An attempt that brought no reply."""

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode = "failed",
        is_transient: bool = False,
        may_be_paid: bool = False,
        usage: Usage | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        """is_transient: another attempt may succeed. may_be_paid: the server may have worked for
        it and charge for that. usage: what it says it has used, if it says so. retry_after_s: when
        it wants to be asked again. status: of HTTP."""
        super().__init__(message)
        self.code, self.is_transient, self.may_be_paid = code, is_transient, may_be_paid
        self.usage, self.retry_after_s, self.status = usage, retry_after_s, status


class Wire(Protocol):
    """How one kind of provider is asked."""

    async def ask(self, call: Call) -> Reply:
        """Raises WireError."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[str | Reply]:
        """Pieces of the text, then the reply with all of it. Raises WireError."""
        ...
