"""What was decided, told again: over the real endpoint, and each key its own."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from orchestrator.ledger import Ledger
from tests.orchestrator.keys.test_gate import asked, body, code, made
from tests.server import Server

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


def test_why_an_answer_is_what_it_is(server: Server) -> None:
    answer = server.client.chat.completions.create(model="conclave", **QUESTION)
    given = answer.model_extra["conclave"]
    url = f"{server.url}/v1/decisions/{given['decision_id']}"
    told = httpx.get(url).json()
    assert told["plan"] == given["plan"]
    assert told["cost_usd"] == pytest.approx(given["cost_usd"])
    assert told["answer"]["answer"] == "Paris"
    assert len(told["calls"]) == given["n_calls"]
    assert sum(c["cost_usd"] for c in told["calls"]) + told["router_cost_usd"] == told["cost_usd"]
    assert {row["arm"] for row in told["scores"]} >= set(given["contributors"])
    assert told["skills"]
    assert told["verdicts"] == []
    httpx.post(
        f"{server.url}/v1/feedback",
        json={"decision_id": given["decision_id"], "correct": True},
    )
    [verdict] = httpx.get(url).json()["verdicts"]
    assert (verdict["score"], verdict["source"]) == (1.0, "feedback")


def test_a_decision_that_is_not_there(server: Server) -> None:
    response = httpx.get(f"{server.url}/v1/decisions/dec-none")
    assert code(response) == (404, "unknown_decision")


def test_a_key_sees_its_own_decisions_only(ledger: Ledger, data_dir: Path) -> None:
    _, ann = made(data_dir, "ann")
    _, bob = made(data_dir, "bob")
    [answer] = asked(ledger, {"json": body(), "headers": ann})
    url = f"/v1/decisions/{answer.json()['conclave']['decision_id']}"
    own, others = asked(
        ledger,
        {"method": "GET", "url": url, "headers": ann},
        {"method": "GET", "url": url, "headers": bob},
    )
    assert own.json()["policy"] == "echo"
    assert code(others) == (404, "unknown_decision")


def test_who_there_is_and_who_is_loaded(server: Server) -> None:
    told = httpx.get(f"{server.url}/v1/experts").json()
    assert told["is_fitted"]
    rows = {row["name"]: row for row in told["experts"]}
    assert rows["countries"]["is_loaded"]
    assert rows["countries"]["n_waiting"] == 0
    assert max(rows["countries"]["success_by_category"].values()) > 0.5
