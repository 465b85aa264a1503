"""``conclave bench kills``: what it would notice. The run itself is in tests/vllm."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks.kills import KillsReport
from eval.benchmarks.kills_batches import problems_of_batch
from eval.benchmarks.kills_calls import (
    FILE_VARIABLE,
    Noting,
    Receive,
    Send,
    calls_in,
    problems_of_calls,
)
from eval.benchmarks.kills_clients import Clients
from eval.benchmarks.kills_moments import Kill
from eval.commands.bench_kills import format_kills
from orchestrator.ledger import Ledger
from tests.orchestrator.batch.batches import answer, make_conclave, numbered, read, write
from tests.shown import shown

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


def noted(*messages: dict[str, Any], **body: Any) -> None:
    """A request to an engine that notes what it is given, and sends ``messages``."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        for message in messages:
            await send(message)

    data = json.dumps(body).encode()
    parts = [{"body": data[:5], "more_body": True}, {"body": data[5:]}]
    coming = iter([{"type": "http.request", **part} for part in parts])

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: dict[str, Any]) -> None:
        pass

    asyncio.run(Noting(app)({"type": "http", "path": "/v1/completions"}, receive, send))


def test_an_engine_notes_calls_that_begin_and_those_that_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, "calls")
    start = {"type": "http.response.start"}
    half = {"type": "http.response.body", "more_body": True}
    noted(start, {"type": "http.response.body"}, stop_token_ids=[1])
    noted(start, half, stop_token_ids=[1])  # the engine is killed then
    noted(start, {"type": "http.response.body"}, stop_token_ids=[])  # the fleet's own
    assert calls_in(Path("calls")) == {"begun": 2, "ended": 1}
    assert not calls_in(Path("nowhere"))


@pytest.mark.parametrize(
    ("n_ended", "excuses", "is_wrong"),
    [
        (4, {}, 0),
        (5, {}, 1),
        (5, {"n_excused": 1}, 0),
        (3, {"n_excused": 9}, 1),
        (5, {"n_unnoted": 9}, 1),
        (3, {"n_unnoted": 1}, 0),
    ],
)
def test_a_call_that_was_made_twice_and_billed_once_is_noticed(
    n_ended: int, excuses: dict[str, int], is_wrong: bool
) -> None:
    calls = Counter(begun=7, ended=n_ended)
    problems = problems_of_calls("batches", calls, 4, **excuses)
    assert len(problems) == is_wrong
    assert not is_wrong or f"answered {n_ended} calls in full (7 begun) for 4" in problems[0]


def test_the_table_says_what_was_killed_when_and_which_promise_broke() -> None:
    kills = [
        Kill(kind="engine", victim="API server", stage="loading", at_s=1.0, recovery_s=back_s)
        for back_s in (2.0, 4.0)
    ]
    report = KillsReport(
        n_queries=10,
        n_requests=20,
        n_broken=3,
        n_begun=40,
        n_ended=31,
        kills=kills,
        seconds=60.0,
        promises={"billed once": False},
        problems=["q1 [twice]"],
    )
    text = shown(format_kills(report), columns=80)
    assert "API server" in text
    assert "3.0" in text
    assert "engines answered 31 calls of 40 that began" in " ".join(text.split())
    assert "BROKEN: billed once" in text
    assert "q1 [twice]" in text


def test_asked_to_end_it_ends_what_it_has_started(tmp_path: Path) -> None:
    bench = subprocess.Popen(
        [Path(sys.executable).with_name("conclave"), "bench", "kills", "-n", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (started := _children(bench.pid)):
            assert bench.poll() is None
        bench.terminate()
        assert bench.wait(30) == 143
    finally:
        bench.kill()
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert not list(tmp_path.iterdir())


def _children(pid: int) -> list[str]:
    """Pids of those that run a command of ours."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)],
        capture_output=True,
        text=True,
        check=False,  # 1: it has none
    )
    return [line.split()[0] for line in listed.stdout.splitlines() if "conclave" in line]
