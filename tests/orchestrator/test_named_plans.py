"""A policy that names its plan: asked through the same door as any, priced as far as is known."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from experts.errors import ConfigError
from experts.values import Arm, Call, Limits
from orchestrator.conclave import Conclave
from orchestrator.config import Config, LearningSettings, PolicySettings, load_config
from orchestrator.decision import Result
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.strategies import STRATEGIES
from orchestrator.strategies.compose import compose
from orchestrator.strategies.recruit import recruit_by_skill
from orchestrator.strategies.settings import RANGES
from routers.confidence import AnswerConfidence
from routers.scores import Scores
from tests import pools
from tests.orchestrator.scripted import COMPETENCY, World, by_purpose

PANEL = "recruit(k=3, merge='best_of', by='large')"


def conclave(world: World, ledger: Ledger, plan: str, aggregator: Arm | None = None) -> Conclave:
    """The world's experts behind a router that believes what the world believes."""
    row = world.scores

    def score(texts: list[str], n_chars: np.ndarray, embed: object) -> Scores:
        n = len(texts)
        return Scores(
            arms=row.arms, p_correct=np.tile(row.p_correct, (n, 1)), sd=np.tile(row.sd, (n, 1)),
            cost_usd=np.tile(row.cost_usd, (n, 1)), latency_s=np.tile(row.latency_s, (n, 1)),
            novelty=np.zeros(n), is_general=np.zeros(n, bool), skills=("sums",),
            p_skill=np.ones((n, 1)),
        )  # fmt: skip

    fitted = SimpleNamespace(
        score=score,
        outlooks=SimpleNamespace(arms=row.arms, expect=lambda scores, v: []),
        confidence=AnswerConfidence({}),
        composer=None,
        competency=COMPETENCY,
        aggregator=aggregator,
        state_id="scripted",
    )
    return Conclave(
        world.experts,
        ledger,
        embedder=SimpleNamespace(embed=None, name="none"),  # type: ignore[arg-type]
        fitted=cast(Fitted, fitted),
        policies={"panel": PolicySettings(fallback_price_usd=1e-3, plan=plan)},
        host_usd_per_s=0.0,
        learning=LearningSettings(enabled=False),
    )


def answered(one: Conclave, *, recalls_since_s: float | None = None) -> Result:
    asking = one.answer(pools.query("?"), "panel", source="test", recalls_since_s=recalls_since_s)
    return asyncio.run(asking)


def judged(call: Call) -> str:
    """The large expert, who says 8 and finds 7 better."""
    return "Verdict: " + ("A" if "\n7\n" in call.messages[-1].content.split("answer_b")[0] else "B")


def panel() -> World:
    return World({"small": "7", "middle": "6", "large": by_purpose(answer="8", judge=judged)})


def test_a_named_plan_is_run_and_every_call_of_its_judge_is_in_the_ledger(ledger: Ledger) -> None:
    result = answered(conclave(panel(), ledger, PANEL))
    assert result.answer.answer == "7"
    assert len(result.answer.notes) == 2
    told = result.decision.explain()
    assert (told["plan"], told["p_correct"]) == ("recruit(by='large', k=3, merge='best_of')", None)
    rows = ledger.rows("SELECT purpose, COUNT(*) AS n FROM calls GROUP BY purpose")
    assert {row["purpose"]: row["n"] for row in rows} == {"answer": 3, "judge": 6}
    [bill] = ledger.rows("SELECT SUM(cost_usd) AS usd FROM calls")
    assert bill["usd"] == pytest.approx(result.cost_usd)


def test_what_a_judge_was_paid_for_before_a_kill_is_not_paid_again(ledger: Ledger) -> None:
    first = answered(conclave(panel(), ledger, PANEL))
    world = panel()
    again = answered(conclave(world, ledger, PANEL), recalls_since_s=0.0)
    assert again.answer.answer == first.answer.answer
    assert not any(expert.batches for expert in world.experts.values())


def test_who_aggregates_best_is_left_out_where_the_caller_forbids_it(ledger: Ledger) -> None:
    world = World({"small": "7", "middle": "6", "large": "8"})
    one = conclave(world, ledger, "recruit(k=2, merge='synthesis')", aggregator=Arm("large"))
    query = replace(pools.query("?"), limits=Limits(experts=frozenset({"small", "middle"})))
    result = asyncio.run(one.answer(query, "panel", source="test"))
    assert [str(c.call.arm) for c in result.answer.completions] == ["middle", "small", "middle"]
    assert not any("limit" in note for note in result.answer.notes)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("recrut(k=3)", "recruit"),
        ("recruit(n=3)", "setting of recruit"),
        ("recruit(k=3", "not written like"),
        ("recruit(k=nan)", "finite"),
        ("recruit(k=1, k=2)", "twice"),
        ("recruit(merge='nonsense')", "aggregator 'nonsense'"),
        ("recruit(k=-1)", "k is -1, but it must be a whole number from 1 to 100"),
        ("recruit(k=2.5)", "a whole number"),
        ("recruit_by_skill(temperature=0)", "temperature is 0"),
        ("recruit_by_skill(k=-2)", "k is -2"),
        ("compose(sequence=-1)", "sequence is -1"),
        ("vote(n=20000)", "from 1 to 100"),
        ("cascade(stop_at=90)", "from 0 to 1"),
        ("guarded(abstains=0.5)", "a whole number from 0 to 1"),
        ("retrieve(by='x', solver='x:direct')", "Name another solver"),
        ("guide(by='x', solver='x')", "cannot guide itself"),
    ],
)
def test_a_plan_that_there_is_not_is_refused_when_the_file_is_read(
    plan: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(f'policies: {{panel: {{fallback_price_usd: 1, plan: "{plan}"}}}}')
    with pytest.raises(ConfigError, match=told):
        load_config(path)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("recruit(merge='best_of', by='countrie')", "Did you mean 'countries'"),
        ("retrieve(by='nobody')", "policies.panel.plan: Unknown expert 'nobody'"),
        ("guide(judge='countries:terse')", "Unknown mode of countries 'terse'"),
        ("tools(by='countries')", "countries calls no tools"),
        ("tools(of='no.such_tool')", "Unknown tool or server"),
        ("compose(sequence=99)", "there is no sequence 99"),
    ],
)
def test_a_plan_that_the_pool_cannot_run_is_refused_before_any_question(
    plan: str, told: str, ledger: Ledger, tmp_path: Path
) -> None:
    panel = PolicySettings(fallback_price_usd=1, plan=plan)
    config = Config(data_dir=tmp_path, policies={"panel": panel})
    with pytest.raises(ConfigError, match=told):
        Conclave.shipped(config, ledger=ledger)


def test_every_number_that_a_strategy_takes_has_a_range() -> None:
    factories = [*STRATEGIES.values(), compose, recruit_by_skill]
    taken = {
        (name, setting.default)
        for factory in factories
        for name, setting in inspect.signature(factory).parameters.items()
        if setting.kind is setting.KEYWORD_ONLY and setting.annotation == "float"
    }
    assert {name for name, _ in taken} == set(RANGES)
    assert all(default in RANGES[name] for name, default in taken)
