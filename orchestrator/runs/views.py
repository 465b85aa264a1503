"""Durable runs, looked at and given up: for that nobody needs experts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from experts.errors import DataError
from experts.human.desk import Desk, Question
from orchestrator.config import Config
from orchestrator.decision import Decision
from orchestrator.ledger import BegunCall, Ledger
from orchestrator.runs.frozen import read_decision
from orchestrator.runs.journal import Lost, lost
from orchestrator.runs.store import FINAL, RunRow, RunStore


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """All there is to know of a run."""

    row: RunRow
    decision: Decision | None
    """None where what the run was begun with cannot be read; then ``problem`` says why."""
    problem: str | None
    is_worked_on: bool
    """Some process is at it."""
    calls: list[BegunCall]
    questions: list[Question]
    """To people."""

    @property
    def state(self) -> str:
        """As in the list, but for open ones: running, or stopped where nobody works on it; and one
        that has waited for people till all answered, or were too late, is stopped, too."""
        if self.row.state == "open":
            return "running" if self.is_worked_on else "stopped"
        if self.row.state == "waiting" and all(q.is_settled for q in self.questions):
            return "running" if self.is_worked_on else "stopped"
        return self.row.state

    @property
    def cost_usd(self) -> float:
        """By the ledger: calls and router."""
        paid = sum(c.completion.cost_usd for c in self.calls if c.completion is not None)
        return paid + (0.0 if self.decision is None else self.decision.router_cost_usd)

    @property
    def lost(self) -> Lost:
        """Of a run that is being worked on nobody can tell what is lost."""
        return Lost(n_calls=0, most_usd=0.0) if self.is_worked_on else lost(self.calls)


class RunList:
    """The durable runs of a data folder."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self.ledger = ledger
        self.store, self.desk = RunStore(config.runs_dir), Desk(config.desk_path)

    def close(self) -> None:
        self.store.close()
        self.desk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def cancel(self, run_id: str) -> RunView:
        """Give a run up: no call is made any more, and nobody is asked. A call that is under way
        elsewhere ends first, and is recorded; ``is_worked_on`` tells whether that may be."""
        self.store.get(run_id)
        is_worked_on = self.store.is_worked_on(run_id)
        self.store.change(run_id, "cancelled")
        waiting = [q.question_id for q in self.desk.of_run(run_id) if not q.is_settled]
        self.desk.withdraw(waiting)
        return replace(self.view(run_id), is_worked_on=is_worked_on)

    def view(self, run_id: str) -> RunView:
        """Raises UnknownName."""
        return self._view(self.store.get(run_id))

    def views(self) -> list[RunView]:
        """Newest first."""
        return [self._view(row) for row in self.store.all()]

    def _view(self, row: RunRow) -> RunView:
        is_open = row.state not in FINAL
        decision, problem = None, row.problem
        try:
            decision = read_decision(row.decision)
        except DataError as error:
            advice = f" Give it up: conclave runs cancel {row.run_id}" if is_open else ""
            problem = f"{error}{advice}"
        return RunView(
            row=row,
            decision=decision,
            problem=problem,
            is_worked_on=is_open and self.store.is_worked_on(row.run_id),
            calls=self.ledger.begun_by(row.run_id),
            questions=self.desk.of_run(row.run_id),
        )


def run_object(view: RunView, *, with_calls: bool = True) -> dict[str, Any]:
    """JSON-ready."""
    row, decision = view.row, view.decision
    told = {
        "run_id": row.run_id,
        "state": view.state,
        "is_worked_on": view.is_worked_on,
        "question": None if decision is None else decision.query.messages[-1].content,
        "policy": None if decision is None else decision.policy,
        "plan": None if decision is None else decision.explain()["plan"],
        "started_at": row.started_at,
        "changed_at": row.changed_at,
        "n_calls": sum(c.completion is not None for c in view.calls),
        "cost_usd": view.cost_usd,
        "lost": asdict(view.lost),
        "waits_for": [q.question_id for q in view.questions if not q.is_settled],
        "answer": row.answer,
        "problem": view.problem,
        "decision_id": row.decision.get("decision_id"),
    }
    if with_calls:
        told["calls"] = [_call_object(c) for c in view.calls]
        told["questions"] = [question_object(q) for q in view.questions]
    return told


def question_object(question: Question) -> dict[str, Any]:
    """JSON-ready."""
    told = asdict(question)
    told["messages"] = [{"role": r, "content": text} for r, text in question.messages]
    return told


def _call_object(call: BegunCall) -> dict[str, Any]:
    done = call.completion
    told: dict[str, Any] = {
        "seq": call.seq,
        "arm": str(call.arm),
        "begun_at": call.at,
        "came_back": done is not None,
    }
    if done is None:
        return {**told, "most_usd": call.most_usd}
    return {
        **told,
        "text": done.text,
        "cost_usd": done.cost_usd,
        "latency_s": round(done.latency_s, 4),
        "finish_reason": done.finish_reason,
        "error": done.error,
    }
