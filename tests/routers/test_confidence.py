"""Answer confidence: sure experts are believed as far as they deserve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.values import Arm, Call, Completion, Sampling
from routers.confidence import AnswerConfidence
from routers.outcomes import Outcomes
from routers.scores import QueryScores, Scores

HONEST, VAIN = Arm("honest"), Arm("vain")


def recorded(n: int = 400, *, with_scorer: bool = False) -> tuple[Scores, Outcomes]:
    """honest is sure when right; vain is always sure, and right half of the time. A scorer of vain,
    where there is one, knows better."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, size=(n, 2)).astype(float)
    logprob = np.stack([np.where(right[:, 0] > 0, -0.05, -4.0), np.full(n, -0.05)], axis=1)
    ones = np.ones((n, 2))
    own_odds = np.full((n, 2), np.nan)
    if with_scorer:
        own_odds[:, 1] = np.where(right[:, 1] > 0, 3.0, -3.0)
    scores = Scores(
        arms=(HONEST, VAIN),
        p_correct=ones * 0.5,
        sd=ones * 0,
        cost_usd=ones,
        latency_s=ones,
        novelty=np.zeros(n),
        is_general=np.zeros(n, bool),
        skills=("s",),
        p_skill=np.ones((n, 1)),
    )
    outcomes = Outcomes(
        arms=(HONEST, VAIN),
        skills=("s",) * n,
        scores=right,
        input_tokens=ones,
        output_tokens=ones,
        latency_s=ones,
        logprob=logprob,
        own_odds=own_odds,
    )
    return scores, outcomes


def said(
    arm: Arm, logprob: float | None, *, own_odds: float | None = None, error: str | None = None
) -> Completion:
    call = Call(query_id="q", arm=arm, messages=(), sampling=Sampling())
    return Completion(
        call=call, text="x", answer="x", logprob=logprob, own_odds=own_odds, error=error
    )


def row() -> QueryScores:
    return recorded(1)[0].row(0)


def test_sureness_counts_where_it_has_meant_something() -> None:
    confidence = AnswerConfidence.fit(*recorded())
    assert confidence.p_right(said(HONEST, -0.05), row()) > 0.95
    assert confidence.p_right(said(HONEST, -4.0), row()) < 0.05
    assert abs(confidence.p_right(said(VAIN, -0.05), row()) - 0.5) < 0.1


def test_a_scorer_knows_what_sureness_does_not() -> None:
    confidence = AnswerConfidence.fit(*recorded(with_scorer=True))
    assert confidence.p_right(said(VAIN, -0.05, own_odds=3.0), row()) > 0.9
    assert confidence.p_right(said(VAIN, -0.05, own_odds=-3.0), row()) < 0.1
    assert confidence.p_right(said(HONEST, -0.05), row()) > 0.9
    again = AnswerConfidence.from_state(confidence.state())
    odd = said(VAIN, -0.05, own_odds=1.0)
    assert again.p_right(odd, row()) == confidence.p_right(odd, row())


def test_without_a_logprob_the_router_is_believed() -> None:
    confidence = AnswerConfidence.fit(*recorded())
    assert confidence.p_right(said(HONEST, None), row()) == 0.5


def test_a_failed_call_is_not_right() -> None:
    confidence = AnswerConfidence.fit(*recorded())
    assert confidence.p_right(said(HONEST, -0.05, error="boom"), row()) == 0


def test_state_survives_a_round_trip() -> None:
    confidence = AnswerConfidence.fit(*recorded())
    again = AnswerConfidence.from_state(confidence.state())
    assert again.p_right(said(HONEST, -1.0), row()) == confidence.p_right(said(HONEST, -1.0), row())


def test_one_answer_is_believed_as_many_are() -> None:
    """Live, arrays are spared; what was fitted on arrays must mean the same."""
    weights = np.array([0.3, 0.8, 1.4, 0.7])
    model = AnswerConfidence({HONEST: (0.3, 0.8, 1.4, 0.7)})
    for p in (0.0, 0.2, 0.97, 1.0):
        for logprob in (0.5, -0.01, -3.0, -1e9):
            sure = -np.log1p(10 * np.clip(-logprob, 0, 20))
            prior = np.clip(p, 0.005, 0.995)
            for own in (None, -40.0, 0.5):
                odds = np.clip(own or 0.0, -6, 6)
                x = weights @ np.array([1, np.log(prior / (1 - prior)), sure, odds])
                found = model.p_right(
                    said(HONEST, logprob, own_odds=own), replace(row(), p_correct=np.full(2, p))
                )
                assert found == pytest.approx(1 / (1 + np.exp(-x)))


def test_beliefs_beyond_all_bounds_are_bearable() -> None:
    model = AnswerConfidence({HONEST: (-1e6, 0.0, 0.0, 0.0)})
    assert 0 <= model.p_right(said(HONEST, -1.0), row()) < 1e-9
