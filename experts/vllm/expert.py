"""An expert that the fleet loads when it is needed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from experts.cards import ExpertCard
from experts.local.chat_tokenizer import ChatTokenizer
from experts.local.row import Row
from experts.tool_calls import final_answer, tools_of
from experts.tool_formats import ToolFormat
from experts.values import Call, Completion, Delta, LoadOutlook, ToolCall, failed_completion
from experts.vllm.asking import Asked
from experts.vllm.extra import openai_logprobs, wants_logprobs
from experts.vllm.fleet import Fleet
from experts.vllm.job import CannotAsk, Job, Prompted, Substitute, new_request_id


class VLLMExpert:
    """Keeps the Expert protocol by putting calls into the fleet's queue."""

    def __init__(
        self,
        card: ExpertCard,
        fleet: Fleet,
        tokenizer_folder: Path,
        siblings: Mapping[str, VLLMExpert] = MappingProxyType({}),
        tool_format: ToolFormat | None = None,
    ) -> None:
        """The card's name is the model's in the fleet; the folder holds its own tokenizer and chat
        template, whatever engine it runs on. siblings: experts of the same fleet, by name, that may
        answer in its place; they may be filled in later."""
        self._card, self._fleet, self._folder = card, fleet, tokenizer_folder
        self._siblings = siblings
        self._tool_format: ToolFormat | None = tool_format
        self._tokenizer: ChatTokenizer | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> ExpertCard:
        return self._card

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def stand_ins(self) -> frozenset[str]:
        return frozenset(self._siblings) - {self._card.name}

    def load_outlook(self) -> LoadOutlook | None:
        return self._fleet.load_outlook(self._card.name)

    def expect_more(self, more: bool) -> None:
        """For all experts of its fleet: they share its policy."""
        self._fleet.expect_more(more)

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        done: dict[int, Completion] = {}
        await self.complete_each(calls, done.__setitem__)
        return [done[i] for i in range(len(calls))]

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        asked = time.perf_counter()
        made = await self.jobs(list(calls), asked)
        jobs = {i: job for i, job in enumerate(made) if isinstance(job, Job)}
        self._fleet.submit(jobs.values())
        for i, job in enumerate(made):
            if isinstance(job, Completion):
                tell(i, job)

        async def told(i: int, job: Job) -> None:
            await asyncio.wrap_future(job.done)
            tell(i, self._finished(calls[i], job, asked))

        tasks = [asyncio.create_task(told(i, job)) for i, job in jobs.items()]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:  # take the jobs back, and wait for what they have
            self._fleet.cancel(jobs.values())
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()  # None: no more deltas

        def tell(delta: Delta | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, delta)

        asked = time.perf_counter()
        [job] = await self.jobs([call], asked)
        if not isinstance(job, Job):
            yield job
            return
        # Where tools are at hand, its words may turn out to be a call.
        job.tell = None if tools_of(call.sampling.extra) else tell
        job.done.add_done_callback(lambda _: tell(None))
        self._fleet.submit([job])
        try:
            while (delta := await self._next(queue, job)) is not None:
                yield delta
            await self._until_done([job])
            yield self._finished(call, job, asked)
        finally:
            if not job.done.done():
                self._fleet.cancel([job])

    async def jobs(self, calls: list[Call], asked: float) -> list[Job | Completion]:
        """Jobs, put into tokens in a thread: templates and tokenizers take their time. Cancelled,
        nobody has been asked yet."""
        try:
            return await asyncio.to_thread(self._to_jobs, calls, asked)
        except asyncio.CancelledError:
            waited_s = time.perf_counter() - asked
            return [
                Completion(call=call, latency_s=waited_s, finish_reason="cancelled")
                for call in calls
            ]

    async def _next(self, queue: asyncio.Queue[Delta | None], job: Job) -> Delta | None:
        """The next delta; None when there is none, or when the caller has given up waiting."""
        try:
            return await queue.get()
        except asyncio.CancelledError:
            self._fleet.cancel([job])
            return None

    async def _until_done(self, jobs: Sequence[Job]) -> None:
        """Cancelled, it takes the jobs back and waits for what they have."""
        waits = [asyncio.wrap_future(job.done) for job in jobs]
        try:
            await asyncio.shield(asyncio.gather(*waits))
        except asyncio.CancelledError:
            self._fleet.cancel(jobs)
            await asyncio.gather(*waits)

    def _to_jobs(self, calls: list[Call], asked: float) -> list[Job | Completion]:
        """A job, or at once what became of the call."""
        return [self._job(call, asked) for call in calls]

    def _job(self, call: Call, asked: float) -> Job | Completion:
        try:
            own = self.prompted(call)
        except CannotAsk as problem:
            waited_s = time.perf_counter() - asked
            return failed_completion(call, problem.reason, problem.code, latency_s=waited_s)
        left_s = None
        if call.timeout_s is not None:
            left_s = max(0.0, call.timeout_s - (time.perf_counter() - asked))
        return Job(
            request_id=new_request_id(),
            own=own,
            substitutes=self._substitutes(call),
            timeout_s=left_s,
            timeout_said_s=call.timeout_s,
            caller=call.caller,
        )

    def _substitutes(self, call: Call) -> dict[str, Substitute]:
        found = {}
        for stand_in in call.stand_ins:
            other = self._siblings.get(stand_in.arm.expert)
            takes_all = other and all(n in other.card.takes for n, _ in call.sampling.extra)
            if other is not None and other is not self and takes_all:
                found[other.card.name] = Substitute(
                    loss_usd=stand_in.loss_usd, prompted=partial(other.prompted, call)
                )
        return found

    def prompted(self, call: Call) -> Prompted:
        """The call in this model's tokens. Raises CannotAsk. It loads the tokenizer where that is
        missing: seconds."""
        tokenizer = self._loaded_tokenizer()
        try:
            prompt = tokenizer.encode(call)
        except Exception as problem:  # no chat template, or one that refuses these roles
            raise CannotAsk(f"cannot be put to this model: {problem}") from None
        room = self._card.context_tokens - len(prompt)
        if room <= 0:
            raise CannotAsk(
                f"{len(prompt)} tokens of conversation; {self._card.name} reads "
                f"{self._card.context_tokens}, answer included",
                "context_too_long",
            )
        return Prompted(
            model=self._card.name,
            asked=Asked(
                prompt=tuple(prompt),
                end_ids=tokenizer.end_ids,
                max_tokens=min(call.sampling.max_tokens, room),
                sampling=call.sampling,
            ),
            new_row=lambda: Row(call, len(prompt), tokenizer.decode),
        )

    def _loaded_tokenizer(self) -> ChatTokenizer:
        with self._lock:
            try:
                if self._tokenizer is None:
                    self._tokenizer = ChatTokenizer(self._folder, self._tool_format)
            except Exception as problem:  # transformers raises what it likes
                raise CannotAsk(f"cannot load the tokenizer in {self._folder}: {problem}") from None
            return self._tokenizer

    def _finished(self, call: Call, job: Job, asked: float) -> Completion:
        by = self if job.present.model == self._card.name else self._siblings[job.present.model]
        arms = {s.arm.expert: s.arm for s in call.stand_ins} | {self._card.name: call.arm}
        row, usage = job.row, job.usage
        cost_usd = by.card.prices.cost_usd(usage, job.load_s)
        wants_tokens = wants_logprobs(call.sampling.extra) and job.is_counted and not job.error
        # An answer was put into tokens by this one's tokenizer, so that is loaded.
        text, tool_calls = by.read(row.text, call) if row.text else ("", ())
        return Completion(
            call=call if by is self else replace(call, arm=arms[by.card.name]),
            stood_in_for=None if by is self else call.arm,
            text=text,
            answer=final_answer(text, tool_calls),
            tool_calls=tool_calls,
            usage=usage,
            cost_usd=cost_usd,
            load_s=job.load_s,
            latency_s=(row.ended_at or time.perf_counter()) - asked,
            n_batch=job.n_batch,
            logprob=row.logprob if job.is_counted else None,
            token_logprobs=by.token_logprobs(job) if wants_tokens else None,
            finish_reason="error" if job.error else row.reason_beside(tool_calls),
            error=job.error,
            error_code=job.error_code,
        )

    def read(self, text: str, call: Call) -> tuple[str, tuple[ToolCall, ...]]:
        """What it said to a call that it was given: text, and functions to be called."""
        return self._loaded_tokenizer().read(text, call)

    def token_logprobs(self, job: Job) -> str:
        """Of each token that it said; OpenAI's list, as JSON."""
        return openai_logprobs(job.tokens, self._loaded_tokenizer().decode_all)
