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
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from experts.answers import extract_answer
from experts.cards import ExpertCard
from experts.local.decode import decode
from experts.local.row import Row
from experts.values import Call, Completion, Delta, Usage

log = logging.getLogger(__name__)

MAX_ROWS = 256
"""Rows decoded together; bounds memory, not speed: steps of tiny models are mostly overhead."""


class LocalExpert:
    """A causal LM in a local folder (config, safetensors, tokenizer with a chat template)."""

    def __init__(
        self, card: ExpertCard, folder: Path, *, device: str = "cpu", worker: ThreadPoolExecutor
    ) -> None:
        self._card, self._folder, self._device, self._worker = card, folder, device, worker
        self._model: Any = None
        self._tokenizer: Any = None
        self._end_ids: frozenset[int] = frozenset()

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def load(self) -> float:
        """Load now rather than at the first call; returns the seconds it took, 0 if it was there.

        The caller puts them on the books: no call will.
        """
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._load)

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
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
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()

        def tell(delta: Delta) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, delta)

        asked = time.perf_counter()
        work = loop.run_in_executor(self._worker, self._run, [call], asked, stop, tell)
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (delta := await queue.get()) is not None:
                yield delta
            yield (await work)[0]
        finally:
            stop.set()

    # Everything below runs in the worker thread.

    def _load(self) -> float:
        """Seconds that loading took; 0 when the model was there already."""
        if self._model is not None:
            return 0.0
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        started = time.perf_counter()
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
        self._model = model.to(self._device).eval()
        end = model.generation_config.eos_token_id
        ends: Iterable[int] = end if isinstance(end, list) else [end]
        self._end_ids = frozenset(i for i in (*ends, self._tokenizer.eos_token_id) if i is not None)
        return time.perf_counter() - started

    def _run(
        self,
        calls: list[Call],
        asked: float,
        stop: threading.Event,
        tell: Callable[[Delta], None] | None,
    ) -> list[Completion]:
        try:
            load_s = self._load()
        except Exception as error:  # any broken folder: files, config, tokenizer, weights
            log.warning("expert %s cannot be loaded: %s", self._card.name, error)
            return [
                self._failed(c, f"cannot load {self._folder.name}: {error}", asked) for c in calls
            ]
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
        rows = [
            Row(
                call,
                self._encode(call),
                self._detokenize,
                deadline=None if call.timeout_s is None else asked + call.timeout_s,
            )
            for call in calls
        ]
        going = [r for r in rows if len(r.prompt) < self._card.context_tokens]
        error: str | None = None
        try:
            if going:
                self._decode(going, stop, tell)
        except Exception as problem:  # out of memory, a device that went away, ...
            log.exception("expert %s failed while decoding", self._card.name)
            error = f"{type(problem).__name__}: {problem}"
        elapsed = time.perf_counter() - asked
        completions = []
        for i, row in enumerate(rows):
            load = load_s if i == 0 else 0.0
            if len(row.prompt) >= self._card.context_tokens:
                completions.append(self._too_long(row, load, elapsed))
            else:
                completions.append(self._finished(row, load, elapsed, error))
        return completions

    def _decode(
        self, rows: list[Row], stop: threading.Event, tell: Callable[[Delta], None] | None
    ) -> None:
        room = self._card.context_tokens
        samplings = [
            replace(
                r.call.sampling,
                max_tokens=min(r.call.sampling.max_tokens, room - len(r.prompt)),
            )
            for r in rows
        ]
        steps = decode(
            self._model,
            [r.prompt for r in rows],
            samplings,
            end_ids=self._end_ids,
            pad_id=self._tokenizer.pad_token_id or 0,
        )
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
                    row.take(token.token_id, token.logprob, is_end=token.token_id in self._end_ids)
                    if tell and (delta := row.new_text()):
                        tell(delta)
                if all(row.done for row in rows):
                    break
        for row in rows:
            row.end_at_length()
            if tell and (delta := row.new_text()):
                tell(delta)

    def _detokenize(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _encode(self, call: Call) -> list[int]:
        """Token ids of the chat. What looks like a special token in a message must not act as one:
        it is cut out, or anyone could speak as the system by typing its mark."""
        special = self._tokenizer.all_special_tokens
        messages = [
            {"role": m.role, "content": _without(m.content, special)} for m in call.messages
        ]
        text = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _finished(self, row: Row, load_s: float, elapsed: float, error: str | None) -> Completion:
        if row.timed_out and not error:
            error = f"no answer within {row.call.timeout_s:g} s"
        return Completion(
            call=row.call,
            text=row.text,
            answer=extract_answer(row.text),
            usage=row.usage,
            cost_usd=self._card.prices.cost_usd(row.usage, load_s),
            latency_s=elapsed,
            load_s=load_s,
            logprob=row.logprob,
            finish_reason="error" if error else row.finish_reason,
            error=error,
            error_code=("timeout" if row.timed_out else "failed") if error else None,
        )

    def _too_long(self, row: Row, load_s: float, elapsed: float) -> Completion:
        return Completion(
            call=row.call,
            cost_usd=self._card.prices.cost_usd(Usage(), load_s),
            latency_s=elapsed,
            load_s=load_s,
            finish_reason="error",
            error=(
                f"{len(row.prompt)} tokens of conversation; {self._card.name} reads "
                f"{self._card.context_tokens}, answer included"
            ),
            error_code="context_too_long",
        )

    def _failed(self, call: Call, error: str, asked: float) -> Completion:
        return Completion(
            call=call,
            latency_s=time.perf_counter() - asked,
            finish_reason="error",
            error=error,
            error_code="failed",
        )


def _without(text: str, marks: Sequence[str]) -> str:
    for mark in marks:
        text = text.replace(mark, " ")
    return text
