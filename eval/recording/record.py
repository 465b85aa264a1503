"""Recording: ask every arm every question, grade, and write it all to the ledger.

Resumable: what the ledger already holds of these weights is not asked again, and every call is
kept the moment its batch is done, so an interruption loses nothing that was paid. A budget is kept
beforehand: a batch is as large as what is left allows, were every answer as long as it may be, and
an attempt that may have been paid is not repeated. Only loading a model, whose seconds nobody knows
before, and a server that bills more tokens than it was allowed can pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.questions import GREEDY, Question
from eval.recording.grading import Answered, Grading, Judge, says_something
from experts.errors import DataError
from experts.expert import Expert, Pool
from experts.values import Arm, Call, Completion, Sampling
from orchestrator.drivers.calling import call_experts
from orchestrator.ledger import Label, Ledger, RecordedCall
from orchestrator.strategies.vote import SAMPLE_TEMPERATURE

BATCH = 256
"""Calls asked together."""
N_ALONE = 8
"""So many greedy questions of each arm, spread over all of them, are asked one by one, and last:
latency is learned from these, since calls of one batch slow each other and the first ones of a
process pay for its warming up."""

Key = tuple[str, Arm, int]
"""Query, arm, sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingProgress:
    """How far a recording is."""

    n_done: int
    n_total: int
    cost_usd: float
    """Spent in this run, judging included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingSummary:
    """What a recording did."""

    n_asked: int
    n_skipped: int
    """Already in the ledger."""
    n_failed: int
    n_ungraded: int
    """Answers that the judge did not grade; they are put to it again next time."""
    cost_usd: float
    """Judging included."""
    judge_usd: float
    stopped_by_budget: bool
    next_call_usd: float
    """The most that the call may cost for which too little was left, grading included; else 0."""
    given_up: Mapping[str, str]
    """Arms that nobody answers for, and why."""


async def record_outcomes(
    questions: Sequence[Question],
    experts: Mapping[str, Expert],
    ledger: Ledger,
    *,
    n_samples: int = 1,
    budget_usd: float | None = None,
    max_tokens: int = GREEDY.max_tokens,
    judge: Judge | None = None,
    on_progress: Callable[[RecordingProgress], None] = lambda progress: None,
) -> RecordingSummary:
    """Ask, grade and record. The first sample is greedy, further ones are drawn as votes draw
    them. Questions of one expert are asked together, so it is loaded once.

    max_tokens: of each answer. judge: the expert that grades where a question's grader asks one.
    Raises DataError for two questions of one id, an id that the ledger has for another text, or a
    reference that its grader cannot use; ConfigError where a judge is missing. All of that before
    anything is paid.
    """
    by_id = _by_id(questions)
    pool = Pool.of(experts.values())
    grading = Grading(by_id, ledger, judge)
    for question in by_id.values():
        ledger.add_query(question.query(1.0), source="record", label=_label(question))
    known = _known(ledger, pool, by_id)
    spent, n_failed, n_asked = 0.0, 0, 0
    ungraded: list[Answered] = []

    def left_usd() -> float | None:
        return None if budget_usd is None else budget_usd - spent - grading.judge_usd

    stale = [
        Answered(call_id=c.call_id, completion=c.completion)
        for c in known.values()
        if c.score is None or c.score_source != grading.source(c.completion.call.query_id)
    ]
    ungraded += await grading.grade(stale, left_usd())
    wanted = [
        (query_id, arm, sample)
        for arm in pool.arms
        for query_id in by_id
        for sample in range(n_samples)
    ]
    missing = [key for key in wanted if key not in known]
    queue = _Queue(missing)
    done: list[Answered] = []

    def keep(completions: Sequence[Completion]) -> None:
        nonlocal spent, n_failed
        ids = ledger.add_calls(completions, [None] * len(completions), versions=pool.versions)
        # Some experts tell of each call as it ends, so a batch comes in many parts.
        done.extend(
            Answered(call_id=i, completion=c) for i, c in zip(ids, completions, strict=True)
        )
        spent += sum(c.cost_usd for c in completions)
        n_failed += sum(not c.ok for c in completions)

    stopped, next_call_usd = False, 0.0
    while batch := queue.next_batch():
        calls = [
            pool.in_mode(by_id[q].call(arm, _sampling(sample, max_tokens), sample=sample))
            for q, arm, sample in batch
        ]
        n_now = _n_affordable(calls, pool, grading, left_usd())
        if not n_now:
            stopped, next_call_usd = True, _most_usd(calls[0], pool, grading)
            break
        queue.taken(n_now)
        now = calls[:n_now]
        if budget_usd is not None:  # retries stay within what was reserved
            now = [replace(c, max_cost_usd=pool.card(c.arm.expert).most_usd(c)) for c in now]
        done.clear()
        await call_experts(now, experts, keep)
        n_asked += n_now
        ungraded += await grading.grade(
            [a for a in done if says_something(a.completion)], left_usd()
        )
        if reason := _hopeless([a.completion for a in done]):
            queue.give_up(batch[0][1], reason)
        on_progress(
            RecordingProgress(
                n_done=len(wanted) - len(missing) + n_asked,
                n_total=len(wanted),
                cost_usd=spent + grading.judge_usd,
            )
        )
    return RecordingSummary(
        n_asked=n_asked,
        n_skipped=len(wanted) - len(missing),
        n_failed=n_failed,
        n_ungraded=len(ungraded),
        cost_usd=spent + grading.judge_usd,
        judge_usd=grading.judge_usd,
        stopped_by_budget=stopped,
        next_call_usd=next_call_usd,
        given_up=queue.given_up,
    )


def _by_id(questions: Sequence[Question]) -> dict[str, Question]:
    """Questions by id; the same question twice is once."""
    by_id: dict[str, Question] = {}
    for question in questions:
        other = by_id.setdefault(question.query_id, question)
        if other != question:
            raise DataError(
                f"Two questions have the id {question.query_id!r}: {other.question!r} (answer "
                f"{other.answer!r}) and {question.question!r} (answer {question.answer!r}). Give "
                "one of them another id, or take it out."
            )
    return by_id


def _label(question: Question) -> Label:
    return Label(skill=question.skill, reference=question.right_answers, split=question.split)


def _known(ledger: Ledger, pool: Pool, by_id: Mapping[str, Question]) -> dict[Key, RecordedCall]:
    """What need not be asked again: answers of the weights that the pool has now, graded or not."""
    versions = pool.versions
    return {
        (c.completion.call.query_id, c.completion.call.arm, c.completion.call.sample): c
        for c in ledger.recorded_calls()
        if c.completion.call.query_id in by_id
        and says_something(c.completion)
        and versions.get(c.completion.call.arm.expert) == c.version
    }


def _n_affordable(
    calls: Sequence[Call], pool: Pool, grading: Grading, left_usd: float | None
) -> int:
    """How many of the calls are sure to fit into what is left, their grading included: the most
    that they can cost is reserved before they are made. Loading an expert is not known before."""
    if left_usd is None:
        return len(calls)
    reserved = 0.0
    for n, call in enumerate(calls):
        reserved += _most_usd(call, pool, grading)
        if reserved > left_usd:
            return n
    return len(calls)


def _most_usd(call: Call, pool: Pool, grading: Grading) -> float:
    return pool.card(call.arm.expert).most_usd(call) + grading.most_usd(call)


def _hopeless(completions: Sequence[Completion]) -> str | None:
    """Why an expert is not to be asked any more: its key is refused, or nobody is there."""
    refused = [c.error for c in completions if c.error_code in ("auth", "unreachable")]
    return refused[0] if len(refused) == len(completions) else None


class _Queue:
    """Keys to be asked, in batches of one arm each; last a few of it alone."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._batches = list(_batches(keys))
        self.given_up: dict[str, str] = {}
        """Arms that nobody answers for, and why."""

    def next_batch(self) -> list[Key]:
        """Empty when all is done."""
        return self._batches[0] if self._batches else []

    def taken(self, n: int) -> None:
        """So many of the next batch are asked."""
        rest = self._batches[0][n:]
        self._batches[:1] = [rest] if rest else []

    def give_up(self, arm: Arm, reason: str) -> None:
        self.given_up[str(arm)] = reason
        self._batches = [b for b in self._batches if b[0][1] != arm]


def _sampling(sample: int, max_tokens: int) -> Sampling:
    return Sampling(
        seed=sample,
        temperature=SAMPLE_TEMPERATURE if sample else 0.0,
        max_tokens=max_tokens,
    )


def _batches(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Batches of one arm each, in order; then a few of it alone."""
    by_arm: dict[Arm, list[Key]] = {}
    for key in keys:
        by_arm.setdefault(key[1], []).append(key)
    for rows in by_arm.values():
        greedy = [key for key in rows if key[2] == 0]
        alone = greedy[:: max(1, len(greedy) // N_ALONE)][:N_ALONE]
        apart = set(alone)
        together = [key for key in rows if key not in apart]
        for start in range(0, len(together), BATCH):
            yield together[start : start + BATCH]
        yield from ([key] for key in alone)
