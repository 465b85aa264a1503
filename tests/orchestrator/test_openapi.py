"""What the schema allows is asked; every answer is one that it tells of, and none is a 500."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server import Server

CHECKS = (
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


@pytest.fixture(scope="module")
def operations(server: Server) -> dict[str, APIOperation]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {operation.label: operation for operation in found}


LABELS = [
    "POST /v1/chat/completions", "POST /v1/route", "POST /v1/feedback", "POST /v1/runs",
    "GET /v1/runs", "GET /v1/runs/{run_id}", "POST /v1/runs/{run_id}/resume",
    "POST /v1/runs/{run_id}/cancel", "GET /v1/human", "POST /v1/human/{question_id}",
    "GET /v1/models", "GET /v1/models/{name}", "GET /v1/experts", "GET /v1/decisions/{decision_id}",
    "GET /v1/learning", "GET /healthz", "GET /readyz", "GET /metrics",
]  # fmt: skip


def test_all_operations_are_tried(operations: dict[str, APIOperation]) -> None:
    assert set(operations) == set(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_answers_are_those_that_the_schema_tells_of(
    label: str, operations: dict[str, APIOperation]
) -> None:

    @given(operations[label].as_strategy())
    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def ask(case: Case) -> None:
        response = case.call()
        try:
            case.validate_response(response, checks=list(CHECKS))
        except FailureGroup as failures:  # which pytest cannot print
            said = f"{case.as_curl_command()}\n{response.status_code} {response.text}"
            problem = "\n".join([said, *map(str, failures.exceptions)])
        else:
            return
        raise AssertionError(problem)

    ask()
