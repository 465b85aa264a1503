"""The record of swaps: what a load is expected to take, kept small, and whole after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experts.vllm.record import N_KEPT, SwapRecord
from tests.experts.vllm.fleets import swap


def test_expected_seconds_come_from_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "swaps.jsonl"
    record = SwapRecord(path)
    guessed = record.expected_s("in_place", "a", 10**9, "disk")
    assert guessed == pytest.approx(1.2)
    for model, seconds, ok in [("a", 3.0, True), ("a", 900.0, False), ("b", 5.0, True)]:
        record.add(swap(model, seconds, ok=ok))
    with path.open("a") as file:
        file.write('{"way": "in_pl')  # we were killed in the middle of a line
    for known in (record, SwapRecord(path)):
        assert known.expected_s("in_place", "a", 10**9, "disk") == 3.0
        assert known.expected_s("in_place", "c", 10**9, "disk") == 4.0


def test_a_record_that_was_torn_loses_the_torn_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "swaps.jsonl"
    SwapRecord(path).add(swap("a", 3.0))
    path.write_bytes(path.read_bytes() + b'{"way": "in_pl\xc3')  # killed within a character, even
    record = SwapRecord(path)
    record.add(swap("b", 5.0))
    record.add(swap("b", 5.0))
    again = SwapRecord(path)
    for model, seconds in (("a", 3.0), ("b", 5.0)):
        assert again.expected_s("in_place", model, 10**9, "disk") == seconds
    assert len(path.read_bytes().splitlines()) == 4


def test_a_server_remembers_its_latest_swaps_and_a_benchmark_all() -> None:
    server, benchmark = SwapRecord(), SwapRecord()
    benchmark.keep_all()
    for seconds in range(N_KEPT + 5):
        for record in (server, benchmark):
            record.add(swap("a", float(seconds)))
    assert server.seconds("in_place") == list(range(5, N_KEPT + 5))
    assert benchmark.seconds("in_place") == list(range(N_KEPT + 5))


def test_a_record_stays_small_and_knows_what_was_last(tmp_path: Path) -> None:
    path = tmp_path / "swaps.jsonl"
    record = SwapRecord(path, max_bytes=1000)
    for seconds in range(200):
        record.add(swap("a", float(seconds)))
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 3000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["swaps.jsonl", "swaps.previous.jsonl"]
    [*_, last] = path.read_text().splitlines()
    assert json.loads(last)["seconds"] == 199
    assert 190 < SwapRecord(path).expected_s("in_place", "a", 10**9, "disk") < 199
