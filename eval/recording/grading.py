"""Grading recorded answers: by text, by running code, or by a judge, whose calls are charged.

What a verdict depends on (grader, right answers, judge) is in its source, so that an answer is
graded again when one of them has changed and never otherwise: code takes seconds, judges money.
Graders that ask nobody run in threads, because code and patterns may take their time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from eval.graders import Case, Judging, check_reference, judge_grader, needs_judge, run_judgings
from eval.graders.code import best_walls
from eval.questions import Question
from experts.errors import ConfigError, DataError
from experts.expert import Expert, Pool
from experts.values import Arm, Call, Completion, Limits
from orchestrator.ledger import Ledger, Verdict

_JUDGED_TOGETHER = 64
_BYTES_PER_TOKEN = 4
"""Of an answer that is yet to come, to say beforehand what judging it may cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """An answer in the ledger, to be graded."""

    call_id: int
    completion: Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """An expert that grades, under the name by which it was asked for."""

    arm: Arm
    expert: Expert


def says_something(completion: Completion) -> bool:
    """Whether a call says what the expert knows: it did not fail, and was not stopped.

    A question that an expert cannot read, or refuses, is one that it gets wrong, today and
    tomorrow.
    """
    if is_unread(completion):
        return True
    return completion.ok and completion.finish_reason != "cancelled"


def is_unread(completion: Completion) -> bool:
    """Whether the question was too long for the expert, or is refused by its content filter."""
    return completion.error_code in ("context_too_long", "refused")


class Grading:
    """Grades answers to a set of questions."""

    def __init__(
        self, questions: Mapping[str, Question], ledger: Ledger, judge: Judge | None = None
    ) -> None:
        """questions: by query id. Raises, before anything is paid, ConfigError where a judge is
        needed and missing, DataError for a reference that its grader cannot use, and UserError
        where code is to be run and cannot be."""
        self._questions, self._ledger, self._judge = questions, ledger, judge
        graders = {q.grader.partition("(")[0].strip() for q in questions.values()}
        if "code" in graders:
            best_walls()
        for question in questions.values():
            if needs_judge(question.grader) and judge is None:
                raise _no_judge(question.grader)
        with _threads() as run:  # tests for code are tried out
            for _ in run.map(_check, questions.values()):
                pass  # the first error is raised
        self.judge_usd = 0.0
        """What judging has cost so far."""

    @property
    def _the_judge(self) -> Judge:
        if self._judge is None:
            raise _no_judge("judge")
        return self._judge

    def source(self, query_id: str) -> str:
        """Of verdicts on answers to a question: grader and a digest of all that they depend on."""
        question = self._questions[query_id]
        depends: list[object] = [question.right_answers]
        if needs_judge(question.grader):
            depends += [str(self._the_judge.arm), self._the_judge.expert.card.version]
        digest = hashlib.blake2b(json.dumps(depends).encode(), digest_size=6).hexdigest()
        return f"grader:{question.grader}#{digest}"

    async def grade(
        self, answered: Sequence[Answered], budget_usd: float | None = None
    ) -> list[Answered]:
        """Grade and put the verdicts into the ledger; returns what could not be graded: nothing
        but judges can fail, or be too dear for what is left of the budget."""
        by_judge = [a for a in answered if self._needs_judge(a)]
        for_free = [a for a in answered if not self._needs_judge(a)]
        scores = await self._without_judge(for_free)
        self._keep(for_free, scores)
        left: list[Answered] = []
        while by_judge:
            now = self._affordable(by_judge, budget_usd)
            if not now:
                return left + by_judge
            by_judge = by_judge[len(now) :]
            spent = self.judge_usd
            judged = await self._by_judge(now, budget_usd)
            self._keep(now, judged)
            left += [a for a, score in zip(now, judged, strict=True) if score is None]
            if budget_usd is not None:
                budget_usd -= self.judge_usd - spent
        return left

    def most_usd(self, call: Call) -> float:
        """About the most that judging the answer to a call costs; 0 where nobody is asked. The
        answer is taken to be as long as it may be."""
        question = self._questions[call.query_id]
        if not needs_judge(question.grader):
            return 0.0
        return self._judging_most_usd(question, "x" * _BYTES_PER_TOKEN * call.sampling.max_tokens)

    def _keep(self, answered: Sequence[Answered], scores: Sequence[float | None]) -> None:
        self._ledger.add_verdicts(
            Verdict(call_id=a.call_id, score=score, source=self.source(a.completion.call.query_id))
            for a, score in zip(answered, scores, strict=True)
            if score is not None
        )

    def _needs_judge(self, a: Answered) -> bool:
        return not is_unread(a.completion) and needs_judge(self._question(a).grader)

    def _question(self, a: Answered) -> Question:
        return self._questions[a.completion.call.query_id]

    async def _without_judge(self, answered: Sequence[Answered]) -> list[float]:
        loop = asyncio.get_running_loop()
        with _threads() as run:
            return await asyncio.gather(
                *(loop.run_in_executor(run, _score, self._question(a), a) for a in answered)
            )

    async def _by_judge(
        self, answered: Sequence[Answered], budget_usd: float | None
    ) -> list[float | None]:
        expert = self._the_judge.expert

        def record(completions: Sequence[Completion]) -> None:
            self._ledger.add_calls(
                completions,
                [None] * len(completions),
                versions={expert.card.name: expert.card.version},
            )
            self.judge_usd += sum(c.cost_usd for c in completions)

        share = None if budget_usd is None else budget_usd / len(answered)
        judgements = await run_judgings(
            [self._judging(self._question(a), a.completion.text) for a in answered],
            {expert.card.name: expert},
            record,
            limits=Limits(max_cost_usd=share),
            pool=Pool.of([expert]),
        )
        return [j.score for j in judgements]

    def _judging(self, question: Question, answer: str) -> Judging:
        case = Case(
            query_id=question.query_id,
            question=question.prompt,
            answer=answer,
            reference=question.answer
            if question.grader.startswith("checklist")  # JSON
            else " or: ".join(question.right_answers),
        )
        return judge_grader(question.grader)(case, self._the_judge.arm)

    def _affordable(
        self, answered: Sequence[Answered], budget_usd: float | None
    ) -> Sequence[Answered]:
        """So many that the dearest of them could be all of them, since they share evenly."""
        now = answered[:_JUDGED_TOGETHER]
        if budget_usd is None:
            return now
        dearest = 0.0
        for n, a in enumerate(now):
            most = self._judging_most_usd(self._question(a), a.completion.text)
            dearest = max(dearest, most)
            if dearest * (n + 1) > budget_usd:
                return now[:n]
        return now

    def _judging_most_usd(self, question: Question, answer: str) -> float:
        """Of its first wave of calls, times the waves' worth of calls that may follow."""
        judging = self._judging(question, answer)
        first = next(judging)
        judging.close()
        waves = 1
        if question.grader.startswith("checklist"):  # two short calls an item follow
            waves += len(json.loads(question.answer).get("checklist", json.loads(question.answer)))
        return waves * sum(self._the_judge.expert.card.most_usd(call) for call in first)


def _no_judge(grader: str) -> ConfigError:
    return ConfigError(
        f"The grader {grader!r} asks a model. Name the expert that is to judge: --judge NAME (of "
        "`judges:` or `experts:` in conclave.yaml)."
    )


def _check(question: Question) -> None:
    try:
        for right in question.right_answers:
            check_reference(question.grader, right)
    except DataError as error:
        raise DataError(f"Question {question.question[:60]!r}: {error}") from None


def _score(question: Question, a: Answered) -> float:
    if is_unread(a.completion):
        return 0.0
    return question.score(a.completion.text)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """A thread a core: code graders mostly wait for their sandbox."""
    pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="grading")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
