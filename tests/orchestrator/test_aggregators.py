"""Aggregators: what several completions say together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.answers import extract_answer
from experts.values import Arm, Call, Completion, Sampling
from orchestrator.aggregators import First, Vote, WeightedVote
from routers.scores import QueryScores
from tests import pools

QUERY = pools.query("?")
SCORES = QueryScores(
    arms=(),
    p_correct=np.array([]),
    sd=np.array([]),
    cost_usd=np.array([]),
    latency_s=np.array([]),
    novelty=0,
    is_general=False,
    skills={},
)


def said(text: str, *, p: float = 0.5, expert: str = "e", error: str | None = None) -> Completion:
    """A completion whose log-probability smuggles in how likely it is right."""
    call = Call(query_id="q", arm=Arm(expert), messages=(), sampling=Sampling())
    return Completion(
        call=call, text=text, answer=extract_answer(text), logprob=p, error=error, cost_usd=1.0
    )


def belief(completion: Completion, _: QueryScores) -> float:
    return completion.logprob or 0.0


def test_first_skips_failures() -> None:
    answer = First(belief).merge(QUERY, [said("", error="down"), said("Paris")], SCORES)
    assert answer.text == "Paris"
    assert answer.contributors == (Arm("e"),)


def test_votes_compare_final_answers_not_texts() -> None:
    completions = [said("41"), said("40 + 2 = 42"), said("Answer: 42.")]
    answer = Vote().merge(QUERY, completions, SCORES)
    assert answer.answer == "42"
    assert answer.text == "40 + 2 = 42"
    assert answer.p_correct is None  # a share of votes is no probability


def test_ties_go_to_the_one_heard_first() -> None:
    assert Vote().merge(QUERY, [said("a"), said("b"), said("b"), said("a")], SCORES).answer == "a"


def test_one_expert_who_knows_outweighs_two_who_guess() -> None:
    completions = [said("a", p=0.3, expert="x"), said("a", p=0.3, expert="y"), said("b", p=0.9)]
    answer = WeightedVote(belief).merge(QUERY, completions, SCORES)
    assert answer.answer == "b"
    assert 0.8 < (answer.p_correct or 0) < 0.9


def test_agreement_makes_surer() -> None:
    alone = WeightedVote(belief).merge(QUERY, [said("a", p=0.8)], SCORES)
    agreed = WeightedVote(belief).merge(QUERY, [said("a", p=0.8), said("a", p=0.8)], SCORES)
    assert alone.p_correct == pytest.approx(0.8)
    assert agreed.p_correct == pytest.approx(16 / 17)


@pytest.mark.parametrize("aggregator", [First(belief), Vote(), WeightedVote(belief)])
def test_when_all_failed_there_is_no_answer(aggregator: First | Vote | WeightedVote) -> None:
    answer = aggregator.merge(QUERY, [said("", error="down")], SCORES)
    assert not answer.succeeded
    assert not answer.abstained
    assert answer.p_correct == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.booleans()), max_size=8),
)
def test_a_weighted_vote_is_a_probability_whatever_is_said(
    votes: list[tuple[str, float, bool]],
) -> None:
    completions = [said(a, p=p, error="down" if failed else None) for a, p, failed in votes]
    answer = WeightedVote(belief).merge(QUERY, completions, SCORES)
    assert 0 <= (answer.p_correct or 0) <= 1
    assert answer.succeeded == any(c.ok for c in completions)
