"""The live driver: one query, its calls made at once, its answer streamed where that is possible.

Tokens are shown as they come when the strategy says that a call's text is the answer; any other
answer is shown whole when it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from experts.expert import Expert
from experts.values import Call, Completion, Delta, Usage, failed_completion
from orchestrator.answer import Answer
from orchestrator.drivers.calling import Experts, Recorder, call_experts, said, storable
from orchestrator.drivers.run import Run
from orchestrator.drivers.till import NO_TILL, Till

log = logging.getLogger(__name__)

OnAsked = Callable[[Sequence[Call]], None]


async def run_live(
    run: Run,
    experts: Experts,
    record: Recorder,
    *,
    on_asked: OnAsked = lambda calls: None,
    till: Till = NO_TILL,
) -> Answer:
    """Run to the answer. ``on_asked`` is told of calls that are about to be made."""
    try:
        while run.answer is None:
            on_asked(run.pending)
            run.send(await call_experts(run.pending, experts, record, till))
            if run.answer is None:
                # Experts that never wait must not keep everybody else waiting, nor a strategy that
                # never ends from being stopped.
                await asyncio.sleep(0)
    finally:
        run.close()
    return run.answer


async def stream_live(
    run: Run, experts: Experts, record: Recorder, *, till: Till = NO_TILL
) -> AsyncGenerator[Delta | Answer]:
    """Deltas of the answer's text, then the answer. Closing the iterator stops the work.

    An expert that breaks off after its first words cannot be replaced by another: what was shown
    cannot be taken back. The answer then is what came, and says that it broke off.
    """
    shown = False
    try:
        while run.answer is None:
            calls = run.pending
            if len(calls) == 1 and calls[0].streams_answer:
                pieces = _stream_call(calls[0], experts, record, till)
                async with aclosing(pieces):
                    async for piece in pieces:
                        if isinstance(piece, Completion):
                            completion = piece
                        else:
                            shown = True
                            yield piece
                if shown and not completion.ok:
                    yield _broken_off(completion, run.made)
                    return
                run.send([completion])
            else:
                run.send(await call_experts(calls, experts, record, till))
    finally:
        run.close()
    if not shown and run.answer.text:
        yield Delta(text=run.answer.text, usage=Usage())
    yield run.answer


_UNFINISHED: set[asyncio.Task[None]] = set()
"""Streams whose caller went away and whose bill is still to come: the event loop alone would let
them be collected."""


async def _stream_call(
    call: Call, experts: Experts, record: Recorder, till: Till
) -> AsyncGenerator[Delta | Completion]:
    """One call's deltas and its completion, which is recorded also when the caller goes away."""
    if refused := await till.reserve([call]):
        yield failed_completion(call, refused[0], "over_budget")
        return
    told: asyncio.Queue[Delta | Completion] = asyncio.Queue()
    # A task of its own: it must see the expert's bill even when this generator is closed.
    expert = experts[call.arm.expert]
    work = asyncio.create_task(_listen(call, expert, record, told.put_nowait, till))
    _UNFINISHED.add(work)
    work.add_done_callback(_UNFINISHED.discard)
    # Cancelled before it ran, it has asked nobody; afterwards it ends with a bill.
    work.add_done_callback(lambda done: till.settle(call, None) if done.cancelled() else None)
    try:
        while True:
            piece = await told.get()
            yield piece
            if isinstance(piece, Completion):
                return
    finally:
        work.cancel()
        await asyncio.wait([work])


async def _listen(
    call: Call,
    expert: Expert,
    record: Recorder,
    tell: Callable[[Delta | Completion], None],
    till: Till,
) -> None:
    text, usage, prices = "", Usage(), expert.card.prices
    completion: Completion | None = None
    try:
        async with aclosing(expert.stream(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    completion = piece
                else:
                    text, usage = text + piece.text, piece.usage
                    tell(piece)
    except asyncio.CancelledError:  # an expert that does not hand over its bill: what is known
        cost = prices.cost_usd(usage)
        completion = Completion(
            call=call, text=text, usage=usage, cost_usd=cost, finish_reason="cancelled"
        )
    except Exception as error:
        log.exception("expert %s raised while streaming", expert.card.name)
        cost = prices.cost_usd(usage)
        completion = failed_completion(call, said(error), text=text, usage=usage, cost_usd=cost)
    if completion is None:
        silence, cost = "the stream ended without a completion", prices.cost_usd(usage)
        completion = failed_completion(call, silence, text=text, usage=usage, cost_usd=cost)
    completion = storable(completion)
    till.settle(call, completion)
    record([completion])
    tell(completion)


def _broken_off(completion: Completion, before: Sequence[Completion]) -> Answer:
    return Answer(
        text=completion.text,
        answer="",
        p_correct=0.0,
        contributors=(completion.call.arm,),
        completions=(),
        broken_off=f"{completion.call.arm} broke off: {completion.error}",
    ).with_history((*before, completion))
