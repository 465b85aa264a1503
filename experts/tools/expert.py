"""One tool of one MCP server as an expert.

What is asked of it is in the last message of a call: an assistant's turn with one tool call that
names it, or a user's text where the tool takes one text and nothing else is required. It is paid by
the call: what is refused here (bad arguments, a host that is not allowed, too many calls) was never
sent and costs nothing; what was sent may have been done, and is charged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.answers import extract_answer
from experts.cards import ExpertCard
from experts.remote.per_loop import PerLoop
from experts.together import each_told
from experts.tool_calls import arguments_of
from experts.tools.cleaning import plain
from experts.tools.limits import NotAllowed, ToolLimits, check_arguments
from experts.tools.schemas import problem
from experts.tools.server import CallFailed, ToolResult, ToolServer
from experts.values import Call, Completion, Delta, ErrorCode, FinishReason

log = logging.getLogger(__name__)

_MAX_QUERIES = 10_000
"""Of which calls are counted: those that were asked about last."""
_SHOWN_CHARS = 500
_CODES: dict[str, ErrorCode] = {
    "unreachable": "unreachable",
    "late": "timeout",
    "refused": "refused",
}


class Refused(Exception):
    """A call that is not made."""

    def __init__(self, message: str, code: ErrorCode = "refused") -> None:
        super().__init__(message)
        self.code = code


class ToolExpert:
    """Keeps the Expert protocol (and ``TellingExpert``) for a tool."""

    def __init__(
        self, card: ExpertCard, server: ToolServer, limits: ToolLimits, *, cwd: Path
    ) -> None:
        """card: with its ``tool``. cwd: what relative paths in arguments are relative to."""
        if card.tool is None:
            raise TypeError(f"The card of {card.name!r} describes no tool.")
        self._card, self.tool = card, card.tool
        self.server, self.limits, self._cwd = server, limits, cwd
        self._slots = PerLoop(lambda: asyncio.Semaphore(limits.max_concurrent))
        self._n_calls: OrderedDict[str, int] = OrderedDict()

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        done: dict[int, Completion] = {}
        await self.complete_each(calls, done.__setitem__)
        return [done[i] for i in range(len(calls))]

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        await each_told(calls, lambda call: self._one(call, len(calls)), tell)

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        """One delta: a tool says what it has to say at once."""
        work = asyncio.create_task(self._one(call, 1))
        try:
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                work.cancel()
                await asyncio.wait([work])
            if work.cancelled():
                yield Completion(call=call, finish_reason="cancelled")
                return
            completion = work.result()
            if completion.ok and completion.text:
                yield Delta(text=completion.text, usage=completion.usage)
            yield completion
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    async def _one(self, call: Call, n_batch: int) -> Completion:
        """In a task of its own: cancelling it is giving the call up, and its bill is the result."""
        making = _Making(self._card, call, n_batch)
        try:
            arguments = self._arguments(call)
            self._count(call)
            slots = await self._slots.get()
            # Waiting for a turn is part of the call's time; its deadline is the server's to keep.
            async with asyncio.timeout(making.left_s(self.limits.timeout_s)):
                await slots.acquire()
            try:
                result = await self._made(arguments, making)
            finally:
                slots.release()
            return making.finished(self._text(result))
        except asyncio.CancelledError:
            return making.ended("cancelled")
        except TimeoutError:
            seconds = self._timeout_s(call)
            return making.failed(f"no turn within {seconds:g} s: it is busy", "timeout")
        except Refused as refusal:
            return making.failed(f"{self._card.name}: {refusal}", refusal.code)
        except CallFailed as error:
            code = _CODES.get(error.why, "failed")
            return making.failed(f"{self._card.name}: {_short(str(error))}", code)
        except Exception as error:
            log.exception("tool %s raised", self._card.name)
            return making.failed(f"{type(error).__name__}: {error}", "failed")

    def _timeout_s(self, call: Call) -> float:
        mine = self.limits.timeout_s
        return mine if call.timeout_s is None else min(mine, call.timeout_s)

    async def _made(self, arguments: dict[str, Any], making: _Making) -> ToolResult:
        """Made once; again only where the session was lost, the tool may be called twice, and
        another call fits into what is reserved for this one."""
        while True:
            left_s = making.left_s(self.limits.timeout_s)
            try:
                return await self.server.call(self.tool.name, arguments, left_s, making.was_sent)
            except CallFailed as error:
                if error.why != "lost":
                    raise
                if not self.tool.is_repeatable:
                    raise CallFailed(
                        f"the server went away in the middle of it ({error}). Whether it was done "
                        "is not known, so it is not tried again",
                        why="lost",
                    ) from None
                if making.n >= 2 or not making.may_pay_another:
                    raise
                log.warning("%s: %s; it is called once more", self._card.name, error)

    def _arguments(self, call: Call) -> dict[str, Any]:
        """Raises Refused."""
        last = call.messages[-1] if call.messages else None
        if last is not None and last.role == "assistant" and last.tool_calls:
            mine = [c for c in last.tool_calls if c.name in self.tool.names]
            if len(mine) != 1:
                named = ", ".join(c.name for c in last.tool_calls)
                raise Refused(f"one tool call must name it, the message has these: {named}")
            arguments = arguments_of(mine[0].arguments or "{}")
            if not isinstance(arguments, dict):
                raise Refused(f"its arguments are no JSON object: {_short(mine[0].arguments)}")
        elif last is not None and last.role == "user":
            parameter = self.tool.text_parameter
            if parameter is None:
                raise Refused(
                    "it cannot be asked in words: it takes "
                    f"{self._parameters()}. Have a model that calls tools ask it"
                )
            arguments = {parameter: last.content}
        else:
            raise Refused("it is asked by a tool call, or a user's text, in the last message")
        try:
            wrong = problem(self.tool.schema, arguments)
        except ValueError as error:
            raise Refused(f"its schema {error}") from None
        if wrong:
            raise Refused(f"wrong arguments: {wrong}. It takes {self._parameters()}")
        try:
            check_arguments(arguments, self.limits, self._cwd)
        except NotAllowed as error:
            raise Refused(f"not allowed: {error}") from None
        return arguments

    def _parameters(self) -> str:
        schema = self.tool.schema
        required = set(schema.get("required", []))
        said = [
            f"{name}{'' if name in required else ' (optional)'}"
            for name in schema.get("properties", {})
        ]
        return ", ".join(said) or "nothing"

    def _count(self, call: Call) -> None:
        """Raises Refused when the query has had its share of calls."""
        n = self._n_calls.pop(call.query_id, 0)
        self._n_calls[call.query_id] = n + 1
        if len(self._n_calls) > _MAX_QUERIES:
            self._n_calls.popitem(last=False)
        if n >= self.limits.max_calls_per_query:
            raise Refused(
                f"the limit of {self.limits.max_calls_per_query} calls a question is reached",
                "over_limit",
            )

    def _text(self, result: ToolResult) -> str:
        """Raises Refused."""
        text = result.text
        if result.structured is not None and (not text or arguments_of(text) == result.structured):
            # Servers indent it; a model pays for every space, and small ones lose their way.
            text = json.dumps(result.structured, ensure_ascii=False)
        if (n := len(text.encode(errors="replace"))) > self.limits.max_result_bytes:
            raise Refused(
                f"its result has {n:,} bytes, more than the {self.limits.max_result_bytes:,} that "
                "are let through",
                "failed",
            )
        text = plain(text)
        if result.is_error:
            # The same arguments would be wrong again; what fails for other reasons is not told
            # apart by the protocol.
            raise Refused(_short(text) or "it failed, and does not say why")
        if not text and result.others:
            raise Refused(f"its result is no text, but {', '.join(sorted(set(result.others)))}")
        self._check_result(result)
        return text

    def _check_result(self, result: ToolResult) -> None:
        if self.tool.output_schema is None:
            return
        if result.structured is None:
            raise Refused("it promises a structured result and gives none", "failed")
        try:
            wrong = problem(json.loads(self.tool.output_schema), result.structured)
        except ValueError as error:
            raise Refused(f"its result's schema {error}", "failed") from None
        if wrong:
            raise Refused(f"its result is not what its schema promises: {wrong}", "failed")


@dataclass(slots=True)
class _Making:
    """A call while it is made; mutable, owned by one task."""

    card: ExpertCard
    call: Call
    n_batch: int
    asked: float = 0.0
    n: int = 0
    """Times that it was sent."""

    def __post_init__(self) -> None:
        self.asked = time.perf_counter()

    def left_s(self, limit_s: float) -> float:
        if self.call.timeout_s is not None:
            limit_s = min(limit_s, self.call.timeout_s)
        return max(0.0, self.asked + limit_s - time.perf_counter())

    def was_sent(self) -> None:
        self.n += 1

    @property
    def may_pay_another(self) -> bool:
        most, allowed = (self.n + 1) * self.card.prices.call_usd, self.call.max_cost_usd
        return allowed is None or most <= allowed

    def finished(self, text: str) -> Completion:
        return self.ended("stop", text=text)

    def failed(self, error: str, code: ErrorCode) -> Completion:
        return self.ended("error", error=error, code=code)

    def ended(
        self,
        reason: FinishReason,
        *,
        text: str = "",
        error: str | None = None,
        code: ErrorCode | None = None,
    ) -> Completion:
        return Completion(
            call=self.call,
            text=text,
            answer=extract_answer(text),
            cost_usd=self.n * self.card.prices.call_usd,
            latency_s=time.perf_counter() - self.asked,
            n_batch=self.n_batch,
            finish_reason=reason,
            error=error,
            error_code=code,
        )


def _short(text: str) -> str:
    text = plain(text)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
