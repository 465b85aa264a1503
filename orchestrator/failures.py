"""An answer without text, as the error that explains it."""

from __future__ import annotations

from experts.errors import ContextTooLong, ExpertFailure, LimitReached, OverBudget, UserError
from orchestrator.answer import Answer


def raise_if_failed(answer: Answer) -> None:
    """Turn an answer without text into the error that explains it; abstaining is no error."""
    if answer.succeeded or answer.abstained:
        return
    errors = [c for c in answer.completions if not c.ok]
    if answer.over_budget:
        raise OverBudget("; ".join(answer.notes))
    if not errors:
        raise LimitReached(
            f"Nobody could be asked: {'; '.join(answer.notes)}. Raise the limit, or leave it out."
        )
    if all(c.error_code == "context_too_long" for c in errors):
        raise ContextTooLong(
            "The conversation is too long for every expert that may answer: "
            + "; ".join(str(c.error) for c in errors)
            + ". Shorten it, or allow an expert with a longer context."
        )
    if all(c.error_code == "refused" for c in errors):
        raise UserError(
            "Whoever was asked refuses this request: "
            + "; ".join(f"{c.call.arm}: {c.error}" for c in errors)
            + ". Asking again will not help; change it."
        )
    raise ExpertFailure("; ".join(answer.notes) or "No expert answered.")
