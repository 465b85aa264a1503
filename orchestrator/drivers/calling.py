"""Making calls: grouped by expert, with failures contained and every cent reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from experts.expert import Expert
from experts.values import Call, Completion

log = logging.getLogger(__name__)

Experts = Mapping[str, Expert]
Recorder = Callable[[Sequence[Completion]], None]
"""Told of every completion as soon as it is there: what was paid is recorded before it is used."""


def record_nothing(completions: Sequence[Completion]) -> None:
    """For replay and tests."""


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
        completions = await asyncio.shield(work)
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


def failed(call: Call, error: Exception) -> Completion:
    """The completion of a call whose expert raised."""
    return Completion(
        call=call,
        finish_reason="error",
        error=f"{type(error).__name__}: {error}",
        error_code="failed",
    )
