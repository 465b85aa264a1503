"""``conclave fit aggregator``: who puts answers together is measured, kept and asked."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eval.recording.record import record_outcomes
from experts.errors import DataError
from experts.expert import Expert, Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call
from orchestrator.aggregator_fitting import AggregatorFit, fit_aggregator, synthetic_tasks
from orchestrator.conclave import Conclave
from orchestrator.config import PolicySettings, load_config
from orchestrator.fitted import Fitted
from orchestrator.fitting import fit_pool
from orchestrator.learning.history import FitHistory
from orchestrator.ledger import Ledger
from skills.embedders import HashingEmbedder
from tests import pools
from tests.typed import typed

ASKED = [q for q in pools.questions() if q.split == "train"]
UNKNOWN = "I do not know"


def reads(call: Call) -> str:
    """Finds the one candidate that knows something."""
    said = re.findall(r"<candidate_\d+ \w+>\n(.*?)\n</", call.messages[-1].content, re.S)
    return next((text for text in said if text != UNKNOWN), UNKNOWN)


def experts() -> dict[str, Expert]:
    return {**pools.experts(), "reader": FakeExpert("reader", reads)}


def recorded(ledger: Ledger, of: dict[str, Expert]) -> None:
    asyncio.run(record_outcomes(ASKED, of, ledger))


def found(ledger: Ledger, **settings: float) -> AggregatorFit:
    def record(completions: object) -> None:
        ledger.add_calls(completions, [None] * len(completions))  # type: ignore[arg-type]

    return asyncio.run(
        fit_aggregator(list(ledger.recorded_calls()), experts(), record, n=15, seed=0, **settings)  # type: ignore[arg-type]
    )


def test_a_task_has_one_right_answer_and_two_wrong_ones_shuffled(ledger: Ledger) -> None:
    recorded(ledger, experts())
    tasks = synthetic_tasks(list(ledger.recorded_calls()), n=15, seed=0)
    assert len(tasks) == 15
    places = set()
    for task in tasks:
        right = [i for i, c in enumerate(task.chains) if c.answer == task.right]
        assert len(right) == 1
        places.add(right[0])
        assert len(task.chains) == 3
    assert places == {0, 1, 2}
    assert tasks == synthetic_tasks(list(ledger.recorded_calls()), n=15, seed=0)


def test_whoever_finds_the_right_answer_is_best_and_every_call_is_in_the_ledger(
    ledger: Ledger,
) -> None:
    recorded(ledger, pools.experts())  # nothing of the reader's own
    before = ledger.total_cost_usd()
    fit = found(ledger)
    assert fit.best == Arm("reader")
    assert (fit.measured[0].n_right, fit.measured[0].n) == (15, 15)
    assert fit.measured[0].interval[0] > 0.7
    assert [m.n_right for m in fit.measured[1:]] == [0, 0, 0]
    assert fit.without_outcomes == ("reader",)
    assert "reader: no graded outcomes" in fit.notes[0]
    assert ledger.total_cost_usd() - before == pytest.approx(fit.cost_usd)
    assert fit.cost_usd > 0
    # They are no outcomes: fitting learns nothing of them.
    assert len(list(ledger.recorded_calls())) == 3 * len(ASKED)


def test_a_budget_is_kept_beforehand(ledger: Ledger) -> None:
    recorded(ledger, experts())
    fit = found(ledger, budget_usd=0.0)
    assert fit.measured == ()
    assert fit.best is None
    assert len(fit.left_out) == 4
    assert fit.cost_usd == 0


def test_too_few_answers_are_refused_with_advice(ledger: Ledger) -> None:
    with pytest.raises(DataError, match="Only 0 questions have one right answer"):
        found(ledger)


def test_the_command_keeps_the_best_and_a_refit_keeps_it_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("conclave", "fitting", "aggregator_fitting"):
        monkeypatch.setattr(f"orchestrator.{module}.make_experts", lambda config: experts())
    (tmp_path / "conclave.yaml").write_text("embedder: hashing-1024\n")
    config = load_config(None)
    with Ledger(config.ledger_path) as ledger:
        recorded(ledger, experts())
    refused = typed("fit", "aggregator")
    assert refused.returncode == 2
    assert "conclave fit" in refused.stderr
    assert typed("fit", "--json").returncode == 0
    run = typed("fit", "aggregator", "--n", "15")
    assert run.returncode == 0, run.stderr
    assert "15 tasks: one right answer, two wrong ones" in run.stdout
    assert "reader aggregates where a plan names nobody" in run.stdout
    told = json.loads(typed("fit", "aggregator", "--n", "15", "--json").stdout)
    assert told["best"] == "reader"
    assert told["likeliest"] == {"n_right": 0, "n": 15}  # nobody's field: what it is good at
    typed("fit", "--json")
    folder = FitHistory(config.data_dir).current_dir
    fitted = Fitted.load(folder, Pool.of(experts().values()), "hashing-1024")
    assert fitted.aggregator == Arm("reader")
    assert fitted.report["aggregator"]["n_tasks"] == 15


def test_the_best_is_kept_and_asked_where_a_plan_names_nobody(
    ledger: Ledger, tmp_path: Path
) -> None:
    recorded(ledger, experts())
    pool = Pool.of(experts().values())
    embedder = HashingEmbedder()
    bare = fit_pool(list(ledger.recorded_calls()), pool, embedder, pools.CATEGORY_OF)
    assert bare.aggregator is None
    replace(bare, aggregator=Arm("reader")).save(tmp_path)
    fitted = Fitted.load(tmp_path, pool, embedder.name)
    assert fitted.aggregator == Arm("reader")
    plans = {
        "nobody": "recruit(k=3, merge='synthesis')",
        "somebody": "recruit(k=3, merge='synthesis', by='sums')",
    }
    conclave = Conclave(
        experts(),
        ledger,
        embedder=embedder,
        fitted=fitted,
        policies={k: PolicySettings(fallback_price_usd=1e-3, plan=p) for k, p in plans.items()},
        host_usd_per_s=1e-6,
    )
    question = ASKED[0].query(1e-3)

    def writer(policy: str, **limits: frozenset[str]) -> Arm:
        query = replace(question, limits=replace(question.limits, **limits))  # type: ignore[arg-type]
        result = asyncio.run(conclave.answer(query, policy, source="test"))
        return result.answer.completions[-1].call.arm

    assert writer("nobody") == Arm("reader")
    assert writer("somebody") == Arm("sums")
    # One that may not be asked is not: the likeliest of the others writes.
    others = frozenset({"sums", "cities", "generalist"})
    assert writer("nobody", experts=others).expert in others
