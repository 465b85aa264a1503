"""Recording: ask every arm every question, grade, and write it all to the ledger.

Resumable: what the ledger already holds is not asked again. A budget stops it between batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.questions import Question
from experts.expert import Expert
from experts.values import Arm, Sampling
from orchestrator.drivers.calling import call_experts
from orchestrator.ledger import Ledger
from orchestrator.strategies.vote import SAMPLE_TEMPERATURE

BATCH = 256
"""Calls asked together; also by how much a budget may be overshot."""


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
    them. Questions of one expert are asked together, so it is loaded once."""
    by_id = {q.query_id: q for q in questions}
    for question in by_id.values():
        ledger.add_query(
            question.query(1.0),
            source="record",
            skill=question.skill,
            reference=question.answer,
            split=question.split,
        )
    known = {
        (c.completion.call.query_id, c.completion.call.arm, c.completion.call.sample)
        for c in ledger.recorded_calls()
        if c.completion.ok
    }
    wanted = [
        (q.query_id, arm, sample)
        for expert in experts.values()
        for arm in expert.card.arms
        for q in by_id.values()
        for sample in range(n_samples)
    ]
    missing = [key for key in wanted if key not in known]
    spent, n_failed, n_asked = 0.0, 0, 0
    for batch in _batches(missing):
        if budget_usd is not None and spent >= budget_usd:
            break
        calls = [
            by_id[query_id].call(arm, _sampling(sample), sample=sample)
            for query_id, arm, sample in batch
        ]
        completions = await call_experts(calls, experts, lambda c: None)
        call_ids = ledger.add_calls(completions, [None] * len(completions))
        scores = [
            (call_id, by_id[c.call.query_id].score(c.text))
            for call_id, c in zip(call_ids, completions, strict=True)
            if c.ok  # a call that failed says nothing about what the expert knows
        ]
        ledger.add_verdicts(scores, source="grader")
        spent += sum(c.cost_usd for c in completions)
        n_failed += sum(not c.ok for c in completions)
        n_asked += len(batch)
        on_progress(
            RecordingProgress(
                n_done=len(wanted) - len(missing) + n_asked, n_total=len(wanted), cost_usd=spent
            )
        )
    return RecordingSummary(
        n_asked=n_asked,
        n_skipped=len(wanted) - len(missing),
        n_failed=n_failed,
        cost_usd=spent,
        stopped_by_budget=n_asked < len(missing),
    )


def _sampling(sample: int) -> Sampling:
    return Sampling(seed=sample, temperature=SAMPLE_TEMPERATURE if sample else 0.0)


def _batches(keys: list[tuple[str, Arm, int]]) -> list[list[tuple[str, Arm, int]]]:
    """Batches of one arm each, in order."""
    batches: list[list[tuple[str, Arm, int]]] = []
    for key in keys:
        if batches and batches[-1][0][1] == key[1] and len(batches[-1]) < BATCH:
            batches[-1].append(key)
        else:
            batches.append([key])
    return batches
