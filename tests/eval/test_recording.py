"""Recording: nothing that was paid is lost, nothing is asked twice, corrections count."""

from __future__ import annotations

import asyncio

import pytest

from eval.questions import Question
from eval.recording import record_outcomes
from experts.errors import DataError
from experts.expert import Expert
from experts.fake import FakeExpert
from orchestrator.ledger import Ledger
from tests import pools

ASKED = pools.questions()[:20]


def record(ledger: Ledger, asked: list[Question] = ASKED, **options: object) -> object:
    experts = options.pop("experts", pools.experts())
    return asyncio.run(record_outcomes(asked, experts, ledger, **options))


def test_it_goes_on_where_it_stopped(ledger: Ledger) -> None:
    some, rest = record(ledger, ASKED[:10]), record(ledger)
    assert (some.n_asked, some.n_skipped) == (30, 0)
    assert (rest.n_asked, rest.n_skipped) == (30, 30)


def test_it_stops_at_its_budget_and_loses_nothing(ledger: Ledger) -> None:
    first = record(ledger, budget_usd=1e-9)
    assert first.stopped_by_budget
    second = record(ledger)
    assert not second.stopped_by_budget
    assert second.n_skipped == first.n_asked
    assert first.cost_usd + second.cost_usd == pytest.approx(ledger.total_cost_usd())


def test_an_interruption_keeps_what_was_paid(ledger: Ledger) -> None:
    """Stopped while the second expert is at work: the first one's answers are graded and kept, and
    the half-done call is on the bill."""
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
    half_done = [c.completion for c in calls if c.score is None]
    assert half_done
    assert {c.finish_reason for c in half_done} == {"cancelled"}
    assert all(c.cost_usd > 0 for c in half_done)


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
