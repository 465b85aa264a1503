"""Keywords of an LLM: recorded questions are labelled by them, and answers may begin with them."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from eval.questions import Question
from eval.recording.record import record_outcomes
from experts.cards import Prices
from experts.errors import ExpertFailure, UnknownExpert, UserError
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Limits, Query
from orchestrator.conclave import Conclave
from orchestrator.config import Config, KeywordSettings, LearningSettings, PolicySettings
from orchestrator.deciding import Decider
from orchestrator.decision import Decision, Result
from orchestrator.drivers.live import run_live
from orchestrator.drivers.replay import Recording, run_replay
from orchestrator.drivers.run import Run
from orchestrator.fitted import Fitted
from orchestrator.fitting import fit_pool
from orchestrator.gaps import gaps_of
from orchestrator.keywords import KeywordStep, ask_for_keywords, keyword_annotator
from orchestrator.labelling import label_calls
from orchestrator.learning.exploring import EXPLORE
from orchestrator.ledger import Ledger
from orchestrator.runs.runs import Runs
from routers.exploration import Exploration
from skills.embedders import HashingEmbedder, make_embedder
from skills.taxonomy import Taxonomy
from tests import pools

EMBEDDER = HashingEmbedder()
TAXONOMY = Taxonomy.parse(
    '{"arithmetic": {"addition": "sums and adding numbers"}, '
    '"countries": {"capital": "capital cities of countries"}}',
    "small.json",
)
SETTINGS = KeywordSettings(expert="namer")
PRICES = Prices(input_usd_per_mtok=0.01, output_usd_per_mtok=0.01)


def names_skills(call: Call) -> str:
    """As a chatty LLM: every pass words it differently."""
    about_sums = "plus" in call.messages[-1].content
    said = "Sums, adding numbers" if about_sums else "capital cities; countries"
    return (f"Skills: {said}, and trivia {call.sample}", f"1. {said}\n2. x{call.sample}")[
        call.sample % 2
    ]


def namer(script: object = names_skills) -> FakeExpert:
    return FakeExpert("namer", script, prices=PRICES)  # type: ignore[arg-type]


def with_namer(expert: FakeExpert | None = None) -> dict[str, Expert]:
    expert = expert or namer()
    return {**pools.experts(), expert.card.name: expert}


def bare(asked: list[Question]) -> list[Question]:
    return [q.model_copy(update={"skill": None}) for q in asked]


def recorded(ledger: Ledger, asked: list[Question]) -> None:
    asyncio.run(record_outcomes(asked, pools.experts(), ledger))


def config(settings: KeywordSettings = SETTINGS) -> Config:
    return Config(annotator="keywords", keywords=settings)


def test_recorded_questions_are_labelled_by_keywords_and_the_ledger_is_charged(
    ledger: Ledger,
) -> None:
    asked = pools.questions(40)
    recorded(ledger, bare(asked))
    before = ledger.total_cost_usd()
    stages: list[str] = []

    def labelled() -> tuple[dict[str, str | None], dict[str, object]]:
        calls, report = label_calls(
            list(ledger.recorded_calls()),
            config(),
            experts=with_namer(),
            ledger=ledger,
            taxonomy=TAXONOMY,
            embedder=EMBEDDER,
            on_stage=stages.append,
        )
        return {c.completion.call.query_id: c.skill for c in calls}, report

    skills, report = labelled()
    assert skills == {q.query_id: q.skill for q in asked}
    assert report["labelled_by"] == {"given": 0, "keywords": 40}
    rows = ledger.rows("SELECT * FROM calls WHERE purpose = 'annotate'")
    assert len(rows) == 40 * 5
    assert {(r["expert"], r["temperature"]) for r in rows} == {("namer", 0.7)}
    assert len({r["seed"] for r in rows}) == 5
    spent = ledger.total_cost_usd() - before
    assert report["annotation_usd"] == pytest.approx(spent)
    assert spent == pytest.approx(sum(r["cost_usd"] for r in rows))
    assert spent > 0
    assert any("asking namer for keywords: 200 calls, at most" in s for s in stages)
    again, report = labelled()  # what was paid is not paid again
    assert (again, report["annotation_usd"]) == (skills, 0.0)
    assert len(ledger.rows("SELECT 1 FROM calls WHERE purpose = 'annotate'")) == 200


def test_skills_that_came_with_the_questions_are_not_asked_for(ledger: Ledger) -> None:
    asked = pools.questions(30)
    recorded(ledger, asked[:20] + bare(asked[20:]))
    expert = namer()
    _, report = label_calls(
        list(ledger.recorded_calls()), config(), experts=with_namer(expert), ledger=ledger,
        taxonomy=TAXONOMY, embedder=EMBEDDER,
    )  # fmt: skip
    assert report["labelled_by"] == {"given": 20, "keywords": 10}
    assert sum(map(len, expert.batches)) == 50


def test_what_passes_do_not_agree_on_is_labelled_by_descriptors(ledger: Ledger) -> None:
    recorded(ledger, bare(pools.questions(20)))
    rambling = namer(lambda call: f"I would say thing {call.sample}")
    _, report = label_calls(
        list(ledger.recorded_calls()), config(), experts=with_namer(rambling), ledger=ledger,
        taxonomy=TAXONOMY, embedder=EMBEDDER,
    )  # fmt: skip
    assert report["labelled_by"] == {"given": 0, "descriptors": 20}


def test_the_order_of_calls_and_of_keywords_is_always_the_same() -> None:
    told = []
    for _ in range(2):
        with Ledger(":memory:") as ledger:
            asked = pools.questions(20)
            recorded(ledger, asked)
            labels = ask_for_keywords(
                [q.query(1.0) for q in asked], SETTINGS, with_namer(), ledger,
                keyword_annotator(TAXONOMY.names, TAXONOMY, EMBEDDER),
            )  # fmt: skip
            rows = ledger.rows(
                "SELECT query_id, sample, text FROM calls WHERE purpose = 'annotate' "
                "ORDER BY call_id"
            )
            told.append((rows, [list(k.items()) for k in labels.keywords]))
    assert told[0] == told[1]
    assert told[0][1][0] == [("sums", 5), ("adding numbers", 5)]


def test_a_budget_is_looked_at_before_anything_is_paid(ledger: Ledger) -> None:
    recorded(ledger, bare(pools.questions(20)))
    expert = namer()
    with pytest.raises(UserError, match=r"may cost up to .* more than `keywords\.max_fit_usd`"):
        label_calls(
            list(ledger.recorded_calls()),
            config(SETTINGS.model_copy(update={"max_fit_usd": 1e-9})),
            experts=with_namer(expert), ledger=ledger, taxonomy=TAXONOMY, embedder=EMBEDDER,
        )  # fmt: skip
    assert expert.batches == []


def test_an_expert_that_is_not_there_or_never_answers_is_an_error(ledger: Ledger) -> None:
    asked = pools.questions(20)
    recorded(ledger, asked)

    def fails(call: Call) -> str:
        raise ConnectionError("nobody home")

    annotator = keyword_annotator(TAXONOMY.names, TAXONOMY, EMBEDDER)
    queries = [q.query(1.0) for q in asked]
    with pytest.raises(UnknownExpert, match="namer"):
        ask_for_keywords(queries, SETTINGS, pools.experts(), ledger, annotator)
    with pytest.raises(ExpertFailure, match="namer named no keywords: nobody home"):
        ask_for_keywords(queries, SETTINGS, with_namer(namer(fails)), ledger, annotator)


# As the first step of an answer.


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    asked = [q for q in pools.questions() if q.split == "train"]
    with Ledger(":memory:") as ledger:
        experts = with_namer()
        asyncio.run(record_outcomes(asked, experts, ledger))
        calls = list(ledger.recorded_calls())
    return fit_pool(
        calls, Pool.of(experts.values()), EMBEDDER, pools.CATEGORY_OF, annotator="keywords"
    )


def conclave(ledger: Ledger, fitted: Fitted, expert: FakeExpert | None = None) -> Conclave:
    return Conclave(
        with_namer(expert),
        ledger,
        embedder=EMBEDDER,
        fitted=fitted,
        policies={"conclave": PolicySettings(fallback_price_usd=1e-3)},
        host_usd_per_s=1e-6,
        learning=LearningSettings(max_feedback_per_day=1000),
        keyword_step=KeywordStep(
            settings=SETTINGS,
            skills=fitted.router.annotator_.skills,
            taxonomy=TAXONOMY,
            embedder=EMBEDDER,
        ),
    )


def sum_query(query_id: str = "q-1") -> Query:
    [asked] = [q for q in pools.questions() if q.split == "test" and q.skill == "addition"][:1]
    return replace(asked.query(1e-3), query_id=query_id)


def test_an_answer_begins_with_keywords_and_its_bill_holds_them(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = conclave(ledger, fitted)
    result = asyncio.run(system.answer(sum_query(), "conclave", source="ask"))
    purposes = [c.call.purpose for c in result.answer.completions]
    assert purposes[:5] == ["annotate"] * 5
    assert purposes[5:] == ["answer"] * len(purposes[5:])
    assert len(purposes) > 5
    assert result.answer.notes[0].startswith("keywords by namer: sums, adding numbers; so addition")
    assert result.cost_usd == pytest.approx(ledger.total_cost_usd())
    rows = ledger.rows("SELECT purpose, decision_id FROM calls")
    assert {r["decision_id"] for r in rows} == {result.decision.decision_id}


def test_keywords_change_who_is_asked(ledger: Ledger, fitted: Fitted) -> None:
    """The words are of sums, the keywords of cities: who is right about the question is asked."""
    misled = conclave(ledger, fitted, namer(lambda call: "capital cities, countries"))
    result = asyncio.run(misled.answer(sum_query(), "conclave", source="ask"))
    asked = {c.call.arm.expert for c in result.answer.completions if c.call.purpose == "answer"}
    assert "cities" in asked


def test_without_agreed_keywords_the_router_is_believed(ledger: Ledger, fitted: Fitted) -> None:
    system = conclave(ledger, fitted, namer(lambda call: f"word {call.sample}"))
    result = asyncio.run(system.answer(sum_query(), "conclave", source="ask"))
    assert "none that passes agree on" in result.answer.notes[0]
    assert result.answer.succeeded


def test_a_namer_that_fails_costs_no_answer(ledger: Ledger, fitted: Fitted) -> None:
    def fails(call: Call) -> str:
        if call.purpose == "annotate":
            raise ConnectionError("down")
        return "x"

    system = conclave(ledger, fitted, namer(fails))
    result = asyncio.run(system.answer(sum_query(), "conclave", source="ask"))
    assert result.answer.succeeded
    assert "namer failed: down" in result.answer.notes


@pytest.mark.parametrize("n_calls", [1, 5, 6])
def test_limits_on_calls_hold_with_keywords_and_leave_an_answer(
    ledger: Ledger, fitted: Fitted, n_calls: int
) -> None:
    system = conclave(ledger, fitted)
    query = replace(sum_query(), limits=Limits(max_calls=n_calls))
    result = asyncio.run(system.answer(query, "conclave", source="ask"))
    purposes = [c.call.purpose for c in result.answer.completions]
    assert len(purposes) <= n_calls
    assert result.answer.succeeded
    assert ("annotate" in purposes) == (n_calls == 6)
    note = result.answer.notes[0]
    assert note.startswith("no keywords by namer: 5 calls and an answer") == (n_calls < 6)


def test_a_limit_on_dollars_holds_with_keywords_and_leaves_an_answer(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = conclave(ledger, fitted)
    annotated = []
    for most_usd in (1e-9, 1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3):
        query = replace(sum_query(f"q-{most_usd}"), limits=Limits(max_cost_usd=most_usd))
        alone = asyncio.run(_without_step(system).answer(query, "conclave", source="ask"))
        result = asyncio.run(system.answer(query, "conclave", source="ask"))
        assert result.answer.cost_usd <= most_usd
        assert result.answer.succeeded == alone.answer.succeeded, most_usd
        annotated.append(any(c.call.purpose == "annotate" for c in result.answer.completions))
        noted = any("keywords by namer: with an answer" in note for note in result.answer.notes)
        assert not (noted and annotated[-1])
    assert (annotated[0], annotated[-1]) == (False, True)


def _without_step(system: Conclave) -> Conclave:
    other = copy(system)
    other.opener = replace(system.opener, keyword_step=None)
    return other


def test_what_is_not_worth_an_answer_is_not_worth_keywords(ledger: Ledger, fitted: Fitted) -> None:
    expert = namer()
    system = conclave(ledger, fitted, expert)
    query = replace(sum_query(), fallback_price_usd=1e-9)
    result = asyncio.run(system.answer(query, "conclave", source="ask"))
    assert result.answer.abstained
    assert expert.batches == []


def test_an_expert_asked_by_name_needs_no_keywords(ledger: Ledger, fitted: Fitted) -> None:
    expert = namer()
    result = asyncio.run(conclave(ledger, fitted, expert).answer(sum_query(), "sums", source="ask"))
    assert result.answer.succeeded
    assert expert.batches == []


def test_many_are_answered_in_waves_and_none_is_annotated_twice(
    ledger: Ledger, fitted: Fitted
) -> None:
    expert = namer()
    system = conclave(ledger, fitted, expert)
    asked = [q for q in pools.questions() if q.split == "test"]
    queries = [(q.query(1e-3), "conclave") for q in asked]

    async def all_of_them() -> dict[str, str]:
        each = system.answer_each(queries, source="batch", recalls_since_s=0.0)
        return {r.decision.query.query_id: r.answer.text async for r in each}

    first = asyncio.run(all_of_them())
    n_annotated = sum(c.purpose == "annotate" for batch in expert.batches for c in batch)
    assert n_annotated == 5 * len(asked)
    assert sum(q.score(first[q.query_id]) for q in asked) == len(asked)
    system.ledger.rows("SELECT 1")  # the ledger knows them now: a process that was killed goes on
    assert asyncio.run(all_of_them()) == first
    assert sum(c.purpose == "annotate" for batch in expert.batches for c in batch) == n_annotated


def test_a_run_with_keywords_is_replayed_from_what_was_recorded(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = conclave(ledger, fitted)
    query = sum_query()
    live = asyncio.run(system.answer(query, "conclave", source="ask"))
    decision = live.decision
    run: Run = system.run_of(decision)
    replayed = run_replay(run, Recording(live.answer.completions))
    assert (replayed.text, replayed.cost_usd) == (live.answer.text, live.answer.cost_usd)


def test_a_fitted_state_says_who_annotates(fitted: Fitted) -> None:
    assert fitted.annotator == "keywords"
    assert fitted.router.annotator_.kind == "neighbours"  # of questions that keywords labelled
    assert make_embedder("hashing-1024").name == EMBEDDER.name


def test_a_durable_run_asks_for_no_keywords(ledger: Ledger, fitted: Fitted, tmp_path: Path) -> None:
    """They would decide anew, by nobody's leave, each time that it is followed."""
    expert = namer(lambda call: "capital cities, countries")
    system = conclave(ledger, fitted, expert)
    with Runs(system, Config(data_dir=tmp_path)) as runs:
        view = asyncio.run(runs.go_on(runs.start(sum_query(), "conclave")))
    assert view.state == "done"
    assert {c.completion.call.purpose for c in view.calls if c.completion} == {"answer"}


# What was decided with keywords is what is kept, explained and learned from.


def test_what_was_carried_out_is_kept_explained_and_learned_from(
    ledger: Ledger, fitted: Fitted
) -> None:
    """The words are of sums, the keywords of cities."""
    system = conclave(ledger, fitted, namer(lambda call: "capital cities, countries"))
    first = system.route(sum_query(), "conclave", source="test").explain()
    result = asyncio.run(system.answer(sum_query(), "conclave", source="ask"))
    told = result.decision.explain()
    assert (next(iter(first["skills"])), next(iter(told["skills"]))) == ("addition", "capital")
    assert told["before_keywords"] == first["plan"]
    assert told["scores"][0]["arm"] != first["scores"][0]["arm"]
    assert ledger.add_feedback(told["decision_id"], 1.0, None)
    system.learn()
    assert system.learner
    [seen] = system.learner.observations()
    skills = fitted.router.annotator_.skills
    assert skills[int(seen.p_skill[:-1].argmax())] == "capital"
    # Another state cannot tell what keywords said, and learns nothing of it.
    refitted = replace(fitted, report={**fitted.report, "n_questions": 1})
    other = conclave(ledger, refitted)
    other.learn()
    assert other.learner
    assert not other.learner.observations()


def test_gaps_are_of_what_was_carried_out(ledger: Ledger, fitted: Fitted) -> None:
    asked = pools.query("Whatever may this be about?", query_id="q-odd")
    system = conclave(ledger, fitted, namer(lambda call: "capital cities, countries"))
    decide = system.decide

    def as_general(queries: list[Query], target: str) -> list[Decision]:
        [one] = decide(queries, target)
        assert one.scores
        return [replace(one, scores=replace(one.scores, is_general=True))]

    system.decide = as_general  # type: ignore[method-assign, assignment]
    odd = system.route(asked, "conclave", source="ask")
    assert [gap.kind for gap in gaps_of(ledger)] == ["unknown"]
    result = asyncio.run(_carried_out(system, odd))
    assert result.decision.scores
    assert not result.decision.scores.is_general
    assert gaps_of(ledger) == []


def test_after_keywords_only_what_they_left_of_the_limits_is_spent(
    ledger: Ledger, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = conclave(ledger, fitted)
    limits = []
    choose = Decider.choose

    def watched(decider: Decider, queries: list[Query], *of: object) -> object:
        limits.extend(q.limits for q in queries)
        return choose(decider, queries, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(Decider, "choose", watched)
    query = replace(sum_query(), limits=Limits(max_cost_usd=1e-3, max_calls=9))
    result = asyncio.run(system.answer(query, "conclave", source="ask"))
    spent = sum(c.cost_usd for c in result.answer.completions if c.call.purpose == "annotate")
    assert spent > 0
    assert [(left.max_cost_usd, left.max_calls) for left in limits] == [
        (1e-3, 9), (pytest.approx(1e-3 - spent), 4),
    ]  # fmt: skip


def test_explorations_are_not_asked_about_first(ledger: Ledger, fitted: Fitted) -> None:
    expert = namer()
    system = conclave(ledger, fitted, expert)
    decision = system.route(sum_query(), "conclave", source="ask")
    assert decision.scores
    assert decision.choice
    arm = Arm("generalist")
    explored = replace(
        decision,
        choice=replace(decision.choice, plan=EXPLORE),
        instead_of=decision.choice.plan,
        exploration=Exploration(arm=arm, propensity=0.1, reserved_usd=1e-3),
    )
    result = asyncio.run(_carried_out(system, explored))
    assert {c.call.purpose for c in result.answer.completions} == {"explore"}
    assert expert.batches == []


def test_what_was_learned_holds_after_keywords(ledger: Ledger, fitted: Fitted) -> None:
    system = conclave(ledger, fitted)
    for i in range(20):
        asked = asyncio.run(system.answer(sum_query(f"by-name-{i}"), "sums", source="ask"))
        ledger.add_feedback(asked.decision.decision_id, 0.0, None, caller=f"{i}")
    system.learn()
    told = asyncio.run(system.answer(sum_query(), "conclave", source="ask")).decision.explain()
    assert told["before_keywords"]
    [sums] = [s for s in told["scores"] if s["arm"] == "sums"]
    assert sums["shift"] < -1


async def _carried_out(system: Conclave, decision: Decision) -> Result:
    answer = await run_live(system.run_of(decision), system.experts, system._recorder(decision))
    return system._closed(decision, answer, 0.0)
