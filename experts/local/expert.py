"""Hugging Face causal LMs answering in this process, on CPU or GPU.

One worker thread does all the computing, so that the event loop stays free and two models never
fight for the same cores. Calls of one batch are decoded together; a stream is a batch of one that
is told about each token. Loading happens at the first call and is charged to it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from experts.cards import ExpertCard
from experts.local.brain import Brain, LocalBrain, Put
from experts.local.row import Row
from experts.tool_calls import final_answer, tools_of
from experts.tool_formats import ToolFormat
from experts.values import Call, Completion, Delta, LoadOutlook, failed_completion

log = logging.getLogger(__name__)

MAX_ROWS = 256
"""Rows decoded together; bounds memory, not speed: steps of tiny models are mostly overhead."""


class InProcessExpert:
    """A brain that answers in this process."""

    def __init__(self, card: ExpertCard, brain: Brain, *, worker: ThreadPoolExecutor) -> None:
        self._card, self._brain, self._worker = card, brain, worker
        self._loaded = False
        self._n_waiting = 0

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def load(self) -> float:
        """Load now rather than at the first call; returns the seconds it took, 0 if it was there.

        The caller puts them on the books: no call will.
        """
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._load)

    def load_outlook(self) -> LoadOutlook | None:
        """It is loaded once, at the first call, and stays. How long that takes the ledger knows."""
        if self._loaded:
            return None
        return LoadOutlook(load_s=None, n_waiting=self._n_waiting)

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        self._n_waiting += len(calls)
        try:
            return await self._completed(calls)
        finally:
            self._n_waiting -= len(calls)

    async def _completed(self, calls: Sequence[Call]) -> list[Completion]:
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        asked = time.perf_counter()
        work = loop.run_in_executor(self._worker, self._run, list(calls), asked, stop, None)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()  # a thread cannot be cancelled: it looks at this before every token
            return await work

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()  # None: no more deltas

        def tell(delta: Delta) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, delta)

        asked = time.perf_counter()
        # Where tools are at hand, its words may turn out to be a call.
        shown = None if tools_of(call.sampling.extra) else tell
        work = loop.run_in_executor(self._worker, self._run, [call], asked, stop, shown)
        work.add_done_callback(lambda _: queue.put_nowait(None))
        self._n_waiting += 1
        try:
            while (delta := await _next(queue, stop)) is not None:
                yield delta
            yield (await work)[0]
        finally:
            self._n_waiting -= 1
            stop.set()

    # Everything below runs in the worker thread.

    def _load(self) -> float:
        """Seconds that loading took; 0 when the model was there already."""
        if self._loaded:
            return 0.0
        self._brain.prepare()
        started = time.perf_counter()
        self._brain.load()
        self._loaded = True
        return time.perf_counter() - started

    def _run(
        self,
        calls: list[Call],
        asked: float,
        stop: threading.Event,
        tell: Callable[[Delta], None] | None,
    ) -> list[Completion]:
        if all(_given_up(c, asked, stop) for c in calls):  # nobody waits: do not even load
            return [self._given_up(c, asked) for c in calls]
        try:
            load_s = self._load()
        except Exception as error:  # any broken folder: files, config, tokenizer, weights
            log.warning("expert %s cannot be loaded: %s", self._card.name, error)
            said, waited_s = f"cannot load {self._card.name}: {error}", _since(asked)
            return [failed_completion(c, said, latency_s=waited_s) for c in calls]
        done: list[Completion] = []
        for i in range(0, len(calls), MAX_ROWS):
            done += self._run_batch(calls[i : i + MAX_ROWS], asked, load_s, stop, tell)
            load_s = 0.0
        return done

    def _run_batch(
        self,
        calls: list[Call],
        asked: float,
        load_s: float,
        stop: threading.Event,
        tell: Callable[[Delta], None] | None,
    ) -> list[Completion]:
        done: dict[int, Completion] = {}
        rows: dict[int, tuple[Put, Row]] = {}
        for i, call in enumerate(calls):
            if _given_up(call, asked, stop):
                done[i] = self._given_up(call, asked)
                continue
            try:
                put = self._brain.put(call)
            except Exception as problem:  # no chat template, or one that refuses these roles
                said = f"cannot be put to this model: {problem}"
                done[i] = failed_completion(call, said, latency_s=_since(asked))
                continue
            if put.n_context >= self._card.context_tokens:
                done[i] = self._too_long(call, put.n_context, asked)
                continue
            deadline = None if call.timeout_s is None else asked + call.timeout_s
            rows[i] = put, Row(call, put.n_read, put.detokenize, deadline=deadline)
        error: str | None = None
        try:
            if rows:
                self._decode(list(rows.values()), stop, tell)
        except Exception as problem:  # out of memory, a device that went away, ...
            log.exception("expert %s failed while decoding", self._card.name)
            error = f"{type(problem).__name__}: {problem}"
        for i, (put, row) in rows.items():
            done[i] = self._finished(put, row, asked, error, n_batch=len(rows))
        completions = [done[i] for i in range(len(calls))]
        return [self._with_load(completions[0], load_s), *completions[1:]]

    def _decode(
        self,
        batch: list[tuple[Put, Row]],
        stop: threading.Event,
        tell: Callable[[Delta], None] | None,
    ) -> None:
        room = self._card.context_tokens
        samplings = [
            replace(
                put.call.sampling,
                max_tokens=min(put.call.sampling.max_tokens, room - put.n_context),
            )
            for put, _ in batch
        ]
        steps = self._brain.decode([put for put, _ in batch], samplings)
        rows = [row for _, row in batch]
        with closing(steps):
            for step in steps:
                now = time.perf_counter()
                for row in rows:
                    if stop.is_set():
                        row.cancel()
                    elif row.deadline is not None and now > row.deadline:
                        row.cancel(timed_out=True)
                for token in step:
                    row = rows[token.row]
                    if row.done:  # ended by a stop sequence while others of its batch go on
                        continue
                    is_end = token.token_id in batch[token.row][0].end_ids
                    row.take(token.token_id, token.logprob, is_end=is_end, own_odds=token.own_odds)
                    if tell and (delta := row.new_text()):
                        tell(delta)
                if all(row.done for row in rows):
                    break
        for row in rows:
            row.end_at_length()
            if tell and (delta := row.new_text()):
                tell(delta)

    def _finished(
        self, put: Put, row: Row, asked: float, error: str | None, n_batch: int
    ) -> Completion:
        if row.timed_out and not error:
            error = _no_answer_within(row.call)
        text, tool_calls = self._brain.read(row.text, row.call)
        return Completion(
            call=row.call,
            text=text,
            answer=final_answer(text, tool_calls),
            tool_calls=tool_calls,
            usage=row.usage,
            cost_usd=put.cost_usd(row.ids),
            latency_s=(row.ended_at or time.perf_counter()) - asked,
            n_batch=n_batch,
            logprob=row.logprob,
            own_odds=row.own_odds,
            finish_reason="error" if error else row.reason_beside(tool_calls),
            error=error,
            error_code=("timeout" if row.timed_out else "failed") if error else None,
        )

    def _with_load(self, completion: Completion, load_s: float) -> Completion:
        cost = completion.cost_usd + self._card.prices.load_usd_per_s * load_s
        return replace(completion, load_s=load_s, cost_usd=cost)

    def _too_long(self, call: Call, n_tokens: int, asked: float) -> Completion:
        error = (
            f"{n_tokens} tokens of conversation; {self._card.name} reads "
            f"{self._card.context_tokens}, answer included"
        )
        return failed_completion(call, error, "context_too_long", latency_s=_since(asked))

    def _given_up(self, call: Call, asked: float) -> Completion:
        if _timed_out(call, asked):
            said = _no_answer_within(call)
            return failed_completion(call, said, "timeout", latency_s=_since(asked))
        return Completion(call=call, latency_s=_since(asked), finish_reason="cancelled")


class LocalExpert(InProcessExpert):
    """A causal LM in a local folder (config, safetensors, tokenizer with a chat template)."""

    def __init__(
        self,
        card: ExpertCard,
        folder: Path,
        *,
        device: str = "cpu",
        worker: ThreadPoolExecutor,
        tool_format: ToolFormat | None = None,
        scorer: Path | None = None,
    ) -> None:
        """scorer: folder of one for this model (``experts.scoring``)."""
        brain = LocalBrain(
            folder, card.prices, device=device, tool_format=tool_format, scorer=scorer
        )
        super().__init__(card, brain, worker=worker)


async def _next(queue: asyncio.Queue[Delta | None], stop: threading.Event) -> Delta | None:
    """The next delta; None when there is none, or when the caller has given up waiting."""
    try:
        return await queue.get()
    except asyncio.CancelledError:
        stop.set()
        return None


def _since(asked: float) -> float:
    return time.perf_counter() - asked


def _timed_out(call: Call, asked: float) -> bool:
    return call.timeout_s is not None and _since(asked) > call.timeout_s


def _given_up(call: Call, asked: float, stop: threading.Event) -> bool:
    return stop.is_set() or _timed_out(call, asked)


def _no_answer_within(call: Call) -> str:
    return f"no answer within {call.timeout_s:g} s"
