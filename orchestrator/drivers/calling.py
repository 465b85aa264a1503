"""Making calls: grouped by expert, with failures contained and every cent reported."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from experts.expert import Expert
from experts.values import Call, Completion, encodable

log = logging.getLogger(__name__)

_GRACE_S = 2.0
_MOST_TOKENS = 2**53
"""What SQLite and JSON hold exactly; no model reads as many."""

Experts = Mapping[str, Expert]
Recorder = Callable[[Sequence[Completion]], None]
"""Told of every completion as soon as it is there: what was paid is recorded before it is used."""


async def call_experts(
    calls: Sequence[Call], experts: Experts, record: Recorder
) -> list[Completion]:
    """Make the calls, one batch an expert, experts side by side; completions in the calls' order.

    Cancelling it stops the experts and records what they spent.
    """
    groups: dict[str, list[int]] = {}
    for i, call in enumerate(calls):
        groups.setdefault(call.arm.expert, []).append(i)
    batches = [
        _one_batch(experts[name], [calls[i] for i in rows], record) for name, rows in groups.items()
    ]
    done: dict[int, Completion] = {}
    for rows, completions in zip(groups.values(), await asyncio.gather(*batches), strict=True):
        done.update(zip(rows, completions, strict=True))
    return [done[i] for i in range(len(calls))]


async def _one_batch(expert: Expert, calls: list[Call], record: Recorder) -> list[Completion]:
    work = asyncio.ensure_future(expert.complete(calls))
    try:
        await asyncio.wait([work], timeout=_patience_s(calls))
        if not work.done():  # an expert that does not keep its calls' timeouts
            raise TimeoutError(f"no answer within {_patience_s(calls):g} s")
        completions = work.result()
    except TimeoutError as error:
        work.cancel()
        spent = (await asyncio.gather(work, return_exceptions=True))[0]
        known = spent if isinstance(spent, list) else [failed(c, error) for c in calls]
        completions = [_late(c) for c in known]
    except asyncio.CancelledError:
        work.cancel()
        spent = (await asyncio.gather(work, return_exceptions=True))[0]
        if isinstance(spent, list):
            record([storable(c) for c in spent])
        raise
    except Exception as error:  # an expert's bug must not take the query's other experts down
        log.exception("expert %s raised", expert.card.name)
        completions = [failed(call, error) for call in calls]
    completions = [storable(c) for c in completions]
    record(completions)
    return completions


def storable(completion: Completion) -> Completion:
    """The completion itself, or a failed one in the place of what no ledger can hold: it would take
    the rest of its batch with it."""
    usage = completion.usage
    tokens = usage.input_tokens, usage.output_tokens, completion.n_batch
    money_and_time = completion.cost_usd, completion.latency_s, completion.load_s
    try:
        for text in (completion.text, completion.answer, completion.error or ""):
            encodable(text)
        if not all(0 <= n <= _MOST_TOKENS for n in tokens):
            raise ValueError(f"it counts {usage.input_tokens} and {usage.output_tokens} tokens")
        if not all(0 <= x < math.inf for x in money_and_time):
            raise ValueError(f"it costs {completion.cost_usd} $ and took {completion.latency_s} s")
    except ValueError as error:
        log.error("expert %s: a completion is no good: %s", completion.call.arm, error)
        return failed(completion.call, error)
    if completion.logprob is not None and not math.isfinite(completion.logprob):
        return replace(completion, logprob=None)
    return completion


def _patience_s(calls: Sequence[Call]) -> float | None:
    """How long a batch may take; experts keep timeouts themselves, so they get a little more."""
    timeouts = [c.timeout_s for c in calls]
    known = [t for t in timeouts if t is not None]
    return max(known) + _GRACE_S if len(known) == len(timeouts) else None


def _late(completion: Completion) -> Completion:
    return replace(
        completion,
        finish_reason="error",
        error=completion.error or "no answer within the time that the call allowed",
        error_code="timeout",
    )


def failed(call: Call, error: Exception) -> Completion:
    """The completion of a call whose expert raised."""
    return Completion(
        call=call,
        finish_reason="error",
        error=f"{type(error).__name__}: {error}",
        error_code="failed",
    )
