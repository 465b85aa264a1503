"""Recording: ask every arm every question, grade, and write it all to the ledger.

Resumable: what the ledger already holds of these weights is not asked again, and every call is
graded and kept the moment its batch is done, so an interruption loses nothing that was paid. A
budget stops it between batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.questions import Question
from experts.errors import DataError
from experts.expert import Expert, Pool
from experts.values import Arm, Completion, Sampling
from orchestrator.drivers.calling import call_experts
from orchestrator.ledger import Label, Ledger, RecordedCall
from orchestrator.strategies.vote import SAMPLE_TEMPERATURE

BATCH = 256
"""Calls asked together; also by how much a budget may be overshot."""
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
    """Spent in this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingSummary:
    """What a recording did."""

    n_asked: int
    n_skipped: int
    """Already in the ledger."""
    n_failed: int
    cost_usd: float
    stopped_by_budget: bool


async def record_outcomes(
    questions: Sequence[Question],
    experts: Mapping[str, Expert],
    ledger: Ledger,
    *,
    n_samples: int = 1,
    budget_usd: float | None = None,
    on_progress: Callable[[RecordingProgress], None] = lambda progress: None,
) -> RecordingSummary:
    """Ask, grade and record. The first sample is greedy, further ones are drawn as votes draw
    them. Questions of one expert are asked together, so it is loaded once.

    Raises DataError for two questions of one id, or an id that the ledger has for another text.
    """
    by_id = _by_id(questions)
    pool = Pool.of(experts.values())
    for question in by_id.values():
        ledger.add_query(question.query(1.0), source="record", label=_label(question))
    known = _known(ledger, pool)
    _regrade(ledger, [c for k, c in known.items() if k[0] in by_id], by_id)
    wanted = [
        (query_id, arm, sample)
        for arm in pool.arms
        for query_id in by_id
        for sample in range(n_samples)
    ]
    missing = [key for key in wanted if key not in known]
    spent, n_failed, n_asked = 0.0, 0, 0

    def keep(completions: Sequence[Completion]) -> None:
        nonlocal spent, n_failed
        scores = [_score(by_id[c.call.query_id], c) for c in completions]
        nobody = [None] * len(completions)
        ledger.add_calls(completions, nobody, versions=pool.versions, scores=scores)
        spent += sum(c.cost_usd for c in completions)
        n_failed += sum(not c.ok for c in completions)

    for batch in _batches(missing):
        if budget_usd is not None and spent >= budget_usd:
            break
        calls = [by_id[q].call(arm, _sampling(sample), sample=sample) for q, arm, sample in batch]
        await call_experts(calls, experts, keep)
        n_asked += len(batch)
        n_done = len(wanted) - len(missing) + n_asked
        on_progress(RecordingProgress(n_done=n_done, n_total=len(wanted), cost_usd=spent))
    return RecordingSummary(
        n_asked=n_asked,
        n_skipped=len(wanted) - len(missing),
        n_failed=n_failed,
        cost_usd=spent,
        stopped_by_budget=n_asked < len(missing),
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


def _known(ledger: Ledger, pool: Pool) -> dict[Key, RecordedCall]:
    """What need not be asked again: graded calls of the weights that the pool has now."""
    versions = pool.versions
    return {
        (c.completion.call.query_id, c.completion.call.arm, c.completion.call.sample): c
        for c in ledger.recorded_calls()
        if c.score is not None and versions.get(c.completion.call.arm.expert) == c.version
    }


def _regrade(ledger: Ledger, calls: Sequence[RecordedCall], by_id: Mapping[str, Question]) -> None:
    """Grade again what was answered before: the right answer may have been corrected."""
    new = [(c, _score(by_id[c.completion.call.query_id], c.completion)) for c in calls]
    changed = [(c.call_id, s) for c, s in new if s is not None and s != c.score]
    ledger.add_verdicts(changed, source="grader")


def _score(question: Question, completion: Completion) -> float | None:
    """None where the call says nothing of what the expert knows: it failed, or was stopped.

    A question that an expert cannot read is one that it gets wrong, today and tomorrow.
    """
    if completion.error_code == "context_too_long":
        return 0.0
    if not completion.ok or completion.finish_reason == "cancelled":
        return None
    return question.score(completion.text)


def _sampling(sample: int) -> Sampling:
    return Sampling(seed=sample, temperature=SAMPLE_TEMPERATURE if sample else 0.0)


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
