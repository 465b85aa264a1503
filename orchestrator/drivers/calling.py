"""Making calls: grouped by expert, with failures contained and every cent reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from experts.expert import Expert
from experts.values import Call, Completion

log = logging.getLogger(__name__)

_GRACE_S = 2.0

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
            record(spent)
        raise
    except Exception as error:  # an expert's bug must not take the query's other experts down
        log.exception("expert %s raised", expert.card.name)
        completions = [failed(call, error) for call in calls]
    record(completions)
    return completions


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
