"""Stand-ins: a loaded expert answers for one that is not, and is credited, billed and named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest

from experts.cards import Prices
from experts.residency.policies.bounded import BoundedGrouping
from experts.values import Arm, Delta, Limits, Message, Query
from orchestrator.cli.ask import format_explanation, result_object
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config, LearningSettings
from orchestrator.decision import Result
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from routers.confidence import AnswerConfidence
from routers.scores import Scores
from routers.stand_ins import stand_ins
from skills.embedders import HashingEmbedder
from tests.engines import Lab, lab
from tests.shown import shown

P_CORRECT = {"words": 0.9, "logic": 0.88}
"""Models with two tokenizers: a call for one is put into the other's tokens."""
# The router sees no price of loading, as if it had decided before the model was evicted.
PRICES = {
    "words": Prices(input_usd_per_mtok=1e-6, output_usd_per_mtok=1e-6),
    "logic": Prices(input_usd_per_mtok=2e-6, output_usd_per_mtok=2e-6),
}
V = 0.01


def scores_of(p_correct: dict[str, float], n: int = 1) -> Scores:
    arms = tuple(map(Arm, p_correct))
    shape = n, len(arms)
    return Scores(
        arms=arms,
        p_correct=np.tile(list(p_correct.values()), (n, 1)),
        sd=np.full(shape, 0.01),
        cost_usd=np.zeros(shape),
        latency_s=np.zeros(shape),
        novelty=np.zeros(n),
        is_general=np.zeros(n, bool),
        skills=("anything",),
        p_skill=np.ones((n, 1)),
    )


def fitted() -> Fitted:
    """A router that believes ``P_CORRECT`` of every question, and knows no plan but one call."""

    def score(texts: Sequence[str], n_chars: np.ndarray, embed: object) -> Scores:
        return scores_of(P_CORRECT, len(texts))

    plans = SimpleNamespace(arms=range(99))
    confidence = AnswerConfidence({})
    return cast(
        Fitted,
        SimpleNamespace(
            score=score,
            outlooks=plans,
            confidence=confidence,
            composer=None,
            competency=None,
            aggregator=None,
            state_id="believes",
        ),
    )


@contextmanager
def conclave(folder: Path, ledger: Ledger, **settings: Any) -> Iterator[tuple[Lab, Conclave]]:
    """``logic`` is loaded, ``words`` is likelier to be right."""
    policy = BoundedGrouping(load_usd_per_s=1e-2)
    made = {"stand_ins": True, "prices": PRICES, "policy": policy, **settings}
    with lab(folder, names=("words", "logic"), **made) as it:
        it.fleet.load("logic", "slot0")
        yield (
            it,
            Conclave(
                it.experts,
                ledger,
                embedder=HashingEmbedder(),
                fitted=fitted(),
                policies=DEFAULT_POLICIES,
                host_usd_per_s=0.0,
                learning=LearningSettings(enabled=False),
            ),
        )


def query(query_id: str = "q", text: str = "Who are you?", **more: Any) -> Query:
    messages = (Message(role="user", content=text),)
    return Query(query_id=query_id, messages=messages, fallback_price_usd=V, **more)


def test_the_loss_is_in_dollars_without_loads() -> None:
    row = scores_of({"a": 0.9, "b": 0.8, "c": 0.95, "d": 0.2, "e": 0.1}).row(0)
    row = replace(row, cost_usd=np.array([0.0, 0.001, 0.002, 0.0, 0.0]))
    assert stand_ins(row, Arm("a"), V) == ()
    row = replace(row, may_stand_in={"a": frozenset("abcd")})
    told = {s.arm.expert: s.loss_usd for s in stand_ins(row, Arm("a"), V)}
    assert list(told) == ["c", "b", "d"]
    assert told["b"] == pytest.approx((0.9 - 0.8) * V + 0.001)
    assert told["c"] == pytest.approx((0.9 - 0.95) * V + 0.002)


def test_who_stood_in_is_named_billed_and_credited(tmp_path: Path, ledger: Ledger) -> None:
    with conclave(tmp_path, ledger) as (it, made):

        async def ask() -> dict[str, Any]:
            app = create_app(made, Config())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://it") as client:
                messages = [{"role": "user", "content": "Who are you?"}]
                body = {"messages": messages, "conclave": {"fallback_price_usd": V}}
                found = await client.post("/v1/chat/completions", json=body)
                return cast(dict[str, Any], found.json())

        response = asyncio.run(ask())
        assert [model for _, model, _ in it.ways] == ["logic"]
        version = it.models["logic"].weights.version
    assert response["choices"][0]["message"]["content"] == "I am logic"
    told = response["conclave"]
    assert told["contributors"] == ["logic"]
    assert told["stand_ins"] == [{"asked": "words", "answered": "logic"}]
    assert told["notes"] == ["logic stood in for words, which was not loaded"]
    assert told["p_correct"] == P_CORRECT["logic"]
    [call] = ledger.rows("SELECT * FROM calls")
    assert (call["expert"], call["version"], call["asked"]) == ("logic", version, "words")
    n_tokens = call["input_tokens"] + call["output_tokens"]
    assert call["cost_usd"] == pytest.approx(n_tokens * 2e-12)
    [answer] = ledger.rows("SELECT * FROM answers")
    assert json.loads(answer["contributors"]) == ["logic"]
    [decision] = ledger.rows("SELECT * FROM decisions")
    [(asked, [other])] = json.loads(decision["scores"])["stand_ins"].items()
    assert (asked, other["arm"]) == ("words", "logic")
    assert other["loss_usd"] == pytest.approx(0.02 * V, abs=1e-9)


def test_the_explanation_says_who_answered_for_whom(tmp_path: Path, ledger: Ledger) -> None:
    with conclave(tmp_path, ledger) as (_, made):
        result = asyncio.run(made.answer(query(), "conclave", source="ask"))
    [call] = result_object(result)["calls"]
    assert (call["arm"], call["stood_in_for"]) == ("logic", "words")
    text = shown(*format_explanation(result))
    assert "logic for words" in text
    assert "Stand-ins for words, if it is not loaded: logic (loses 2.0e-04 $)" in text


def test_a_stream_by_a_stand_in(tmp_path: Path, ledger: Ledger) -> None:
    with conclave(tmp_path, ledger) as (_, made):

        async def streamed() -> list[Delta | Result]:
            pieces = made.stream(query(), "conclave", source="serve")
            return [piece async for piece in pieces]

        *deltas, last = asyncio.run(streamed())
    assert isinstance(last, Result)
    assert "".join(d.text for d in deltas if isinstance(d, Delta)) == "I am logic"
    assert last.answer.contributors == (Arm("logic"),)


def test_nobody_stands_in_unless_the_owner_wants_it(tmp_path: Path, ledger: Ledger) -> None:
    with conclave(tmp_path, ledger, stand_ins=False) as (it, made):
        result = asyncio.run(made.answer(query(), "conclave", source="ask"))
        assert [model for _, model, _ in it.ways] == ["logic", "words"]
    assert result.answer.text == "I am words"
    assert "stand_ins" not in result.decision.explain()


def test_nobody_stands_in_for_an_expert_that_was_named_or_may_alone_be_asked(
    tmp_path: Path, ledger: Ledger
) -> None:
    only = query("q2", limits=Limits(experts=frozenset({"words"})))
    for asked, target in ((query("q1"), "words"), (only, "conclave")):
        folder = tmp_path / asked.query_id
        folder.mkdir()
        with conclave(folder, ledger) as (_, made):
            result = asyncio.run(made.answer(asked, target, source="ask"))
        assert result.answer.text == "I am words"


def test_a_stand_in_that_cannot_read_it_leaves_it_to_the_one_that_was_asked(
    tmp_path: Path, ledger: Ledger
) -> None:
    with conclave(tmp_path, ledger, context_tokens={"logic": 4}) as (it, made):
        result = asyncio.run(made.answer(query(), "conclave", source="ask"))
        assert result.answer.text == "I am words"
        [completion] = result.answer.completions
        assert completion.stood_in_for is None
        assert [model for _, model, _ in it.ways] == ["logic", "words"]


def test_a_stand_in_that_dies_is_tried_again(tmp_path: Path, ledger: Ledger) -> None:
    with conclave(tmp_path, ledger, call_s=0.02) as (it, made):
        it.order("crash_in_call")
        result = asyncio.run(made.answer(query(), "conclave", source="ask"))
    [completion] = result.answer.completions
    assert completion.ok
    assert completion.text == f"I am {completion.call.arm}"


def test_what_a_stand_in_said_is_not_asked_again_after_a_kill(
    tmp_path: Path, ledger: Ledger
) -> None:
    with conclave(tmp_path, ledger) as (_, made):

        async def ask() -> list[Result]:
            asked = made.answer_each([(query(), "conclave")], source="batch", recalls_since_s=0.0)
            return [result async for result in asked]

        for _ in range(2):
            [result] = asyncio.run(ask())
            assert result.answer.contributors == (Arm("logic"),)
            assert result.answer.completions[0].stood_in_for == Arm("words")
    assert len(ledger.rows("SELECT * FROM calls")) == 1


def test_a_limit_on_dollars_holds_for_whoever_answers(tmp_path: Path, ledger: Ledger) -> None:
    dear = {**PRICES, "logic": Prices(input_usd_per_mtok=100.0, output_usd_per_mtok=100.0)}
    with conclave(tmp_path, ledger, prices=dear) as (_, made):
        limited = query(limits=Limits(max_cost_usd=1e-4))
        result = asyncio.run(made.answer(limited, "conclave", source="ask"))
    # It would cost too much by the stand-in, so the call waits for the one that was asked.
    assert result.answer.text == "I am words"
