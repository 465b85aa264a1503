"""``conclave bench kills``: what it would notice. The run itself is in tests/vllm."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.benchmarks.kills import Kill, KillsReport, problems_of_batch
from eval.benchmarks.kills_clients import Clients
from eval.commands.bench import format_kills
from orchestrator.ledger import Ledger
from tests.orchestrator.batch.batches import answer, make_conclave, numbered, read, write

QUERIES, OUT, LEDGER = Path("queries.jsonl"), Path("answers.jsonl"), Path("ledger.sqlite")
RIGHT = {f"q{i}": f"so: question {i}" for i in range(4)}
Records = list[dict[str, Any]]


def first_twice(records: Records) -> Records:
    return [*records, records[0]]


def first_lost(records: Records) -> Records:
    return records[1:]


def first_other(records: Records) -> Records:
    return [{**records[0], "text": "no"}, *records[1:]]


def first_dearer(records: Records) -> Records:
    return [{**records[0], "cost_usd": 1.0}, *records[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (list, None),
        (first_twice, "1 answered twice, such as q0"),
        (first_lost, "1 lost or strange, such as q0"),
        (first_other, "q0 is 'no', not 'so: question 0'"),
        (first_dearer, "its answers cost 1"),
    ],
)
def test_a_batch_is_looked_at_line_by_line(
    change: Callable[[Records], Records], said: str | None
) -> None:
    write(QUERIES, numbered(4))
    with Ledger(LEDGER) as ledger:
        answer(make_conclave(ledger), QUERIES, OUT)
    write(OUT, change(sorted(read(OUT), key=lambda r: r["id"])))
    problems = problems_of_batch(OUT, numbered(4), RIGHT, LEDGER)
    assert (not problems) if said is None else said in problems[0]


def test_a_call_that_was_paid_twice_is_noticed() -> None:
    write(QUERIES, numbered(4))
    with Ledger(LEDGER) as ledger:
        answer(make_conclave(ledger), QUERIES, OUT)
        [first, *_] = ledger.completions_of([r["query_id"] for r in read(OUT)])
        ledger.add_calls([first.completion], [None])
    problems = problems_of_batch(OUT, numbered(4), RIGHT, LEDGER)
    assert "queries by number of bills: {2: 1, 1: 3}" in problems[0]


def test_clients_say_who_has_another_answer_and_how_many_bills_there_are() -> None:
    clients = Clients([{"id": "q0", "question": "question 0", "model": "echo"}], port=9)
    clients.answers["r0"] = (
        "q0",
        json.dumps({"choices": [{"message": {"content": "no"}}]}).encode(),
    )
    clients.stop()  # nobody is there to be asked again
    clients.check(RIGHT, LEDGER)
    said = "\n".join(clients.problems)
    assert "q0 (r0): 'no', not 'so: question 0'" in said
    assert "1 answers, 0 kept, queries by number of bills: {}" in said


def test_the_table_says_what_was_killed_when_and_which_promise_broke() -> None:
    kills = [
        Kill(kind="engine", victim="API server", stage="loading", at_s=1.0, recovery_s=back_s)
        for back_s in (2.0, 4.0)
    ]
    report = KillsReport(
        n_queries=10,
        n_requests=20,
        n_broken=3,
        kills=kills,
        seconds=60.0,
        promises={"billed once": False},
        problems=["q1 [twice]"],
    )
    out = StringIO()
    Console(file=out, width=80).print(format_kills(report))
    text = out.getvalue()
    assert "API server" in text
    assert "3.0" in text
    assert "BROKEN: billed once" in text
    assert "q1 [twice]" in text
