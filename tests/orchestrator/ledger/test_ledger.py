"""Nothing is lost, nothing is changed, the sums are right."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import DataError
from experts.values import Arm, Call, Completion, Message, Sampling, Usage
from orchestrator.ledger import Label, Ledger, Verdict
from tests import pools


def completion(
    query_id: str = "q-1", cost_usd: float = 0.5, *, purpose: str = "record", sample: int = 0
) -> Completion:
    call = Call(
        query_id=query_id,
        arm=Arm("units", "reason"),
        messages=(Message(role="user", content="?"),),
        sampling=Sampling(temperature=0.7, seed=3),
        sample=sample,
        purpose=purpose,
    )
    return Completion(
        call=call,
        text="Answer: 5 kg",
        answer="5 kg",
        usage=Usage(input_tokens=7, output_tokens=4, cached_tokens=3),
        cost_usd=cost_usd,
        latency_s=0.1,
        load_s=0.01,
        logprob=-0.5,
    )


def test_a_call_is_read_as_it_was_written(ledger: Ledger) -> None:
    label = Label(skill="metric", reference=("5 kg",), split="val")
    ledger.add_query(pools.query("?"), source="record", label=label)
    [call_id] = ledger.add_calls([completion()], [None], versions={"units": "v1"})
    [recorded] = ledger.recorded_calls()
    assert recorded.call_id == call_id
    assert recorded.completion == completion()
    assert (recorded.skill, recorded.split, recorded.score) == ("metric", "val", None)
    assert recorded.version == "v1"


def test_the_latest_label_counts_and_the_earlier_ones_stay(ledger: Ledger) -> None:
    for skill in ("symbl", "symbol", "symbol"):
        ledger.add_query(pools.query("?"), source="record", label=Label(skill=skill))
    ledger.add_calls([completion()], [None])
    assert [c.skill for c in ledger.recorded_calls()] == ["symbol"]
    assert [r["skill"] for r in ledger.rows("SELECT skill FROM labels")] == ["symbl", "symbol"]


def test_an_id_stands_for_one_text(ledger: Ledger) -> None:
    ledger.add_query(pools.query("What is 1 + 1?"), source="record")
    with pytest.raises(DataError, match="stands for another question in the ledger: 'What is 1"):
        ledger.add_query(pools.query("What is 2 + 2?"), source="record")


def test_the_latest_verdict_counts(ledger: Ledger) -> None:
    ledger.add_query(pools.query("?"), source="record")
    [call_id] = ledger.add_calls([completion()], [None])
    ledger.add_verdicts([Verdict(call_id=call_id, score=0.0, source="grader")])
    ledger.add_verdicts([Verdict(call_id=call_id, score=1.0, source="person")])
    assert [c.score for c in ledger.recorded_calls()] == [1.0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE calls SET cost_usd = 0",
        "DELETE FROM calls",
        "INSERT OR REPLACE INTO calls SELECT * FROM calls",
    ],
)
def test_the_past_cannot_be_changed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.add_calls([completion()], [None])
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(change)
    other.close()


@given(st.lists(st.lists(st.floats(0, 1e3), max_size=5), max_size=5))
def test_the_total_is_the_sum_of_all_calls(batches: list[list[float]]) -> None:
    with Ledger(":memory:") as ledger:
        for costs in batches:
            ledger.add_calls([completion(cost_usd=c) for c in costs], [None] * len(costs))
        assert ledger.total_cost_usd() == pytest.approx(sum(map(sum, batches)))


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:

        def write() -> None:
            for _ in range(50):
                ledger.add_calls([completion(cost_usd=1.0)], [None])

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.total_cost_usd() == 200


def test_two_processes_worth_of_connections_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as one, Ledger(path) as two:
        one.add_calls([completion()], [None])
        two.add_calls([completion()], [None])
        assert one.total_cost_usd() == two.total_cost_usd() == 1.0


def test_feedback_needs_a_decision(ledger: Ledger) -> None:
    assert not ledger.add_feedback("dec-unknown", 1.0, None)
