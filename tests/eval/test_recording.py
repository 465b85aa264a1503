"""Recording: nothing that was paid is lost, nothing is asked twice, corrections count."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from eval.commands.record import format_summary
from eval.outcomes.from_ledger import matrix_of_ledger
from eval.outcomes.splits import split_of
from eval.questions import Question
from eval.recording.grading import Judge
from eval.recording.record import RecordingSummary, record_outcomes
from experts.cards import ExpertCard, Prices
from experts.errors import ConfigError, DataError, UserError
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.remote.expert import RemoteExpert
from experts.remote.openai_wire import OpenAIWire
from experts.values import Arm, Call, Completion, Limits, failed_completion
from orchestrator.drivers.live import run_live
from orchestrator.drivers.run import Run
from orchestrator.ledger import Ledger
from orchestrator.strategies.single import only
from tests import pools
from tests.openai_stub import OpenAIStub, failing, saying
from tests.orchestrator.batch.batches import OneByOne

ASKED = pools.questions()[:20]


def record(ledger: Ledger, asked: list[Question] = ASKED, **options: object) -> object:
    experts = options.pop("experts", pools.experts())
    return asyncio.run(record_outcomes(asked, experts, ledger, **options))


def test_it_goes_on_where_it_stopped(ledger: Ledger) -> None:
    some, rest = record(ledger, ASKED[:10]), record(ledger)
    assert (some.n_asked, some.n_skipped) == (30, 0)
    assert (rest.n_asked, rest.n_skipped) == (30, 30)


def test_every_answer_is_graded_where_they_come_one_by_one(ledger: Ledger) -> None:
    experts = {"echo": OneByOne("echo")}
    assert record(ledger, experts=experts).n_ungraded == 0
    assert all(call.score is not None for call in ledger.recorded_calls())


def test_it_stops_at_its_budget_and_loses_nothing(ledger: Ledger) -> None:
    first = record(ledger, budget_usd=1e-9)
    assert first.stopped_by_budget
    second = record(ledger)
    assert not second.stopped_by_budget
    assert second.n_skipped == first.n_asked
    assert first.cost_usd + second.cost_usd == pytest.approx(ledger.total_cost_usd())


def test_a_budget_that_is_too_little_for_anything_says_what_would_do(ledger: Ledger) -> None:
    nothing = record(ledger, budget_usd=0)
    assert (nothing.n_asked, nothing.stopped_by_budget) == (0, True)
    assert f"{nothing.next_call_usd:.2e} $. Give a larger" in format_summary(nothing)[-1]
    assert record(ledger, budget_usd=nothing.next_call_usd).n_asked >= 1


def test_an_interruption_keeps_what_was_paid(ledger: Ledger) -> None:
    """Stopped while the second expert is at work: the first one's answers are graded and kept, and
    the half-done calls are on the bill."""
    slow = FakeExpert("slow", {}, latency_s=600)
    experts: dict[str, Expert] = {"fast": FakeExpert("fast", {}), "slow": slow}

    async def interrupt() -> None:
        work = asyncio.ensure_future(record_outcomes(ASKED, experts, ledger))
        while not slow.batches:
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(interrupt())
    calls = list(ledger.recorded_calls())
    graded = [c for c in calls if c.score is not None]
    assert {c.completion.call.arm.expert for c in graded} == {"fast"}
    assert len(graded) == len(ASKED)
    half = [c for c in calls if c.score is None]
    assert half
    assert {c.completion.finish_reason for c in half} == {"cancelled"}
    assert all(c.completion.cost_usd > 0 for c in half)


def test_a_corrected_question_is_graded_again_without_asking(ledger: Ledger) -> None:
    wrong = Question(question="What is the symbol of gold?", answer="Ag", skill="symbl")
    right = wrong.model_copy(update={"answer": "Au", "skill": "symbol", "split": "test"})
    experts = {"chemist": FakeExpert("chemist", {wrong.question: "Au"})}
    record(ledger, [wrong], experts=experts)
    assert [c.score for c in ledger.recorded_calls()] == [0.0]
    again = record(ledger, [right], experts=experts)
    assert again.n_asked == 0
    [call] = ledger.recorded_calls()
    assert (call.score, call.skill, call.split) == (1.0, "symbol", "test")


def test_latency_is_learned_from_calls_made_alone_all_over_and_last(ledger: Ledger) -> None:
    expert = FakeExpert("it", {})
    record(ledger, pools.questions(120), experts={"it": expert}, n_samples=2)
    sizes = [len(batch) for batch in expert.batches]
    assert sizes == [2 * 120 - 8] + [1] * 8
    alone = [batch[0] for batch in expert.batches[1:]]
    assert {c.sample for c in alone} == {0}
    order = [q.query_id for q in pools.questions(120)]
    places = [order.index(c.query_id) for c in alone]
    assert max(places) > 100 > 20 > min(places)
    known = [c for c in ledger.recorded_calls() if c.completion.n_batch == 1]
    assert len(known) == 8


def test_other_weights_are_asked_again(ledger: Ledger) -> None:
    for version in ("1", "2"):
        summary = record(ledger, experts={"it": FakeExpert("it", {}, version=version)})
        assert summary.n_asked == len(ASKED)


def test_a_question_that_an_expert_cannot_read_is_wrong_and_not_asked_for_ever(
    ledger: Ledger,
) -> None:
    long = Question(question="word " * 50, answer="x")
    experts = {"short": FakeExpert("short", {}, context_tokens=20)}
    record(ledger, [long], experts=experts)
    assert [c.score for c in ledger.recorded_calls()] == [0.0]
    assert record(ledger, [long], experts=experts).n_asked == 0


def test_a_question_that_a_content_filter_refuses_is_wrong_and_not_asked_for_ever(
    ledger: Ledger,
) -> None:
    stub = OpenAIStub({}, *[failing(400, "Triggered our content management policy.")] * 9)
    prices = Prices(input_usd_per_mtok=1, output_usd_per_mtok=1)
    card = ExpertCard(name="it", kind="openai", description="", prices=prices, context_tokens=1000)

    async def twice() -> tuple[RecordingSummary, RecordingSummary]:
        async with stub.running():
            experts = {"it": RemoteExpert(card, OpenAIWire(stub.url, "words"))}
            first = await record_outcomes(ASKED[:3], experts, ledger)
            return first, await record_outcomes(ASKED[:3], experts, ledger)

    first, again = asyncio.run(twice())
    assert (first.n_asked, first.cost_usd, again.n_asked) == (3, 0, 0)
    assert [c.score for c in ledger.recorded_calls()] == [0.0] * 3


def test_a_call_that_failed_says_nothing_and_is_tried_again(ledger: Ledger) -> None:
    def down(call: object) -> str:
        raise ConnectionError("down")

    first = record(ledger, experts={"it": FakeExpert("it", down)})
    assert first.n_failed == len(ASKED)
    second = record(ledger, experts={"it": FakeExpert("it", {})})
    assert (second.n_asked, second.n_failed) == (len(ASKED), 0)


def test_two_questions_of_one_id_are_refused(ledger: Ledger) -> None:
    one, two = (Question(question=q, answer="x", id="same") for q in ("What?", "Why?"))
    with pytest.raises(DataError, match="Two questions have the id 'same'"):
        record(ledger, [one, two])
    assert list(ledger.recorded_calls()) == []


def test_any_of_the_right_answers_is_right() -> None:
    question = Question(question="Money of India?", answer="rupee", also_right=("Indian rupee",))
    assert [question.score(a) for a in ("Rupee", "Indian rupee.", "yen")] == [1.0, 1.0, 0.0]


def test_a_budget_is_never_passed_and_used_well(ledger: Ledger) -> None:
    """The most that a call may cost is reserved: at 1 $ a million tokens some 200 of 180 bytes."""
    asked = pools.questions(120)
    whole = record(Ledger(":memory:"), asked).cost_usd
    budget = whole / 2
    spent = 0.0
    first = record(ledger, asked, budget_usd=budget)
    spent += first.cost_usd
    assert first.stopped_by_budget
    assert 0.2 * budget < spent <= budget
    assert ledger.total_cost_usd() == pytest.approx(spent)


def test_retries_that_may_be_paid_pass_neither_a_budget_nor_a_limit(ledger: Ledger) -> None:
    """The server is paid for replies that are none; three tries a call would pass both."""
    stub = OpenAIStub({}, *[saying(b"<html>")] * 99)
    prices = Prices(input_usd_per_mtok=1, output_usd_per_mtok=1)
    card = ExpertCard(name="it", kind="openai", description="", prices=prices, context_tokens=1000)
    budget = 5 * card.most_usd(ASKED[0].call(Arm("it")))

    async def inside() -> tuple[float, float]:
        async with stub.running():
            expert = RemoteExpert(card, OpenAIWire(stub.url, "words"))
            summary = await record_outcomes(ASKED, {"it": expert}, ledger, budget_usd=budget)
            steps = only(ASKED[0].query(1.0), Arm("it"))
            run = Run(steps, Limits(max_cost_usd=budget / 2), Pool.of([expert]))
            answer = await run_live(run, {"it": expert}, lambda made: None)
            return summary.cost_usd, answer.cost_usd

    recorded, answered = asyncio.run(inside())
    assert 0 < recorded <= budget
    assert 0 < answered <= budget / 2


JUDGED = [q.model_copy(update={"grader": "judge_pointwise(scale=1)"}) for q in ASKED]


def judging(says: str) -> Judge:
    expert = FakeExpert("judge", lambda call: says)
    return Judge(arm=Arm("judge"), expert=expert)


def test_a_judge_is_charged_shown_and_not_asked_twice(ledger: Ledger) -> None:
    experts = {"it": FakeExpert("it", {})}
    judge = judging("Grade: 1")
    first = record(ledger, JUDGED, experts=experts, judge=judge)
    judged = ledger.rows("SELECT * FROM calls WHERE purpose = 'judge'")
    assert len(judged) == len(JUDGED)
    assert first.judge_usd == pytest.approx(sum(row["cost_usd"] for row in judged))
    assert first.cost_usd == pytest.approx(ledger.total_cost_usd())
    assert {c.score for c in ledger.recorded_calls()} == {1.0}
    again = record(ledger, JUDGED, experts=experts, judge=judge)
    assert (again.n_asked, again.cost_usd) == (0, 0)


def test_what_a_judge_did_not_grade_is_put_to_it_again_without_asking_the_expert(
    ledger: Ledger,
) -> None:
    experts = {"it": FakeExpert("it", {})}
    first = record(ledger, JUDGED, experts=experts, judge=judging("Well."))
    assert first.n_ungraded == len(JUDGED)
    second = record(ledger, JUDGED, experts=experts, judge=judging("Grade: 0"))
    assert (second.n_asked, second.n_ungraded) == (0, 0)
    assert {c.score for c in ledger.recorded_calls()} == {0.0}


def test_judging_counts_in_the_budget(ledger: Ledger) -> None:
    experts = {"it": FakeExpert("it", {})}
    whole = record(Ledger(":memory:"), JUDGED, experts=experts, judge=judging("Grade: 1"))
    summary = record(
        ledger, JUDGED, experts=experts, judge=judging("Grade: 1"), budget_usd=whole.cost_usd
    )
    assert summary.stopped_by_budget
    assert ledger.total_cost_usd() <= whole.cost_usd


@pytest.mark.parametrize(
    ("question", "error", "complaint"),
    [
        (JUDGED[0], ConfigError, "--judge NAME"),
        (Question(question="?", answer="many", grader="numeric"), DataError, "exactly one"),
    ],
)
def test_what_cannot_be_graded_is_refused_before_anything_is_paid(
    ledger: Ledger, question: Question, error: type[Exception], complaint: str
) -> None:
    expert = FakeExpert("it", {})
    with pytest.raises(error, match=complaint):
        record(ledger, [question], experts={"it": expert})
    assert expert.batches == []


def test_code_that_cannot_be_shut_off_is_refused_before_anything_is_paid(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.graders.code.why_not", lambda walls: "no namespaces")
    monkeypatch.delenv("CONCLAVE_UNISOLATED_CODE", raising=False)
    question = Question(question="Double x.", answer="assert double(2) == 4", grader="code")
    expert = FakeExpert("it", {})
    with pytest.raises(UserError, match="CONCLAVE_UNISOLATED_CODE=1"):
        record(ledger, [question], experts={"it": expert})
    assert expert.batches == []


def test_grading_leaves_the_event_loop_free(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grader that waits for the loop would wait for ever, were it run in it."""
    ticked = threading.Event()

    def score(self: Question, answer: str) -> float:
        assert ticked.wait(10)
        return 1.0

    monkeypatch.setattr(Question, "score", score)

    async def both() -> None:
        work = asyncio.ensure_future(
            record_outcomes(ASKED[:1], {"it": FakeExpert("it", {})}, ledger)
        )
        while not list(ledger.recorded_calls()):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, ticked.set)
        await work

    asyncio.run(both())
    assert [c.score for c in ledger.recorded_calls()] == [1.0]


def test_an_expert_whose_key_is_refused_is_given_up_after_one_batch(ledger: Ledger) -> None:
    class Refused(FakeExpert):
        async def complete(self, calls: Sequence[Call]) -> list[Completion]:
            self.batches.append(tuple(calls))
            return [failed_completion(c, "bad key", "auth") for c in calls]

    refused = Refused("refused", {})
    summary = record(ledger, experts={"refused": refused, "fine": FakeExpert("fine", {})})
    assert summary.given_up == {"refused": "bad key"}
    assert len(refused.batches) == 1
    assert len([c for c in ledger.recorded_calls() if c.score is not None]) == len(ASKED)


def test_the_ledger_is_an_outcome_matrix(ledger: Ledger) -> None:
    experts = pools.experts()
    asked = [q.model_copy(update={"split": None}) if i < 4 else q for i, q in enumerate(ASKED)]
    record(ledger, asked, experts=experts, n_samples=2)
    matrix = matrix_of_ledger(ledger, Pool.of(experts.values()))
    assert matrix.models == ("sums", "sums#2", "cities", "cities#2", "generalist", "generalist#2")
    assert not np.isnan(matrix.cost_usd).any()
    sums = matrix.score[:, 0].tolist()
    assert sums == [float(q.skill == "addition") for q in asked]
    assert [q.split for q in matrix.queries] == [q.split or split_of(q.question) for q in asked]
    assert matrix.queries[1].answer == asked[1].answer
    with pytest.raises(DataError, match="no graded outcomes of other"):
        matrix_of_ledger(ledger, Pool.of([FakeExpert("other", {})]))
