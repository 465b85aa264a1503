"""The queue of questions that nobody covers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from experts.values import Message, Query
from orchestrator.gaps import clusters, gaps_of, queue, week_of
from orchestrator.ledger import Ledger

DIRECTIONS = {"bird": 0, "coin": 1, "star": 2}
WEEK_S = 7 * 86_400.0


def embed(texts: Sequence[str]) -> np.ndarray:
    """By the word that a question has of these; questions about one thing are nearly the same."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.05, (len(texts), 8))
    for row, text in zip(vectors, texts, strict=True):
        row[next(i for word, i in DIRECTIONS.items() if word in text)] += 1
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def asked(
    ledger: Ledger,
    text: str,
    *,
    plan: str = "single",
    is_general: bool = False,
    notes: Sequence[str] = (),
    at_stake_usd: float = 0.01,
    cost_usd: float = 0.001,
) -> str:
    """A question with its decision and answer, as a server writes them."""
    n = ledger.rows("SELECT COUNT(*) AS n FROM decisions")[0]["n"]
    query = Query(
        query_id=f"q{n}",
        messages=(
            Message(role="user", content="Something before"),
            Message(role="assistant", content="Yes"),
            Message(role="user", content=text),
        ),
        fallback_price_usd=at_stake_usd,
    )
    decision = {
        "decision_id": f"dec-{n}",
        "query_id": query.query_id,
        "policy": "conclave",
        "plan": plan,
        "reason": "",
        "fallback_price_usd": at_stake_usd,
        "scores": json.dumps({} if plan == "only" else {"is_general": is_general}),
        "p_correct": None,
        "expected_cost_usd": None,
        "router_cost_usd": 0.0,
        "router_s": 0.0,
        "account": "",
    }
    ledger.add_decisions([query], [decision], source="test")
    answer = {
        "decision_id": f"dec-{n}",
        "answer": "",
        "contributors": "[]",
        "p_correct": None,
        "abstained": int(plan == "abstain"),
        "cost_usd": 0.0 if plan == "abstain" else cost_usd,
        "latency_s": 0.0,
        "notes": json.dumps(list(notes)),
    }
    ledger.add_answers([answer])
    return f"dec-{n}"


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    asked(ledger, "Which bird sings?")  # like what is known
    asked(ledger, "Which bird is white?", plan="only", is_general=True)  # by an expert's name
    wrong = asked(ledger, "Which bird dives?", is_general=True)
    asked(ledger, "Which bird does not fly?", is_general=True)
    asked(ledger, "Whose head is on the coin?", plan="abstain", at_stake_usd=0.5)
    asked(ledger, "How far is the star?", notes=["a: 7", "coverage gap: nobody is right with 50 %"])
    assert ledger.add_feedback(wrong, 0.0, None)
    return ledger


def test_what_is_about_the_same_stands_together_and_the_dearest_first(filled: Ledger) -> None:
    coin, birds, star = queue(gaps_of(filled), embed)
    assert (coin.n, coin.kinds, coin.at_stake_usd, coin.cost_usd) == (1, {"not asked": 1}, 0.5, 0)
    assert birds.kinds == {"unknown": 2}
    assert set(birds.decision_ids) == {"dec-2", "dec-3"}
    assert (birds.right, birds.n_judged) == (0.0, 1)
    assert birds.at_stake_usd == pytest.approx(0.02)
    assert birds.example in ("Which bird dives?", "Which bird does not fly?")
    assert (star.kinds, star.right) == ({"uncovered": 1}, None)


def test_the_latest_verdict_on_an_answer_is_told(ledger: Ledger) -> None:
    decision_id = asked(ledger, "Which bird dives?", is_general=True)
    for score in (0.0, 0.5, 1.0):
        assert ledger.add_feedback(decision_id, score, None)
    assert [gap.score for gap in gaps_of(ledger)] == [1.0]


def test_nothing_from_before_is_told(filled: Ledger) -> None:
    [*_, last] = gaps_of(filled)
    assert gaps_of(filled, since_s=last.at + 1) == []
    assert queue([], embed) == []


def test_weeks_are_apart_even_where_questions_are_the_same(filled: Ledger) -> None:
    from dataclasses import replace

    [gap, *_] = gaps_of(filled)
    found = queue([gap, replace(gap, at=gap.at + WEEK_S)], embed)
    assert [c.week for c in found] == [week_of(gap.at + WEEK_S), week_of(gap.at)]


@pytest.mark.parametrize("n", [0, 1])
def test_one_question_is_a_cluster(n: int) -> None:
    assert clusters(np.ones((n, 3))).tolist() == [0] * n
