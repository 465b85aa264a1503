"""``conclave bench strategies``: what is asked, and that the figures are of that."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from eval.benchmarks.remembering import Memory, remembering
from eval.benchmarks.strategies import BEST_SINGLE, DEFAULT, run_strategies
from eval.benchmarks.strategies_questions import BORDER, KINDS, ONE, TWO, Drawn, draw
from eval.benchmarks.strategies_report import Report, report_object
from eval.bundled.borders import border_questions
from eval.bundled.sequences import two_part_questions
from eval.commands.bench_strategies import format_against_default, format_strategies
from eval.json_ready import json_ready
from eval.recording.record import record_outcomes
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.values import Arm
from orchestrator.conclave import Conclave
from orchestrator.config import PolicySettings
from orchestrator.fitting import fit_pool
from orchestrator.ledger import Ledger
from skills.embedders import HashingEmbedder
from tests import pools
from tests.shown import shown

PRICES_USD = {"conclave": 1e-2, "cheap": 1e-6}


@pytest.fixture(scope="module")
def conclave() -> Conclave:
    asked = [q for q in pools.questions() if q.split == "train"]
    experts = pools.experts()
    with Ledger(":memory:") as ledger:
        asyncio.run(record_outcomes(asked, experts, ledger))
        calls = list(ledger.recorded_calls())
    return Conclave(
        experts,
        Ledger(":memory:"),
        embedder=HashingEmbedder(),
        fitted=fit_pool(calls, Pool.of(experts.values()), HashingEmbedder(), pools.CATEGORY_OF),
        policies={k: PolicySettings(fallback_price_usd=v) for k, v in PRICES_USD.items()},
        host_usd_per_s=1e-6,
    )


def drawn(n: int, split: str, *, seed: int) -> Drawn:
    some = tuple(
        q for q in pools.questions() if q.split == ("test" if split == "test" else "train")
    )
    kinds = tuple((ONE, BORDER)[i % 2] for i in range(len(some)))
    return Drawn(questions=some, kinds=kinds, two_parts=())


@pytest.fixture(scope="module")
def report(conclave: Conclave) -> Report:
    run = run_strategies(conclave, n=20, seed=0, policies=tuple(PRICES_USD), draw=drawn)
    return asyncio.run(run)


def test_questions_of_a_split_are_drawn_alike_and_none_twice() -> None:
    here = draw(14, "test", seed=3)
    assert here == draw(14, "test", seed=3)
    assert [len(here.rows(kind)) for kind in KINDS] == [14, 14, 14]
    assert {q.query_id for q in here.questions}.isdisjoint(
        q.query_id for q in draw(14, "val", seed=3).questions
    )


def test_a_sequence_is_its_parts_in_one_text() -> None:
    for two in two_part_questions(40, "test", seed=0):
        text = two.question.question
        assert text.startswith(two.first.question)
        assert two.first.answer in two.second(two.first.answer)
        assert two.first.answer not in text.removeprefix(two.first.question)
    by_hand = {t.first.answer: t.question.answer for t in two_part_questions(400, "val", seed=1)}
    assert any(word[::-1] == told for word, told in by_hand.items())


def test_look_alikes_borrow_words_or_come_in_strange_wordings() -> None:
    some = border_questions(20, "test", seed=0)
    assert len({q.question for q in some}) == 20
    assert {q.skill for q in some[:10]} <= {
        "reverse_word", "remove_vowels", "uppercase", "count_letters", "pick_position",
        "sort_words",
    }  # fmt: skip


def test_what_is_remembered_is_charged_to_everybody_and_computed_once() -> None:
    async def heard() -> tuple[list[float], int]:
        expert = FakeExpert("one", {"a?": "b"})
        pool: dict[str, Expert] = remembering({"one": expert}, Memory())
        question = pools.questions()[0].model_copy(update={"question": "a?"})
        call = question.call(Arm("one"))
        first = await pool["one"].complete([call, call])
        again = await pool["one"].complete([call])
        return [c.cost_usd for c in (*first, *again)], sum(map(len, expert.batches))

    costs, n_asked = asyncio.run(heard())
    assert n_asked == 1
    assert len(set(costs)) == 1
    assert costs[0] > 0


def test_the_default_policy_is_beside_everything_fixed(report: Report) -> None:
    at = report.prices[0]
    rows = {(row.role, row.name): row for row in at.rows}
    default, single = rows["policy", DEFAULT], rows["baseline", BEST_SINGLE]
    assert default.figures.accuracy == 1.0
    assert single.figures.accuracy == pytest.approx(0.5)
    assert rows["strategy", "vote"].n_calls >= 3
    assert rows["aggregator", "synthesis"].n_calls == 4  # three, and the one that writes
    assert rows["aggregator", "synthesis"].n_failed == 0
    assert rows["strategy", "abstain"].figures.cost_of_pass_usd == np.inf
    assert {a.name for a in at.against} == {
        row.name for row in at.rows if row.role in ("strategy", "aggregator")
    }
    assert report.is_never_beaten
    abstain = next(a for a in at.against if a.name == "abstain")
    low, high = abstain.gain_usd.ci
    assert low <= abstain.gain_usd.value <= high
    assert abstain.gain_usd.value == pytest.approx(PRICES_USD["conclave"], rel=0.1)


def test_tables_and_json_say_n_seed_and_intervals(report: Report) -> None:
    text = shown(format_strategies(report), format_against_default(report))
    for told in ("best single", "weighted_vote", "20 held-out questions", "Seed 0", "V = 1e-06 $"):
        assert told in text
    found = json.loads(json.dumps(json_ready(report_object(report)), allow_nan=False))
    assert (found["seed"], found["n_val"], found["never_beaten"]) == (0, 40, True)
    assert sum(found["n"].values()) == 20
    assert found["n"][TWO] == 0
    for row in found["prices"][0]["rows"]:
        assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
