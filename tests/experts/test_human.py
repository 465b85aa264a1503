"""A person as an expert: asked through a desk, waited for, paid for answers only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experts.cards import ExpertCard, Prices
from experts.errors import UnknownName, UserError
from experts.expert import TellingExpert
from experts.human.desk import Desk, Question
from experts.human.expert import CONTEXT_TOKENS, HumanExpert
from experts.values import Arm, Call, Completion, Delta, Message, Sampling


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "people.sqlite")


def person(desk: Desk, *, deadline_s: float = 1e6) -> HumanExpert:
    card = ExpertCard(
        name="ann",
        kind="human",
        description="knows",
        prices=Prices.a_call(0.5),
        context_tokens=CONTEXT_TOKENS,
    )
    return HumanExpert(card, desk, deadline_s=deadline_s, instructions="Briefly.", look_s=0.001)


def call(text: str = "Who?", **more: object) -> Call:
    return Call(
        query_id="q-1",
        arm=Arm("ann"),
        messages=(Message(role="system", content="Be kind."), Message(role="user", content=text)),
        sampling=Sampling(),
        **more,  # type: ignore[arg-type]
    )


async def while_asked(
    expert: HumanExpert, calls: list[Call], do: Callable[[list[Question]], None]
) -> list[Completion]:
    """Completions, with ``do`` done when all are on the desk."""
    work = asyncio.ensure_future(expert.complete(calls))
    while len(expert.desk.waiting()) < len(calls):
        await asyncio.sleep(0)
    do(expert.desk.waiting())
    return await work


def test_an_answer_is_a_completion_that_costs_what_it_costs(desk: Desk) -> None:
    def answer(waiting: list[Question]) -> None:
        for q in waiting:
            asked = q.messages[-1][1]
            desk.answer(q.question_id, f" Answer: {asked}!\n")

    expert = person(desk)
    assert isinstance(expert, TellingExpert)
    first, second = asyncio.run(while_asked(expert, [call("Who?"), call("Why?")], answer))
    assert (first.text, first.answer, first.cost_usd) == ("Answer: Who?!", "Who?!", 0.5)
    assert second.answer == "Why?!"
    assert first.usage.input_tokens == 0
    assert expert.card.most_usd(call()) == 0.5


def test_whoever_answers_sees_everything(desk: Desk) -> None:
    expert = person(desk)
    expert.ask_ahead(call(), "run-1")
    [question] = desk.waiting()
    assert question.messages == (("system", "Be kind."), ("user", "Who?"))
    assert (question.instructions, question.price_usd) == ("Briefly.", 0.5)
    assert question.run_id == "run-1"


@pytest.mark.parametrize("limits", [{"deadline_s": 0.01}, {"timeout_s": 0.01}])
def test_no_answer_in_time_fails_and_costs_nothing(desk: Desk, limits: dict[str, float]) -> None:
    expert = person(desk, deadline_s=limits.get("deadline_s", 1e6))
    [completion] = asyncio.run(expert.complete([call(timeout_s=limits.get("timeout_s"))]))
    assert not completion.ok
    assert completion.error_code == "timeout"
    assert completion.cost_usd == 0
    assert desk.waiting() == []
    with pytest.raises(UserError, match="its time was up"):
        desk.answer(completion.error.split()[4], "late")  # type: ignore[union-attr]


def test_who_waits_no_more_leaves_no_question(desk: Desk) -> None:
    async def given_up() -> list[Completion]:
        expert = person(desk)
        work = asyncio.ensure_future(expert.complete([call()]))
        while not desk.waiting():
            await asyncio.sleep(0)
        work.cancel()
        return await work

    [completion] = asyncio.run(given_up())
    assert (completion.finish_reason, completion.cost_usd) == ("cancelled", 0)
    assert desk.waiting() == []


def test_asked_again_by_another_process_it_finds_the_answer(desk: Desk) -> None:
    asked = person(desk).ask_ahead(call(), "run-1")
    desk.answer(asked.question_id, "Ann")
    [completion] = asyncio.run(person(Desk(desk_path(desk))).complete([call(timeout_s=1e-9)]))
    assert completion.text == "Ann"


def desk_path(desk: Desk) -> Path:
    return Path(desk._db.execute("PRAGMA database_list").fetchone()["file"])


def test_another_sample_or_text_is_another_question(desk: Desk) -> None:
    expert = person(desk)
    for other in (call(), call(sample=1), call("Why?"), replace(call(), query_id="q-2"), call()):
        expert.ask_ahead(other, "run-1")
    assert len(desk.waiting()) == 4


def test_a_stream_is_the_answer_at_once(desk: Desk) -> None:
    async def streamed() -> list[Delta | Completion]:
        expert = person(desk)
        desk.answer(expert.ask_ahead(call(), "run-1").question_id, "Ann")
        return [piece async for piece in expert.stream(call())]

    delta, completion = asyncio.run(streamed())
    assert isinstance(delta, Delta)
    assert delta.text == "Ann"
    assert isinstance(completion, Completion)
    assert completion.cost_usd == 0.5


@pytest.mark.parametrize("text", ["", "  \n", "x" * 100_001, "half \ud800"])
def test_what_is_no_answer_is_refused(desk: Desk, text: str) -> None:
    asked = person(desk).ask_ahead(call(), "run-1")
    with pytest.raises(UserError):
        desk.answer(asked.question_id, text)
    assert desk.waiting() == [asked]


def test_a_question_is_answered_once(desk: Desk) -> None:
    asked = person(desk).ask_ahead(call(), "run-1")
    desk.answer(asked.question_id, "Ann")
    with pytest.raises(UserError, match="answered already"):
        desk.answer(asked.question_id, "Bob")
    assert desk.look(asked.question_id).answer == "Ann"
    with pytest.raises(UnknownName, match="Unknown question 'h-0'"):
        desk.answer("h-0", "Ann")


def test_late_stays_late_whatever_clock_is_asked(tmp_path: Path) -> None:
    now = [time.time()]
    desk = Desk(tmp_path / "people.sqlite", now=lambda: now[0])
    asked = person(desk, deadline_s=10).ask_ahead(call(), "run-1")
    now[0] += 100
    assert desk.waiting() == []
    now[0] -= 100
    with pytest.raises(UserError, match="its time was up"):
        desk.answer(asked.question_id, "Ann")


def test_a_file_that_is_no_desk_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "people.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match="cannot be used for questions to people"):
        Desk(tmp_path / "people.sqlite")
