"""Making calls: grouped by expert, with failures contained and every cent reported."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeGuard

from experts.expert import Expert, TellingExpert
from experts.values import Call, Completion, encodable, failed_completion
from orchestrator.drivers.till import NO_TILL, Till

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
    calls: Sequence[Call], experts: Experts, record: Recorder, till: Till = NO_TILL
) -> list[Completion]:
    """Make the calls, one batch an expert, experts side by side; completions in the calls' order.
    Those that ``till`` refuses come back as failed, unasked and unrecorded.

    Cancelling it stops the experts and records what they spent.
    """
    groups: dict[str, list[int]] = {}
    for i, call in enumerate(calls):
        groups.setdefault(call.arm.expert, []).append(i)
    if len(groups) == 1:  # most steps: no task is made for it
        [name] = groups
        return await ask_batch(experts[name], calls, record, till=till)
    batches = [
        ask_batch(experts[name], [calls[i] for i in rows], record, till=till)
        for name, rows in groups.items()
    ]
    done: dict[int, Completion] = {}
    for rows, completions in zip(groups.values(), await asyncio.gather(*batches), strict=True):
        done.update(zip(rows, completions, strict=True))
    return [done[i] for i in range(len(calls))]


async def ask_batch(
    expert: Expert,
    calls: Sequence[Call],
    record: Recorder,
    hear: Hear = lambda done: None,
    till: Till = NO_TILL,
) -> list[Completion]:
    """One expert's completions, in the calls' order. Each is recorded, and then heard of, as soon
    as the expert gives it: one by one where it tells them so. Those that ``till`` refuses are heard
    of and not recorded: nobody was asked.

    Cancelling it stops the expert and records what it spent. Raises what ``record`` or ``hear``
    raise, and nothing of the expert's own.
    """
    refused = await till.reserve(calls)
    if not refused:
        return await _ask_reserved(expert, calls, record, hear, till)
    done = {i: failed_completion(calls[i], why, "over_budget") for i, why in refused.items()}
    hear(list(done.items()))
    kept = [i for i in range(len(calls)) if i not in refused]
    if kept:
        completions = await _ask_reserved(
            expert,
            [calls[i] for i in kept],
            record,
            lambda told: hear([(kept[i], completion) for i, completion in told]),
            till,
        )
        done.update(zip(kept, completions, strict=True))
    return [done[i] for i in range(len(calls))]


async def _ask_reserved(
    expert: Expert, calls: Sequence[Call], record: Recorder, hear: Hear, till: Till
) -> list[Completion]:
    batch = _Batch(calls, record, hear, till)
    try:
        return await _ask(expert, calls, batch)
    finally:
        batch.settle_rest()


async def _ask(expert: Expert, calls: Sequence[Call], batch: _Batch) -> list[Completion]:
    problem: BaseException | None = None
    # In the caller's own task: to make one, and to wait for it, costs as much as all else in a
    # step. An expert that is cancelled gives its bill and returns, as if nothing had happened, so
    # whether somebody wanted that is asked of the task.
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("Experts are asked within a task of asyncio.")
    n_cancelled = task.cancelling()
    alarm = _alarm(task, batch, _patience_s(calls))
    try:
        await _asked(expert, calls, batch.take)
    except (Exception, asyncio.CancelledError) as error:
        problem = error
    finally:
        if alarm is not None:
            alarm.cancel()
    if batch.is_late:  # an expert that does not keep its calls' timeouts
        task.uncancel()
        problem = TimeoutError(f"no answer within {_patience_s(calls):g} s")
    if task.cancelling() > n_cancelled:
        raise asyncio.CancelledError
    if batch.broken is not None:
        raise batch.broken
    if problem is not None and not batch.is_late:
        # An expert's bug must not take the query's other experts down.
        log.error("expert %s raised", expert.card.name, exc_info=problem)
    if missing := batch.missing:
        problem = problem or RuntimeError("the expert gave no completion")
        batch.take([(i, failed_completion(calls[i], said(problem))) for i in missing])
    return [batch.done[i] for i in range(len(calls))]


def _alarm(
    task: asyncio.Task[Any], batch: _Batch, patience_s: float | None
) -> asyncio.TimerHandle | None:
    """Cancels the task when patience is at its end."""
    if patience_s is None:
        return None

    def ring() -> None:
        batch.is_late = True
        task.cancel()

    return asyncio.get_running_loop().call_later(patience_s, ring)


def tells_each(expert: Expert) -> TypeGuard[TellingExpert]:
    """Whether it tells of every call as it ends."""
    return _tells_each(type(expert))


@cache  # looking a protocol up takes as long as the rest of a step
def _tells_each(kind: type[Expert]) -> bool:
    return issubclass(kind, TellingExpert)


class _Batch:
    """Completions of one batch as they come."""

    def __init__(self, calls: Sequence[Call], record: Recorder, hear: Hear, till: Till) -> None:
        self._calls, self._n, self._record, self._hear = calls, len(calls), record, hear
        self._till, self._settled = till, set[int]()
        self.done: dict[int, Completion] = {}
        self.is_late = False
        """What comes from now on comes too late."""
        self.broken: Exception | None = None
        """What recording or hearing raised: no fault of the expert's, and not to be hidden."""

    @property
    def missing(self) -> list[int]:
        done = self.done
        return [] if len(done) == self._n else [i for i in range(self._n) if i not in done]

    def take(self, told: Sequence[Numbered]) -> None:
        fresh = [(i, storable(c)) for i, c in told if i not in self.done]
        if self.is_late:
            fresh = [(i, _late(c)) for i, c in fresh]
        if not fresh:
            return
        for i, completion in fresh:  # before anything can go wrong: it is spent
            self._settle(i, completion)
        try:
            self._record([completion for _, completion in fresh])
            self.done.update(fresh)
            self._hear(fresh)
        except Exception as error:
            self.broken = error
            raise

    def settle_rest(self) -> None:
        """Those that nobody told of were not made, as far as anybody knows."""
        for i in range(self._n):
            self._settle(i, None)

    def _settle(self, i: int, completion: Completion | None) -> None:
        if i not in self._settled:
            self._settled.add(i)
            self._till.settle(self._calls[i], completion)


async def _asked(expert: Expert, calls: Sequence[Call], take: Hear) -> None:
    if tells_each(expert):
        await expert.complete_each(calls, lambda i, completion: take([(i, completion)]))
    else:
        take(list(enumerate(await expert.complete(calls))))


def storable(completion: Completion) -> Completion:
    """The completion itself, or a failed one in the place of what no ledger can hold: it would take
    the rest of its batch with it. What was paid stays on the bill where its numbers are sound."""
    try:
        _check_numbers(completion)
    except ValueError as error:
        return _no_good(completion, error)
    try:
        _check_texts(completion)
    except ValueError as error:
        return replace(
            _no_good(completion, error),
            usage=completion.usage,
            cost_usd=completion.cost_usd,
            latency_s=completion.latency_s,
            load_s=completion.load_s,
            n_batch=completion.n_batch,
        )
    if not (_is_storable(completion.logprob) and _is_storable(completion.own_odds)):
        return replace(
            completion,
            logprob=completion.logprob if _is_storable(completion.logprob) else None,
            own_odds=completion.own_odds if _is_storable(completion.own_odds) else None,
        )
    return completion


def _is_storable(number: float | None) -> bool:
    return number is None or math.isfinite(number)


def _check_numbers(completion: Completion) -> None:
    """Raises ValueError."""
    usage = completion.usage
    for n in (usage.input_tokens, usage.output_tokens, usage.cached_tokens, completion.n_batch):
        if not 0 <= n <= _MOST_TOKENS:
            raise ValueError(f"it counts {usage.input_tokens} and {usage.output_tokens} tokens")
    for x in (completion.cost_usd, completion.latency_s, completion.load_s):
        if not 0 <= x < math.inf:
            raise ValueError(f"it costs {completion.cost_usd} $ and took {completion.latency_s} s")


def _check_texts(completion: Completion) -> None:
    """Raises ValueError."""
    for text in (completion.text, completion.answer, completion.error or ""):
        encodable(text)
    for call in completion.tool_calls:
        encodable(call.id + call.name + call.arguments)


def _no_good(completion: Completion, error: ValueError) -> Completion:
    log.error("expert %s: a completion is no good: %s", completion.call.arm, error)
    lost = failed_completion(completion.call, said(error))
    return replace(lost, stood_in_for=completion.stood_in_for)


def _patience_s(calls: Iterable[Call]) -> float | None:
    """How long a batch may take; experts keep timeouts themselves, so they get a little more."""
    longest_s = 0.0
    for call in calls:
        if call.timeout_s is None:
            return None
        longest_s = max(longest_s, call.timeout_s)
    return longest_s + _GRACE_S


def _late(completion: Completion) -> Completion:
    return replace(
        completion,
        finish_reason="error",
        error=completion.error or "no answer within the time that the call allowed",
        error_code="timeout",
    )


def said(error: BaseException) -> str:
    """What an expert raised, in one line."""
    return f"{type(error).__name__}: {error}"
