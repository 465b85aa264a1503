"""An expert behind an API: batches as concurrent requests, deadlines, retries, and the bill.

Every attempt that may have been paid is charged. Where the server says what it used, that is
charged; where it does not (an answer without usage, a connection that was lost, a request that was
given up), the most that it can have used is, and the usage is marked as estimated: an error would
throw a paid answer away, and zero would make the expert look free.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field

from experts.cards import ExpertCard
from experts.remote.per_loop import PerLoop
from experts.remote.retries import wait_before_retry
from experts.remote.wire import Reply, Wire, WireError
from experts.together import each_told
from experts.tool_calls import final_answer
from experts.values import Call, Completion, Delta, ErrorCode, Usage, failed_completion

log = logging.getLogger(__name__)

MAX_CONCURRENT = 16
TIMEOUT_S = 600.0
_TOO_MANY = 429
Tell = Callable[[Delta], None]


class RemoteExpert:
    """Asks a wire, and keeps the Expert protocol for it."""

    def __init__(
        self,
        card: ExpertCard,
        wire: Wire,
        *,
        max_concurrent: int = MAX_CONCURRENT,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """max_concurrent: requests at a time, over all batches. timeout_s: of one attempt, for
        calls that have no timeout of their own. sleep: for tests that do not want to wait."""
        self._card, self._wire = card, wire
        self._max_concurrent, self._timeout_s, self._sleep = max_concurrent, timeout_s, sleep
        self._slots = PerLoop(lambda: asyncio.Semaphore(max_concurrent))
        self._n_asked = 0
        self._welcome_at = 0.0
        """When the server wants to be asked again, on this process's clock."""

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
        self._n_asked += len(calls)
        n_batch = min(self._n_asked, self._max_concurrent)

        try:
            await each_told(calls, lambda call: self._one(call, n_batch), tell)
        finally:
            self._n_asked -= len(calls)

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()  # None: no more deltas
        work = asyncio.create_task(self._one(call, 1, queue.put_nowait))
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (delta := await _next(queue, work)) is not None:
                yield delta
            await asyncio.wait([work])
            yield _result(work, call)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    async def _one(self, call: Call, n_batch: int, tell: Tell | None = None) -> Completion:
        """In a task of its own: cancelling it is giving the call up, and its bill is the result."""
        attempts = _Attempts(self._card, call, n_batch)
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._asked(attempts, tell)
        except asyncio.CancelledError:
            return attempts.given_up()
        except TimeoutError:
            limit_s = self._timeout_s if call.timeout_s is None else call.timeout_s
            return attempts.failed(f"no answer within {limit_s:g} s", "timeout")
        except Exception as problem:
            log.exception("expert %s raised", self._card.name)
            return attempts.failed(f"{type(problem).__name__}: {problem}")

    async def _asked(self, attempts: _Attempts, tell: Tell | None) -> Completion:
        slots = await self._slots.get()
        while True:
            try:
                async with slots:
                    if not attempts.n:
                        await self._until_welcome()
                    # A call's own timeout stands around all of its attempts.
                    is_bounded = 0 < (attempts.call.timeout_s or 0) <= self._timeout_s
                    async with nullcontext() if is_bounded else asyncio.timeout(self._timeout_s):
                        attempts.begin()
                        reply = await self._attempt(attempts, tell)
                return attempts.finished(reply)
            except WireError as error:
                attempts.settle(error.usage, may_be_paid=error.may_be_paid)
                # What was shown cannot be taken back, so after the first words there is no retry.
                wait_s = (
                    None
                    if attempts.text or not attempts.may_pay_another
                    else wait_before_retry(error, attempts.n, left_s=attempts.left_s)
                )
                if wait_s is None:
                    return attempts.failed(str(error), error.code)
                if error.status == _TOO_MANY or error.retry_after_s is not None:
                    self._welcome_at = max(self._welcome_at, time.perf_counter() + wait_s)
                log.info("expert %s: %s; again in %.1f s", self._card.name, error, wait_s)
            await self._sleep(wait_s)

    async def _until_welcome(self) -> None:
        """What a server said to one call holds for all that have not begun: otherwise each of them
        would use its attempts up on being told the same."""
        wait_s = self._welcome_at - time.perf_counter()
        if wait_s > 0:
            await self._sleep(wait_s)

    async def _attempt(self, attempts: _Attempts, tell: Tell | None) -> Reply:
        if tell is None:
            return await self._wire.ask(attempts.call)
        async with aclosing(self._wire.stream(attempts.call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reply):
                    return piece
                attempts.text += piece
                tell(Delta(text=piece, usage=attempts.so_far()))
        raise WireError("the stream ended without a reply", may_be_paid=True)


@dataclass(slots=True)
class _Attempts:
    """All attempts at one call, and what they have cost; mutable, owned by one task."""

    card: ExpertCard
    call: Call
    n_batch: int
    asked: float = field(default_factory=time.perf_counter)
    n: int = 0
    text: str = ""
    """Of the attempt that is streaming."""
    usage: Usage = field(default_factory=Usage)
    """Of all attempts that are settled."""
    n_paid: int = 0
    """Of these, how many may have been paid."""
    _open: bool = False
    """A request is under way that is not settled."""
    _bound: Usage | None = None

    @property
    def _wants_tokens(self) -> bool:
        return ("logprobs", "true") in self.call.sampling.extra

    @property
    def left_s(self) -> float:
        if self.call.timeout_s is None:
            return math.inf
        return self.asked + self.call.timeout_s - time.perf_counter()

    @property
    def may_pay_another(self) -> bool:
        """Whether one more attempt is sure to fit into what is reserved for the call: an attempt
        that failed may have been paid as well."""
        if self.call.max_cost_usd is None:
            return True
        most = self.usage + self.card.most_usage(self.call)
        cost_usd = self.card.prices.cost_usd(most, n_calls=self.n_paid + 1)
        return cost_usd <= self.call.max_cost_usd

    @property
    def cost_usd(self) -> float:
        """Of all attempts that are settled."""
        return self.card.prices.cost_usd(self.usage, n_calls=self.n_paid)

    def begin(self) -> None:
        self.n += 1
        self._open = True

    def settle(self, usage: Usage | None, *, may_be_paid: bool = True) -> None:
        """Put the attempt under way on the bill. A count that no such model can have is none."""
        if usage and max(usage.input_tokens, usage.output_tokens) > self.card.context_tokens:
            log.warning(
                "expert %s says that it used %d and %d tokens; its context holds %d",
                self.card.name,
                usage.input_tokens,
                usage.output_tokens,
                self.card.context_tokens,
            )
            usage = None
        if self._open and (usage or may_be_paid):
            self.usage += usage or self._most()
            self.n_paid += 1
        self._open = False

    def so_far(self) -> Usage:
        """With the attempt under way, as far as it can have used tokens."""
        return self.usage + self._most() if self._open else self.usage

    def _most(self) -> Usage:
        """A server that streams has generated what it sent, one that does not, perhaps all."""
        if self._bound is None:  # asked for with every piece of a stream
            self._bound = self.card.most_usage(self.call)
        most = self._bound
        if not self.text:
            return most
        said = min(len(self.text.encode()), most.output_tokens)
        return Usage(input_tokens=most.input_tokens, output_tokens=said, estimated=True)

    def finished(self, reply: Reply) -> Completion:
        self.text = reply.text
        self.settle(reply.usage)
        return Completion(
            call=self.call,
            text=reply.text,
            answer=final_answer(reply.text, reply.tool_calls),
            tool_calls=reply.tool_calls,
            logprob=reply.logprob,
            token_logprobs=reply.token_logprobs if self._wants_tokens else None,
            finish_reason=reply.finish_reason,
            n_batch=self.n_batch,
            usage=self.usage,
            cost_usd=self.cost_usd,
            latency_s=time.perf_counter() - self.asked,
        )

    def failed(self, error: str, code: ErrorCode = "failed") -> Completion:
        self.settle(None)
        if self.n > 1:
            error = f"{error} ({self.n} attempts)"
        return failed_completion(
            self.call,
            error,
            code,
            text=self.text,
            usage=self.usage,
            cost_usd=self.cost_usd,
            latency_s=time.perf_counter() - self.asked,
            n_batch=self.n_batch,
        )

    def given_up(self) -> Completion:
        self.settle(None)
        return Completion(
            call=self.call,
            text=self.text,
            usage=self.usage,
            cost_usd=self.cost_usd,
            latency_s=time.perf_counter() - self.asked,
            n_batch=self.n_batch,
            finish_reason="cancelled",
        )


def _result(task: asyncio.Task[Completion], call: Call) -> Completion:
    """A task that was cancelled before it ran has asked nobody."""
    return Completion(call=call, finish_reason="cancelled") if task.cancelled() else task.result()


async def _next(queue: asyncio.Queue[Delta | None], work: asyncio.Task[Completion]) -> Delta | None:
    """The next delta; None when there is none, or when the caller has given up waiting."""
    try:
        return await queue.get()
    except asyncio.CancelledError:
        work.cancel()
        return None
