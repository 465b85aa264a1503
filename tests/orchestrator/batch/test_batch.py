"""A file of queries becomes a file of answers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experts.cards import Prices
from experts.errors import DataError, UserError
from experts.fake import FakeExpert
from experts.values import Call, Completion
from orchestrator.batch.errors_file import errors_path
from orchestrator.batch.lines import MAX_LINE_BYTES, BadLine, read_line
from orchestrator.batch.run import BLOCK_BYTES, HOPELESS, BatchProgress
from orchestrator.ledger import Ledger
from tests.orchestrator.batch.batches import (
    OneByOne,
    answer,
    echo,
    make_conclave,
    numbered,
    read,
    write,
)

FREE = Prices(input_usd_per_mtok=0, output_usd_per_mtok=0)
QUERIES, OUT = Path("queries.jsonl"), Path("answers.jsonl")


@pytest.mark.parametrize("n_in_flight", [1, 7, 1000])
@pytest.mark.parametrize("expert", [FakeExpert("echo", echo), OneByOne("echo")], ids=type)
def test_every_query_is_answered_exactly_once(
    ledger: Ledger, expert: FakeExpert, n_in_flight: int
) -> None:
    write(QUERIES, numbered(40))
    summary = answer(make_conclave(ledger, [expert]), QUERIES, OUT, in_flight=n_in_flight)
    answers = {r["id"]: r["text"] for r in read(OUT)}
    assert answers == {f"q{i}": f"so: question {i}" for i in range(40)}
    assert len(read(OUT)) == summary.n_answered == summary.n_new == 40
    assert summary.cost_usd == pytest.approx(ledger.total_cost_usd())
    assert not errors_path(OUT).exists()


def test_running_it_again_asks_nobody(ledger: Ledger) -> None:
    write(QUERIES, numbered(5))
    answer(make_conclave(ledger), QUERIES, OUT)
    before = OUT.read_bytes()
    summary = answer(make_conclave(ledger), QUERIES, OUT)
    assert (summary.n_answered, summary.n_new) == (5, 0)
    assert OUT.read_bytes() == before
    assert len(ledger.rows("SELECT * FROM calls")) == 5


def test_lines_that_were_added_are_answered_too(ledger: Ledger) -> None:
    answer(make_conclave(ledger), write(QUERIES, numbered(3)), OUT)
    summary = answer(make_conclave(ledger), write(QUERIES, numbered(5)), OUT)
    assert (summary.n_answered, summary.n_new) == (5, 2)


def test_a_torn_last_line_is_repaired_and_its_query_not_paid_again(ledger: Ledger) -> None:
    write(QUERIES, numbered(5))
    answer(make_conclave(ledger), QUERIES, OUT)
    whole = sorted(read(OUT), key=lambda r: r["id"])
    for tail in (b"", b"\0\0\0\n"):
        data = OUT.read_bytes()
        OUT.write_bytes(data[: data.rindex(b"{") + 20] + tail)
        summary = answer(make_conclave(ledger), QUERIES, OUT)
        assert summary.n_new == 1
        again = sorted(read(OUT), key=lambda r: r["id"])
        assert [r["text"] for r in again] == [r["text"] for r in whole]
        assert [r["cost_usd"] for r in again] == [r["cost_usd"] for r in whole]
    assert len(ledger.rows("SELECT * FROM calls")) == 5


def test_openai_s_batch_format_is_answered_in_it(ledger: Ledger) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "n": 2}
    request = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    write(
        QUERIES,
        [
            {"custom_id": "a", **request},
            {"question": "and ours", "metadata": {"row": 7}},
            {"custom_id": "b", **request, "body": {**body, "model": "nobody"}},
        ],
    )
    summary = answer(make_conclave(ledger), QUERIES, OUT)
    assert (summary.n_answered, summary.n_bad) == (2, 1)
    theirs, ours = sorted(read(OUT), key=lambda r: "custom_id" not in r)
    assert theirs["custom_id"] == "a"
    assert theirs["response"]["status_code"] == 200
    said = [c["message"]["content"] for c in theirs["response"]["body"]["choices"]]
    assert said == ["so: hello"] * 2
    assert (ours["id"], ours["metadata"]) == ("line-2", {"row": 7})
    assert answer(make_conclave(ledger), QUERIES, OUT).n_new == 0


def test_bad_lines_are_told_of_and_the_rest_goes_on(ledger: Ledger) -> None:
    write(
        QUERIES,
        [
            {"id": "good", "question": "hello"},
            "not json",
            "",
            {"id": "good", "question": "another"},
            {"id": "empty", "question": " "},
            {"qestion": "hello"},
            {"question": "hello", "model": "ecko"},
            {"question": "hello", "experts": ["nobody"]},
            {"question": "hello", "max_tokens": 10**6},
            "[1]",
            {"question": "x" * MAX_LINE_BYTES},
            {"question": "hello \ud800"},
            {"question": "hello", "stream": True},
            {"custom_id": "", "body": {}},
            "[" * 100_000,
            {"question": "the last"},
        ],
    )
    summary = answer(make_conclave(ledger), QUERIES, OUT)
    assert {r["text"] for r in read(OUT)} == {"so: hello", "so: the last"}
    assert (summary.n_answered, summary.n_bad, summary.n_left) == (2, 13, 0)
    problems = {r["line"]: r["error"]["message"] for r in read(errors_path(OUT))}
    assert list(problems) == [2, *range(4, 16)]
    assert "not JSON" in problems[2]
    assert "that of line 1, too" in problems[4]
    assert "Did you mean 'question'?" in problems[6]
    assert "Did you mean 'echo'?" in problems[7]
    assert "4 MiB" in problems[11]


def test_mended_lines_are_answered_next_time(ledger: Ledger) -> None:
    answer(make_conclave(ledger), write(QUERIES, [*numbered(2), "{"]), OUT)
    assert errors_path(OUT).exists()
    summary = answer(make_conclave(ledger), write(QUERIES, numbered(3)), OUT)
    assert (summary.n_new, summary.n_bad) == (1, 0)
    assert not errors_path(OUT).exists()


def test_what_failed_is_tried_again_next_time(ledger: Ledger) -> None:
    def moody(call: Call) -> str:
        if call.messages[-1].content == "question 1":
            raise ConnectionError("nobody there")
        return "well"

    write(QUERIES, numbered(3))
    summary = answer(make_conclave(ledger, [FakeExpert("echo", moody)]), QUERIES, OUT)
    assert (summary.n_answered, summary.n_failed) == (2, 1)
    [told] = read(errors_path(OUT))
    assert (told["id"], told["error"]["type"]) == ("q1", "ExpertFailure")
    assert "nobody there" in told["error"]["message"]
    assert answer(make_conclave(ledger), QUERIES, OUT).n_answered == 3
    assert [r["id"] for r in read(OUT)][-1] == "q1"


def test_a_server_that_is_down_stops_the_batch(ledger: Ledger) -> None:
    def down(call: Call) -> str:
        raise ConnectionError("nobody there")

    write(QUERIES, numbered(HOPELESS * 3))
    conclave = make_conclave(ledger, [FakeExpert("echo", down)])
    summary = answer(conclave, QUERIES, OUT, in_flight=50)
    assert "nobody there" in str(summary.stopped)
    assert summary.n_failed == HOPELESS
    assert answer(make_conclave(ledger), QUERIES, OUT).n_answered == HOPELESS * 3


@pytest.mark.parametrize("expert", [FakeExpert, OneByOne], ids=str)
def test_the_budget_is_never_passed_and_nothing_is_answered_worse(
    ledger: Ledger, expert: type
) -> None:
    def fresh() -> FakeExpert:
        return OneByOne("echo") if expert is OneByOne else FakeExpert("echo", echo)

    write(QUERIES, [{**q, "max_tokens": 4} for q in numbered(50)])
    # A call costs five millionths (two words asked, three said), and may cost 45.
    spent, n = 0.0, 0
    for budget in (1e-4, 2e-4):
        conclave = make_conclave(ledger, [fresh()])
        summary = answer(conclave, QUERIES, OUT, max_cost_usd=budget, in_flight=10)
        assert spent < summary.cost_usd <= budget
        assert "limit" in str(summary.stopped)
        assert n < summary.n_answered == len(read(OUT)) < 50
        assert summary.n_failed == 0
        spent, n = summary.cost_usd, summary.n_answered
    assert answer(make_conclave(ledger), QUERIES, OUT).n_answered == 50
    assert len(ledger.rows("SELECT * FROM calls")) == 50


def test_progress_counts_what_earlier_processes_did(ledger: Ledger) -> None:
    answer(make_conclave(ledger), write(QUERIES, numbered(3)), OUT)
    seen: list[BatchProgress] = []
    answer(make_conclave(ledger), write(QUERIES, numbered(5)), OUT, on_progress=seen.append)
    assert [p.n_answered for p in seen] == [3, 4, 5]
    assert {p.n_queries for p in seen} == {5}
    assert seen[-1].cost_usd == pytest.approx(ledger.total_cost_usd())


def test_answers_of_another_file_are_refused(ledger: Ledger) -> None:
    conclave = make_conclave(ledger)
    answer(conclave, write(QUERIES, numbered(3)), OUT)
    before = OUT.read_bytes()
    other = write(Path("other.jsonl"), [{"question": "something else"}])
    with pytest.raises(DataError, match="it is of another file"):
        answer(conclave, other, OUT)
    changed = write(Path("changed.jsonl"), [{"id": "q0", "question": "changed"}, *numbered(3)[1:]])
    with pytest.raises(DataError, match="'q0' to something else than line 1 asks"):
        answer(conclave, changed, OUT)
    with pytest.raises(UserError, match="begun with --model echo"):
        answer(conclave, QUERIES, OUT, model="conclave")
    Path("answers.jsonl.batch").unlink()
    with pytest.raises(UserError, match="Move it away"):
        answer(conclave, QUERIES, OUT)
    assert OUT.read_bytes() == before


def test_a_batch_whose_answers_were_taken_away_is_a_new_one(ledger: Ledger) -> None:
    write(QUERIES, numbered(3))
    answer(make_conclave(ledger), QUERIES, OUT)
    OUT.unlink()
    answer(make_conclave(ledger), QUERIES, OUT)
    assert len(ledger.rows("SELECT * FROM calls")) == 6


def test_what_is_no_batch_is_refused_with_advice(ledger: Ledger) -> None:
    conclave = make_conclave(ledger)
    Path("empty.jsonl").write_text("\n \n")
    with pytest.raises(DataError, match=r'is empty. A line asks one question: {"question"'):
        answer(conclave, Path("empty.jsonl"), OUT)
    with pytest.raises(DataError, match="is no file"):
        answer(conclave, Path("nowhere.jsonl"), OUT)
    write(QUERIES, numbered(1))
    with pytest.raises(DataError, match=r"would write over it \(queries.jsonl\)"):
        answer(conclave, QUERIES, QUERIES)
    again = Path(f"{OUT.stem}.errors.jsonl")  # the last run's errors, mended
    write(again, numbered(1))
    with pytest.raises(DataError, match=r"would write over it \(answers.errors.jsonl\)"):
        answer(conclave, again, OUT)
    assert again.read_text()
    with pytest.raises(DataError, match="There is no folder"):
        answer(conclave, QUERIES, Path("nowhere/answers.jsonl"))


@pytest.mark.parametrize(
    "theirs",
    [
        '{"question": "mine"}\n',
        '{"line": 1, "id": null, "error": {}}\nnotes\n',
        '{"line": "1", "error": {}}\n',
        "[]\n",
        "notes without an end",
    ],
)
@pytest.mark.parametrize("beside", ["answers.errors.jsonl", "answers.jsonl.batch"])
def test_a_file_of_another_s_beside_the_answers_is_left_alone(
    ledger: Ledger, beside: str, theirs: str
) -> None:
    write(QUERIES, numbered(1))
    Path(beside).write_text(theirs)
    with pytest.raises(UserError, match=rf"^{beside} .* Move it away, or name another --out"):
        answer(make_conclave(ledger), QUERIES, OUT)
    assert Path(beside).read_text() == theirs
    assert not OUT.exists()


@pytest.mark.parametrize("tail", [b"", b'{"li', b'{"line": 7, "id"', b"\0\0\0\n"])
def test_errors_that_a_killed_run_told_are_its_own(ledger: Ledger, tail: bytes) -> None:
    openai = {"custom_id": "a", "body": {"model": "nobody", "messages": []}}
    write(QUERIES, [*numbered(1), "{", openai])
    assert answer(make_conclave(ledger), QUERIES, OUT).n_bad == 2
    with errors_path(OUT).open("ab") as file:
        file.write(tail)
    assert answer(make_conclave(ledger), QUERIES, OUT).n_bad == 2
    assert [r["line"] for r in read(errors_path(OUT))] == [2, 3]


def test_a_strange_line_among_the_answers_is_refused(ledger: Ledger) -> None:
    write(QUERIES, numbered(3))
    answer(make_conclave(ledger), QUERIES, OUT)
    lines = OUT.read_text().splitlines()
    for strange in ("?", '{"id": "q9"}', lines[0]):
        write(OUT, [*lines[:2], strange, lines[2]])
        with pytest.raises(DataError, match="line 3"):
            answer(make_conclave(ledger), QUERIES, OUT)


def test_two_processes_do_not_write_one_file(ledger: Ledger) -> None:
    write(QUERIES, numbered(3))
    conclave = make_conclave(ledger)
    nested: list[str] = []

    def again(progress: BatchProgress) -> None:
        from orchestrator.batch.claim import Claim

        with pytest.raises(UserError, match="Another process"):
            Claim(OUT, model="echo")
        nested.append("refused")

    answer(conclave, QUERIES, OUT, on_progress=again)
    assert nested


def test_a_disk_that_fills_loses_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write(QUERIES, numbered(200))
    real, n_written = os.write, 0

    def full(fd: int, data: memoryview) -> int:
        nonlocal n_written
        if isinstance(data, memoryview):
            n_written += 1
            if n_written == 2:
                return real(fd, data[:100])
            if n_written > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr("orchestrator.batch.run.BLOCK", 64)
    monkeypatch.setattr("orchestrator.batch.run.BLOCK_S", 600.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(UserError, match=r"the disk is full\. Nothing is lost"):
            answer(make_conclave(ledger), QUERIES, OUT)
    assert len(read(OUT)) == 64
    paid = len(ledger.rows("SELECT * FROM calls"))
    assert answer(make_conclave(ledger), QUERIES, OUT).n_answered == 200
    assert len(ledger.rows("SELECT * FROM calls")) == max(paid, 200)


def test_a_line_that_is_changed_while_the_batch_runs_is_for_the_next_run(ledger: Ledger) -> None:
    lines = numbered(3)
    write(QUERIES, lines)
    changed = [*lines[:2], {"id": "q2", "question": "question 7"}]  # as long as it was

    def change(progress: BatchProgress) -> None:
        if not progress.is_reading:
            write(QUERIES, changed)

    summary = answer(make_conclave(ledger), QUERIES, OUT, on_progress=change)
    assert (summary.n_answered, summary.n_left) == (2, 1)
    assert answer(make_conclave(ledger), QUERIES, OUT).n_new == 1
    assert {r["id"]: r["text"] for r in read(OUT)}["q2"] == "so: question 7"


def test_what_cannot_be_written_before_the_start_is_told_without_a_traceback(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(QUERIES, numbered(1))

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match=r"the disk is full\. Nothing is lost"):
            answer(make_conclave(ledger), QUERIES, OUT)
    assert answer(make_conclave(ledger), QUERIES, OUT).n_answered == 1


class Holding(OneByOne):
    """Knows how much it has been asked, and not answered yet. One answer after the other, so that
    there is always something in flight."""

    def __init__(self) -> None:
        super().__init__("echo", prices=FREE, context_tokens=1 << 20, latency_s=0.003)
        self._slots = asyncio.Semaphore(1)
        self.held: list[str] = []
        self.seen: list[tuple[int, int]] = []
        """Questions held, and their characters, at each that came."""

    async def complete_each(
        self, calls: Sequence[Call], tell: Callable[[int, Completion], None]
    ) -> None:
        for call in calls:
            self.held.append(call.messages[-1].content)
            self.seen.append((len(self.held), sum(map(len, self.held))))

        def told(i: int, completion: Completion) -> None:
            self.held.remove(calls[i].messages[-1].content)
            tell(i, completion)

        await super().complete_each(calls, told)


def test_so_many_bytes_are_in_flight_and_a_larger_line_goes_alone(ledger: Ledger) -> None:
    sizes = [*[900] * 30, 50_000, *[900] * 30, 10_001]
    write(QUERIES, [{"question": f"{i:4} {'x' * n}"} for i, n in enumerate(sizes)])
    expert = Holding()
    conclave = make_conclave(ledger, [expert])
    summary = answer(conclave, QUERIES, OUT, in_flight_bytes=10_000)
    assert summary.n_answered == len(sizes)
    assert max(n for n, _ in expert.seen) == 10
    assert [n for n, n_chars in expert.seen if n_chars > 10_000] == [1, 1]


def test_a_line_s_choices_share_its_bytes(ledger: Ledger) -> None:
    messages = [{"role": "user", "content": "x" * 4000}]
    body = {"model": "echo", "messages": messages, "n": 2}
    write(QUERIES, [{"custom_id": str(i), "body": body} for i in range(4)])
    expert = Holding()
    assert answer(make_conclave(ledger, [expert]), QUERIES, OUT, in_flight_bytes=9000).n_new == 4
    assert max(n for n, _ in expert.seen) == 4


def test_answers_that_give_much_back_are_written_in_smaller_blocks(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.batch.run.BLOCK_S", 600.0)
    write(QUERIES, [{**q, "metadata": "x" * (BLOCK_BYTES // 4)} for q in numbered(9)])
    sizes = []

    def look(progress: BatchProgress) -> None:
        sizes.append(OUT.stat().st_size)

    answer(make_conclave(ledger, [OneByOne("echo")]), QUERIES, OUT, on_progress=look)
    assert len(set(sizes)) == 3  # nothing, four, eight; the last is written in the end


def test_lines_are_known_by_what_they_ask() -> None:
    def digest(text: str) -> str:
        line = read_line(text.encode(), 3, model="echo")
        assert not isinstance(line, BadLine)
        return line.digest

    one = json.dumps({"id": "a", "question": "?"})
    assert digest(one) == digest(f"{one}\r\n")
    assert digest(one) != digest(one.replace("?", "!"))
    assert digest(one) != digest(one.replace('"a"', '"b"'))
