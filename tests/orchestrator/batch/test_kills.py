"""``kill -9`` of a batch's process at random moments: everything is answered once, little is paid
twice, and what a process holds in memory does not grow with the file."""

from __future__ import annotations

from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random

import pytest

from orchestrator.ledger import Ledger
from tests.orchestrator.batch.batches import AT_ONCE, REFUSED, numbered, process, read, write

N_KILLS, N_QUERIES, LATENCY_S = 10, 1000, 0.02


def test_files_that_may_not_grow_stop_a_batch_and_lose_nothing(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    """By the kernel's own limit, which holds for the ledger, too, at each of many sizes."""
    write(tmp_path / "queries.jsonl", numbered(N_QUERIES))
    options = {"model": "echo", "in_flight": 32}
    codes = []
    for n_bytes in (*range(20_000, 220_000, 25_000), None):
        child = processes.Process(target=process, args=(tmp_path, options, 0.0, n_bytes))
        child.start()
        child.join()
        codes.append(child.exitcode)
    assert set(codes[:3]) == {REFUSED}
    assert codes[-1] == 0
    answers = read(tmp_path / "answers.jsonl")
    assert Counter(r["id"] for r in answers) == Counter(q["id"] for q in numbered(N_QUERIES))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        recorded = Counter(r["query_id"] for r in ledger.rows("SELECT query_id FROM calls"))
    assert set(recorded.values()) == {1}


@pytest.mark.parametrize("model", ["echo", "wave"])
def test_a_batch_that_is_killed_again_and_again_answers_everything_once(
    tmp_path: Path, processes: ForkServerContext, model: str
) -> None:
    """echo tells of each call; wave answers whole batches, so a kill can lose one of them."""
    write(tmp_path / "queries.jsonl", numbered(N_QUERIES))
    options = {"model": model, "in_flight": 32}
    rng, n_killed = Random(0), 0
    while True:
        child = processes.Process(target=process, args=(tmp_path, options, LATENCY_S))
        child.start()
        child.join(rng.uniform(0.02, 0.2) if n_killed < N_KILLS else None)
        if child.exitcode is not None:
            assert child.exitcode == 0
            break
        child.kill()
        child.join()
        n_killed += 1
    assert n_killed == N_KILLS
    answers = read(tmp_path / "answers.jsonl")
    assert {r["id"]: r["text"] for r in answers} == {
        q["id"]: f"so: {q['question']}" for q in numbered(N_QUERIES)
    }
    assert len(answers) == N_QUERIES
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        recorded = Counter(r["query_id"] for r in ledger.rows("SELECT query_id FROM calls"))
    assert set(recorded.values()) == {1}
    assert len(recorded) == N_QUERIES
    if model == "echo":
        begun = (tmp_path / "charged.txt").read_text().splitlines()
        assert N_QUERIES <= len(begun) <= N_QUERIES + n_killed * AT_ONCE
