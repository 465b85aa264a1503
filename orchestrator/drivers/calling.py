"""Making calls: grouped by expert, with failures contained and every cent reported."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from experts.expert import Expert, TellingExpert
from experts.values import Call, Completion, encodable

log = logging.getLogger(__name__)

_GRACE_S = 2.0
_MOST_TOKENS = 2**53
"""What SQLite and JSON hold exactly; no model reads as many."""

Experts = Mapping[str, Expert]
Recorder = Callable[[Sequence[Completion]], None]
"""Told of every completion as soon as it is there: what was paid is recorded before it is used."""
Numbered = tuple[int, Completion]
"""A call's place in its batch, and what became of it."""
Hear = Callable[[Sequence[Numbered]], None]


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
        ask_batch(experts[name], [calls[i] for i in rows], record) for name, rows in groups.items()
    ]
    done: dict[int, Completion] = {}
    for rows, completions in zip(groups.values(), await asyncio.gather(*batches), strict=True):
        done.update(zip(rows, completions, strict=True))
    return [done[i] for i in range(len(calls))]


async def ask_batch(
    expert: Expert, calls: Sequence[Call], record: Recorder, hear: Hear = lambda done: None
) -> list[Completion]:
    """One expert's completions, in the calls' order. Each is recorded, and then heard of, as soon
    as the expert gives it: one by one where it tells them so.

    Cancelling it stops the expert and records what it spent. Raises what ``record`` or ``hear``
    raise, and nothing of the expert's own.
    """
    batch = _Batch(calls, record, hear)
    work = asyncio.ensure_future(_asked(expert, calls, batch.take))
    problem: Exception | None = None
    try:
        await asyncio.wait([work], timeout=_patience_s(calls))
        if not work.done():  # an expert that does not keep its calls' timeouts
            problem = TimeoutError(f"no answer within {_patience_s(calls):g} s")
            batch.is_late = True
            await _stopped(work)
        work.result()
    except asyncio.CancelledError:
        await _stopped(work)
        if problem is None:  # ourselves, and not the work that came too late
            raise
    except Exception as error:  # an expert's bug must not take the query's other experts down
        if batch.broken is None and problem is None:
            log.exception("expert %s raised", expert.card.name)
            problem = error
    if batch.broken is not None:
        raise batch.broken
    problem = problem or RuntimeError("the expert gave no completion")
    batch.take([(i, failed(calls[i], problem)) for i in batch.missing])
    return [batch.done[i] for i in range(len(calls))]


class _Batch:
    """Completions of one batch as they come."""

    def __init__(self, calls: Sequence[Call], record: Recorder, hear: Hear) -> None:
        self._n, self._record, self._hear = len(calls), record, hear
        self.done: dict[int, Completion] = {}
        self.is_late = False
        """What comes from now on comes too late."""
        self.broken: Exception | None = None
        """What recording or hearing raised: no fault of the expert's, and not to be hidden."""

    @property
    def missing(self) -> list[int]:
        return [i for i in range(self._n) if i not in self.done]

    def take(self, told: Sequence[Numbered]) -> None:
        heard = [(i, storable(c)) for i, c in told if i not in self.done]
        fresh = [(i, _late(c) if self.is_late else c) for i, c in heard]
        if not fresh:
            return
        try:
            self._record([completion for _, completion in fresh])
            self.done.update(fresh)
            self._hear(fresh)
        except Exception as error:
            self.broken = error
            raise


async def _asked(expert: Expert, calls: Sequence[Call], take: Hear) -> None:
    if isinstance(expert, TellingExpert):
        await expert.complete_each(calls, lambda i, completion: take([(i, completion)]))
    else:
        take(list(enumerate(await expert.complete(calls))))


async def _stopped(work: asyncio.Future[None]) -> None:
    """Cancel the work, and wait for its bill."""
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


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
        return replace(failed(completion.call, error), stood_in_for=completion.stood_in_for)
    if completion.logprob is not None and not math.isfinite(completion.logprob):
        return replace(completion, logprob=None)
    return completion


def _patience_s(calls: Iterable[Call]) -> float | None:
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
