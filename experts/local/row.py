"""One call while it is being decoded: tokens become text, stop sequences cut it, streams see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from experts.values import Call, Delta, FinishReason, ToolCall, Usage

Detokenize = Callable[[list[int]], str]


@dataclass(slots=True)
class Row:
    """Mutable, owned by the worker thread that decodes it."""

    call: Call
    n_read: int
    """Tokens that were read before the first is said."""
    detokenize: Detokenize
    deadline: float | None = None
    """On ``time.perf_counter``; past it the row is cancelled."""
    ids: list[int] = field(default_factory=list)
    """Generated tokens, the end token included: it is generated, so it is paid."""
    logprob: float = 0.0
    own_odds: float | None = None
    text: str = ""
    done: bool = False
    timed_out: bool = False
    ended_at: float | None = None
    """On ``time.perf_counter``."""
    finish_reason: FinishReason = "length"
    n_shown: int = 0
    """Characters of the text that ``new_text`` has given out."""

    @property
    def usage(self) -> Usage:
        return Usage(input_tokens=self.n_read, output_tokens=len(self.ids))

    @property
    def cancelled(self) -> bool:
        return self.done and self.finish_reason == "cancelled"

    def reason_beside(self, tool_calls: Sequence[ToolCall]) -> FinishReason:
        """Why it ended, for one whose text holds these calls."""
        return "tool_calls" if tool_calls and self.finish_reason == "stop" else self.finish_reason

    def take(
        self, token_id: int, logprob: float, *, is_end: bool, own_odds: float | None = None
    ) -> None:
        """Add a token; ``is_end`` when it is one of the model's end tokens."""
        self.ids.append(token_id)
        self.logprob += logprob
        self.own_odds = own_odds
        if is_end:
            self._end("stop")
        elif stops := self.call.sampling.stop:
            text = self.detokenize(self.ids)
            if cuts := [text.index(mark) for mark in stops if mark in text]:
                self._end("stop", text[: min(cuts)])

    def end_at_length(self) -> None:
        """No end token came within the token limit."""
        if not self.done:
            self._end("length")

    def cancel(self, *, timed_out: bool = False) -> None:
        """Nobody waits any more, or the deadline has passed; what was generated is kept."""
        if not self.done:
            self.timed_out = timed_out
            self._end("cancelled")

    def new_text(self) -> Delta | None:
        """What can be shown now and has not been.

        Held back: half a character (byte-level tokens) and the possible beginning of a stop
        sequence.
        """
        if self.done:
            sure = self.text
        else:
            sure = self.detokenize(self.ids).rstrip("\ufffd")
            sure = sure[: len(sure) - _overlap(sure, self.call.sampling.stop)]
        if len(sure) <= self.n_shown:
            return None
        fresh, self.n_shown = sure[self.n_shown :], len(sure)
        return Delta(text=fresh, usage=self.usage)

    def _end(self, reason: FinishReason, text: str | None = None) -> None:
        self.done, self.finish_reason, self.ended_at = True, reason, time.perf_counter()
        self.text = self.detokenize(self.ids) if text is None else text


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of ``text`` that may be the beginning of a stop sequence."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )
