"""From recorded outcomes to decisions, on a pool whose truth is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.recording.record import record_outcomes
from experts.errors import DataError, LimitReached, NotFitted, UserError
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.values import Call, Limits
from orchestrator.conclave import Conclave
from orchestrator.config import PolicySettings
from orchestrator.decision import Result
from orchestrator.failures import raise_if_failed
from orchestrator.fitted import Fitted
from orchestrator.fitting import Recorded, fit_pool
from orchestrator.ledger import Ledger
from skills.embedders import HashingEmbedder
from tests import pools

POLICIES = {
    "conclave": PolicySettings(fallback_price_usd=1e-3),
    "cheap": PolicySettings(fallback_price_usd=2e-5),
}


def conclave(
    ledger: Ledger, fitted: Fitted | NotFitted, experts: Mapping[str, Expert] | None = None
) -> Conclave:
    return Conclave(
        experts or pools.experts(),
        ledger,
        embedder=HashingEmbedder(),
        fitted=fitted,
        policies=POLICIES,
        host_usd_per_s=1e-6,
    )


def test_the_fitted_system_beats_every_expert_at_less_than_asking_all(
    ledger: Ledger, fitted: Fitted
) -> None:
    asked = [q for q in pools.questions() if q.split == "test"]
    system = conclave(ledger, fitted)
    results = asyncio.run(
        system.answer_many([q.query(1e-3) for q in asked], "conclave", source="demo")
    )
    right = [q.score(r.answer.text) for q, r in zip(asked, results, strict=True)]
    assert sum(right) == len(asked)  # the best single expert gets half
    experts_asked = {str(r.answer.contributors[0]) for r in results}
    assert "sums" in experts_asked
    assert "cities" in experts_asked


def test_a_cascade_saves_what_the_generalist_knows(ledger: Ledger, fitted: Fitted) -> None:
    system = conclave(ledger, fitted)
    asked = [q for q in pools.questions() if q.split == "test"]
    results = asyncio.run(
        system.answer_many([q.query(1e-3) for q in asked], "conclave", source="demo")
    )
    plans = {r.decision.choice.plan.strategy for r in results if r.decision.choice}
    assert plans == {"cascade"}
    dearest = sum(
        1 for r in results for c in r.answer.completions if c.call.arm.expert != "generalist"
    )
    assert dearest < len(asked)


def test_only_those_that_can_call_tools_are_asked_where_there_are_some(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = conclave(ledger, fitted)
    extra = (("tools", "[]"),)
    query = pools.query("How much is 2 plus 2 plus 4?")
    wanting = replace(query, query_id="q-2", sampling=replace(query.sampling, extra=extra))
    with pytest.raises(UserError, match=r"^tools: not supported by 'conclave'.*No expert here"):
        system.check(wanting, "conclave")
    able = FakeExpert("cities", lambda call: "4", prices=pools.DEAR, takes=frozenset({"tools"}))
    system = conclave(ledger, fitted, {**pools.experts(), "cities": able})
    plain, with_tools = (system.route(q, "conclave", source="ask") for q in (query, wanting))
    assert plain.scores
    assert with_tools.scores
    assert len(plain.scores.arms) == 3
    assert [str(arm) for arm in with_tools.scores.arms] == ["cities"]
    result = asyncio.run(system.answer(wanting, "conclave", source="ask"))
    assert [c.call.arm.expert for c in result.answer.completions] == ["cities"]
    elsewhere = replace(wanting, limits=Limits(experts=frozenset({"sums"})))
    with pytest.raises(UserError, match="Name one of these as the model: cities"):
        system.check(elsewhere, "conclave")


def test_every_dollar_is_in_the_ledger(ledger: Ledger, fitted: Fitted) -> None:
    before = ledger.total_cost_usd()
    system = conclave(ledger, fitted)
    result = asyncio.run(
        system.answer(pools.query("How much is 2 plus 2 plus 4?"), "conclave", source="ask")
    )
    assert ledger.total_cost_usd() - before == pytest.approx(result.cost_usd)
    assert result.decision.router_cost_usd > 0
    [row] = ledger.rows("SELECT * FROM decisions")
    assert row["plan"] == str(result.decision.choice and result.decision.choice.plan)
    assert "addition" in row["scores"]


def test_feedback_lands_in_the_ledger(ledger: Ledger, fitted: Fitted) -> None:
    system = conclave(ledger, fitted)
    result = asyncio.run(
        system.answer(pools.query("How much is 2 plus 2 plus 4?"), "cheap", source="ask")
    )
    assert ledger.add_feedback(result.decision.decision_id, 0.0, "wrong")
    [verdict] = ledger.rows("SELECT * FROM verdicts WHERE source = 'feedback'")
    assert (verdict["score"], verdict["comment"]) == (0.0, "wrong")


def test_questions_of_one_category_alone_can_be_fitted(ledger: Ledger) -> None:
    """And of one with a few strays: nothing can be learned about the unknown then."""
    asked = pools.questions(120)
    sums = [q for q in asked if q.skill == "addition"][:30]
    stray = [q for q in asked if q.skill == "capital"][:1]
    for some in (sums, [*sums, *stray]):
        asyncio.run(record_outcomes(some, pools.experts(asked), ledger))
        pool = Pool.of(pools.experts().values())
        calls = list(ledger.recorded_calls())
        assert fit_pool(calls, pool, HashingEmbedder(), pools.CATEGORY_OF).outlooks.plans


def test_a_question_that_one_expert_always_fails_at_is_left_out_by_name(ledger: Ledger) -> None:
    asked = pools.questions()

    def broken(call: Call) -> str:
        if call.query_id in failing:
            raise ConnectionError("HTTP 400")
        return "x"

    experts = {**pools.experts(), "broken": FakeExpert("broken", broken)}
    pool = Pool.of(experts.values())
    failing = {asked[7].query_id}
    for _ in range(2):  # resuming does not mend it
        asyncio.run(record_outcomes(asked, experts, ledger))
    recorded = Recorded(list(ledger.recorded_calls()), pool)
    assert not np.isnan(recorded.outcomes().scores).any()
    assert len(recorded.queries) == len(asked) - 1
    assert recorded.left_out == {asked[7].query_id: "broken: HTTP 400"}


def test_an_outage_is_no_question_that_cannot_be_answered(ledger: Ledger) -> None:
    asked = pools.questions()

    first = {q.query_id for q in asked[:20]}

    def down(call: Call) -> str:
        if call.query_id in first:
            raise ConnectionError("down")
        return "x"

    experts = {**pools.experts(), "down": FakeExpert("down", down)}
    asyncio.run(record_outcomes(asked, experts, ledger))
    with pytest.raises(DataError, match="outcomes are missing"):
        fit_pool(
            list(ledger.recorded_calls()),
            Pool.of(experts.values()),
            HashingEmbedder(),
            pools.CATEGORY_OF,
        )


def test_a_wrong_program_is_not_credited_with_a_right_ones_last_line(ledger: Ledger) -> None:
    """Both end in ``result = double``, which is what is extracted as their answer."""
    right, wrong = "double = lambda x: 2 * x\nresult = double", "double = abs\nresult = double"
    asked = [
        q.model_copy(update={"grader": "regex", "answer": "2 \\* x"}) for q in pools.questions()
    ]
    programs = {"knows": right, "not": wrong}
    experts = {n: FakeExpert(n, lambda _, text=text: text) for n, text in programs.items()}
    asyncio.run(record_outcomes(asked, experts, ledger))
    recorded = Recorded(list(ledger.recorded_calls()), Pool.of(experts.values()))
    _, scores = recorded.recording()
    query_id = recorded.queries[0].query_id
    assert (scores[query_id, right], scores[query_id, wrong]) == (1.0, 0.0)


def test_it_is_saved_and_loaded_without_pickle(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fitted")
    assert {p.suffix for p in (tmp_path / "fitted").iterdir()} == {".npz", ".json"}
    again = Fitted.load(tmp_path / "fitted", Pool.of(pools.experts().values()), "hashing-1024")
    assert again.outlooks.plans == fitted.outlooks.plans
    assert again.report == fitted.report


def test_state_of_another_pool_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fitted")
    smaller = {n: e for n, e in pools.experts().items() if n != "cities"}
    with pytest.raises(NotFitted, match="it knows cities, which you do not have"):
        Fitted.load(tmp_path / "fitted", Pool.of(smaller.values()), "hashing-1024")
    with pytest.raises(NotFitted, match="fitted with the embedder 'hashing-1024'"):
        Fitted.load(tmp_path / "fitted", Pool.of(pools.experts().values()), "minilm")


def test_state_of_other_weights_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fitted")
    pool = pools.experts()
    retrained = {**pool, "sums": FakeExpert("sums", {}, version="2")}
    with pytest.raises(NotFitted, match="other weights of sums"):
        Fitted.load(tmp_path / "fitted", Pool.of(retrained.values()), "hashing-1024")


@pytest.mark.parametrize("file", ["router.npz", "fitted.json"])
def test_damaged_state_is_refused_with_advice(fitted: Fitted, tmp_path: Path, file: str) -> None:
    fitted.save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotFitted, match="conclave fit"):
        Fitted.load(tmp_path, Pool.of(pools.experts().values()), "hashing-1024")


def test_limits_on_experts_and_dollars_hold_for_every_target(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = conclave(ledger, fitted)
    query = pools.query("How much is 2 plus 2 plus 4?")

    def limited(target: str, **limits: object) -> Result:
        asked = replace(query, query_id=target + str(limits), limits=Limits(**limits))
        result = asyncio.run(system.answer(asked, target, source="ask"))
        raise_if_failed(result.answer)
        return result

    with pytest.raises(LimitReached, match="only cities may be asked"):
        limited("sums", experts=frozenset({"cities"}))
    with pytest.raises(LimitReached, match="too little for sums"):
        limited("sums", max_cost_usd=1e-12)
    assert limited("conclave", max_cost_usd=1e-12).answer.abstained
    cheap_only = frozenset({"sums", "generalist"})
    answer = limited("conclave", experts=cheap_only, max_cost_usd=2e-5).answer
    assert [a.expert for a in answer.contributors] == ["generalist"]
    assert len(limited("conclave", max_calls=1).answer.completions) == 1


def test_an_unfitted_pool_answers_by_name_and_says_what_to_do(ledger: Ledger) -> None:
    system = conclave(ledger, NotFitted("Nothing is fitted. Do: conclave record."))
    query = pools.query("How much is 2 plus 2 plus 4?")
    result = asyncio.run(system.answer(query, "sums", source="ask"))
    assert result.answer.contributors
    with pytest.raises(NotFitted, match="conclave record"):
        asyncio.run(system.answer(query, "conclave", source="ask"))


def test_too_little_and_too_patchy_records_are_refused(ledger: Ledger) -> None:
    pool = Pool.of(pools.experts().values())
    asked = pools.questions()
    asyncio.run(record_outcomes(asked[:5], pools.experts(), ledger))
    with pytest.raises(DataError, match="needs at least"):
        fit_pool(list(ledger.recorded_calls()), pool, HashingEmbedder(), pools.CATEGORY_OF)
    only_sums = {"sums": pools.experts()["sums"]}
    asyncio.run(record_outcomes(asked, only_sums, ledger))
    with pytest.raises(DataError, match="outcomes are missing"):
        fit_pool(list(ledger.recorded_calls()), pool, HashingEmbedder(), pools.CATEGORY_OF)
