"""A server's rows go through a spool: each is in the ledger once, whoever dies in between."""

from __future__ import annotations

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from experts.sqlite_file import open_private
from orchestrator.ledger import Ledger, spool, spooled
from orchestrator.ledger.schema import prepare
from orchestrator.ledger.spool import SUFFIX, line_of
from orchestrator.ledger.spooled import SpooledLedger
from tests import pools
from tests.orchestrator.ledger.test_ledger import completion


def n_calls(ledger: Ledger) -> int:
    return int(ledger.rows("SELECT COUNT(*) AS n FROM calls")[0]["n"])


def texts(path: Path) -> list[str]:
    with Ledger(path) as ledger:
        rows = ledger.rows("SELECT query_id FROM calls ORDER BY query_id")
    return [row["query_id"] for row in rows]


def spools(path: Path) -> list[Path]:
    return list(path.parent.glob(f"*{SUFFIX}"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_whoever_asks_the_ledger_cannot_tell(path: Path) -> None:
    with SpooledLedger(path) as ledger:
        query = pools.query("What is 1 + 1?")
        row = {
            "decision_id": "dec-1", "query_id": query.query_id, "policy": "x", "plan": "only",
            "reason": "", "fallback_price_usd": 1.0, "scores": "{}", "p_correct": None,
            "expected_cost_usd": None, "router_cost_usd": 0.0, "router_s": 0.0, "account": "",
        }  # fmt: skip
        ledger.record_decisions([query], [row], source="test")
        assert ledger.add_feedback("dec-1", 1.0, None)
        ledger.record_calls([completion(query.query_id, 0.25)], ["dec-1"])
        assert ledger.total_cost_usd() == 0.25
        assert [c["expert"] for c in ledger.calls_of_decision("dec-1")] == []  # purpose: record
        assert n_calls(ledger) == 1


def test_a_server_that_stops_leaves_nothing_beside_its_ledger(path: Path) -> None:
    with SpooledLedger(path) as ledger:
        for i in range(1000):
            ledger.record_calls([completion(f"q-{i:03}")], [None])
    assert not spools(path)
    assert texts(path) == [f"q-{i:03}" for i in range(1000)]


def record_until_killed(path: Path, n: int, told: Connection, *, kills_mover: bool) -> None:
    """What a process of its own does."""
    ledger = SpooledLedger(path)
    for i in range(n):
        ledger.record_calls([completion(f"q-{i:03}")], [None])
        if i == n // 2:
            ledger.settle()
    if kills_mover:
        os.kill(ledger._mover.pid, signal.SIGKILL)
    told.send(n)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kills_mover", [False, True])
def test_what_was_recorded_outlives_a_kill(
    path: Path, processes: ForkServerContext, kills_mover: bool
) -> None:
    hears, tells = processes.Pipe(duplex=False)
    process = processes.Process(
        target=record_until_killed, args=(path, 400, tells), kwargs={"kills_mover": kills_mover}
    )
    process.start()
    n = hears.recv()
    process.join()
    # Where the mover lives it moves the rest, and where it does not, who opens the ledger does.
    while len(found := texts(path)) < n:
        assert not kills_mover
    assert found == [f"q-{i:03}" for i in range(n)]
    assert kills_mover is False or not spools(path)


def test_a_mover_that_dies_is_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SpooledLedger(path) as ledger:
        ledger.record_calls([completion("q-1")], [None])
        assert n_calls(ledger) == 1
        ledger._mover.kill()
        ledger.record_calls([completion("q-2")], [None])
        assert n_calls(ledger) == 2
    assert "another one is begun" in caplog.text
    assert texts(path) == ["q-1", "q-2"]


def test_a_spool_that_grows_is_followed_by_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "_FILE_BYTES", 1000)
    monkeypatch.setattr(spooled, "GATHER_S", 0)
    names = set()
    with SpooledLedger(path) as ledger:
        for i in range(20):
            ledger.record_calls([completion(f"q-{i:02}")], [None])
            names.add(ledger._spool.name)
            assert n_calls(ledger) == i + 1
    assert len(names) > 3
    assert not spools(path)


def test_a_line_that_was_being_written_is_not_there(path: Path) -> None:
    Ledger(path).close()
    whole = line_of({"responses": [response("a")]})
    path.with_name(f"{path.name}.left{SUFFIX}").write_bytes(whole + whole[:20])
    with Ledger(path) as ledger:
        assert [r["idempotency_key"] for r in ledger.rows("SELECT * FROM responses")] == ["a"]
    assert not spools(path)


def response(key: str) -> dict[str, object]:
    return {"idempotency_key": key, "at": 0.0, "request": "r", "body": "{}"}


def test_rows_that_the_ledger_refuses_stand_in_nobodys_way(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Ledger(path).close()
    lines = [line_of({"responses": [response(key)]}) for key in "abac"]
    left = path.with_name(f"{path.name}.left{SUFFIX}")
    left.write_bytes(b"".join(lines))
    with Ledger(path) as ledger:
        kept = [r["idempotency_key"] for r in ledger.rows("SELECT * FROM responses")]
    assert kept == ["a", "b", "c"]
    assert left.with_suffix(".refused").read_bytes() == lines[2]
    assert "the ledger refuses rows" in caplog.text


def test_a_disk_without_room_is_told_and_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with SpooledLedger(path) as ledger:
        ledger.record_calls([completion("q-1")], [None])
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
            with pytest.raises(OSError, match="no room"):
                ledger.record_calls([completion("q-2")], [None])
        ledger.record_calls([completion("q-3")], [None])
    assert texts(path) == ["q-1", "q-3"]


def test_the_past_is_guarded_after_many_rows_as_before(path: Path) -> None:
    """Guards are down while many rows are moved, within one transaction."""
    with SpooledLedger(path) as ledger:
        for i in range(500):
            ledger.record_calls([completion(f"q-{i}")], [None])
        assert n_calls(ledger) == 500
        other = sqlite3.connect(path)
        for change in (
            "UPDATE calls SET cost_usd = 0",
            "INSERT OR REPLACE INTO calls SELECT * FROM calls",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(change)
        other.close()


def test_two_servers_share_a_ledger(path: Path) -> None:
    with SpooledLedger(path) as one, SpooledLedger(path) as two:
        one.record_calls([completion("q-1")], [None])
        two.record_calls([completion("q-2")], [None])
        assert n_calls(one) >= 1
        assert n_calls(two) >= 1
    assert texts(path) == ["q-1", "q-2"]


def test_several_who_move_one_spool_move_each_row_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_BYTES_AT_ONCE", 200)
    Ledger(path).close()
    left = path.with_name(f"{path.name}.left{SUFFIX}")
    left.write_bytes(b"".join(line_of({"responses": [response(f"{i:03}")]}) for i in range(200)))

    def move() -> int:
        with closing(open_private(path, prepare, use="as a ledger")) as db:
            return spool.move(db, left)

    with ThreadPoolExecutor(4) as threads:
        moved = [future.result() for future in [threads.submit(move) for _ in range(4)]]
    assert sum(moved) == 200
    with Ledger(path) as ledger:
        keys = [r["idempotency_key"] for r in ledger.rows("SELECT * FROM responses ORDER BY 1")]
    assert keys == [f"{i:03}" for i in range(200)]
