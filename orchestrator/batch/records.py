"""What a batch writes: answers and errors, in our own format or OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experts.errors import ConclaveError, DataError
from experts.tool_calls import openai_tool_calls
from orchestrator.batch.lines import BadLine, BatchLine
from orchestrator.decision import Result
from orchestrator.failures import raise_if_failed

_OPENAI_PREFIX = "batch_req_"


def answer_record(line: BatchLine, query_id: str, results: Sequence[Result]) -> dict[str, Any]:
    """An answered line. Raises the ConclaveError that explains why it is not."""
    for result in results:
        raise_if_failed(result.answer)
    if line.is_openai:
        from orchestrator.rest.chat import completion_body

        body = completion_body(line.request.model, results)
        return _openai_record(line, query_id, 200, body)
    [result] = results
    answer, decision = result.answer, result.decision
    calls = openai_tool_calls(answer.tool_calls)
    return {
        "id": line.id,
        "query_id": query_id,
        "text": answer.text,
        "answer": answer.answer,
        **({"tool_calls": calls} if calls else {}),
        "p_correct": answer.p_correct,
        "abstained": answer.abstained,
        "contributors": [str(arm) for arm in answer.contributors],
        "plan": str(decision.choice.plan) if decision.choice else "only",
        "cost_usd": result.cost_usd,
        "n_calls": len(answer.completions),
        "notes": list(answer.notes),
        "decision_id": decision.decision_id,
        **({} if line.metadata is None else {"metadata": line.metadata}),
    }


def error_record(line: BatchLine, query_id: str, error: ConclaveError) -> dict[str, Any]:
    """A line that was asked, or could have been, and has no answer."""
    if line.is_openai:
        from orchestrator.rest.errors import describe

        return _openai_record(line, query_id, *describe(error)) | {"line": line.number}
    return _error(line.number, line.id, type(error).__name__, str(error))


def bad_line_record(line: BadLine) -> dict[str, Any]:
    """A line that cannot be read."""
    return _error(line.number, line.id, DataError.__name__, line.problem)


def identity_of(record: dict[str, Any]) -> tuple[str, str] | None:
    """Id and query id of an answered line, or None for what no batch has written."""
    line_id, query_id = record.get("id"), record.get("query_id")
    if "custom_id" in record:
        line_id, query_id = record["custom_id"], str(line_id).removeprefix(_OPENAI_PREFIX)
    if isinstance(line_id, str) and isinstance(query_id, str):
        return line_id, query_id
    return None


def _openai_record(
    line: BatchLine, query_id: str, status: int, body: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"{_OPENAI_PREFIX}{query_id}",
        "custom_id": line.id,
        "response": {"status_code": status, "request_id": query_id, "body": body},
        "error": None,
    }


def _error(number: int, line_id: str | None, kind: str, message: str) -> dict[str, Any]:
    return {"line": number, "id": line_id, "error": {"type": kind, "message": message}}
