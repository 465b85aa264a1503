"""The live driver: one query, its calls made at once, its answer streamed where that is possible.

Tokens are shown as they come when the strategy says that a call's text is the answer; any other
answer is shown whole when it is there.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from experts.values import Call, Completion, Delta, Usage
from orchestrator.answer import Answer
from orchestrator.drivers.calling import Experts, Recorder, call_experts, failed
from orchestrator.drivers.run import Run

log = logging.getLogger(__name__)


async def run_live(run: Run, experts: Experts, record: Recorder) -> Answer:
    """Run to the answer."""
    try:
        while run.answer is None:
            run.send(await call_experts(run.pending, experts, record))
    finally:
        run.close()
    return run.answer


async def stream_live(
    run: Run, experts: Experts, record: Recorder
) -> AsyncGenerator[Delta | Answer]:
    """Deltas of the answer's text, then the answer. Closing the iterator stops the work.

    An expert that breaks off after its first words cannot be replaced by another: what was shown
    cannot be taken back. The answer then is what came, with a note.
    """
    shown = False
    try:
        while run.answer is None:
            calls = run.pending
            if len(calls) == 1 and calls[0].streams_answer:
                completion: Completion | None = None
                async with aclosing(_stream_call(calls[0], experts, record)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Delta):
                            shown = True
                            yield piece
                        else:
                            completion = piece
                broken = cast(Completion, completion)
                if shown and not broken.ok:
                    yield _broken_off(broken)
                    return
                run.send([broken])
            else:
                run.send(await call_experts(calls, experts, record))
    finally:
        run.close()
    if not shown and run.answer.text:
        usage = Usage()
        yield Delta(text=run.answer.text, usage=usage)
    yield run.answer


async def _stream_call(
    call: Call, experts: Experts, record: Recorder
) -> AsyncGenerator[Delta | Completion]:
    """One call's deltas and its completion, which is recorded also when the caller goes away."""
    expert = experts[call.arm.expert]
    text, usage = "", Usage()
    completion: Completion | None = None
    try:
        async with aclosing(expert.stream(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    completion = piece
                else:
                    text, usage = text + piece.text, piece.usage
                    yield piece
    except Exception as error:
        log.exception("expert %s raised while streaming", expert.card.name)
        completion = failed(call, error)
    finally:
        if completion is None:  # the caller closed us: what was generated is still paid
            completion = Completion(
                call=call,
                text=text,
                usage=usage,
                cost_usd=expert.card.prices.cost_usd(usage),
                finish_reason="cancelled",
            )
        record([completion])
    yield completion


def _broken_off(completion: Completion) -> Answer:
    return Answer(
        text=completion.text,
        answer="",
        p_correct=0.0,
        contributors=(completion.call.arm,),
        completions=(completion,),
        notes=(f"{completion.call.arm} broke off: {completion.error}",),
    )
