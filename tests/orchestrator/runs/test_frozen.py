"""What a durable run was begun with comes back whole; what cannot be read is told of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.errors import DataError
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.values import Arm, Limits, Message, Query, Sampling, ToolCall
from orchestrator.conclave import Conclave
from orchestrator.config import Config, PolicySettings
from orchestrator.decision import Decision
from orchestrator.drivers.run import Recall, Run
from orchestrator.fitted import Fitted
from orchestrator.learning.history import FitHistory
from orchestrator.ledger import Ledger
from orchestrator.runs.frozen import decision_state, read_decision
from orchestrator.runs.runs import Runs
from orchestrator.runs.views import RunList, run_object
from routers.plans import Plan
from routers.policy import Choice
from routers.scores import LoadShare, QueryScores, ReadPrefix
from skills.embedders import HashingEmbedder
from tests import pools
from tests.orchestrator.runs.relays import Folder, opened, start

A, B = Arm("a"), Arm("b", "terse")
SCORES = QueryScores(
    arms=(A, B),
    p_correct=np.array([0.5, 0.75]),
    sd=np.array([0.1, 0.2]),
    cost_usd=np.array([1e-3, 2e-3]),
    latency_s=np.array([0.5, 1.5]),
    novelty=0.25,
    is_general=True,
    skills={"addition": 0.5},
    loads={"b": LoadShare(load_s=3.0, load_usd=0.5, n_sharing=2)},
    may_stand_in={"b": frozenset({"a"})},
    prefixes={A: ReadPrefix(n_tokens=9.0, saves_usd_per_mtok=0.5, cached_usd_per_mtok=0.1)},
    other_choice=B,
    shift=np.array([0.3, -0.1]),
    fitted_shift=np.array([0.1, 0.0]),
    known_n=np.array([5.0, 7.0]),
)
QUERY = Query(
    query_id="q-7",
    messages=(
        Message(
            role="assistant",
            content="x",
            tool_calls=(ToolCall(id="t", name="add", arguments="{}"),),
        ),
        Message(role="tool", content="3", tool_call_id="t"),
        Message(role="user", content="And now?"),
    ),
    fallback_price_usd=0.5,
    limits=Limits(
        max_cost_usd=1.0, max_calls=3, timeout_s=4.0, max_s=5.0, experts=frozenset({"a"})
    ),
    sampling=Sampling(
        max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop=("!",), extra=(("tools", "[]"),)
    ),
    caller="me",
    account="key-7",
)
DECISION = Decision(
    decision_id="dec-7",
    query=QUERY,
    policy="best",
    choice=Choice(
        plan=Plan("vote", (("n", "3"),)), p_correct=0.9, cost_usd=0.1, reason="why", considered=()
    ),
    scores=SCORES,
    router_cost_usd=1e-6,
    router_s=1e-3,
    state="0123456789abcdef",
)
NOT_KEPT = {
    # Never explored, nor asked for keywords; the fitted state is found again by ``state``.
    Decision: {"exploration", "instead_of", "before_keywords", "fitted"},
    Choice: {"considered"},
}


def again(decision: Decision = DECISION) -> Decision:
    return read_decision(json.loads(json.dumps(decision_state(decision))))


def values(of: Any) -> dict[str, Any]:
    kept = [f for f in fields(of) if f.init and f.name not in NOT_KEPT.get(type(of), ())]
    return {f.name: getattr(of, f.name) for f in kept}


def parts(decision: Decision) -> list[Any]:
    query, choice, scores = decision.query, decision.choice, decision.scores
    return [decision, choice, scores, query, query.limits, query.sampling, *query.messages]


@pytest.mark.parametrize("i", range(len(parts(DECISION))))
def test_every_field_comes_back(i: int) -> None:
    """A field that is added fails here until it has a value above, and is kept."""
    before, after = parts(DECISION)[i], parts(again())[i]
    nested = {"query", "choice", "scores", "limits", "sampling", "messages"}
    for name, value in values(before).items():
        if name not in nested:
            assert np.array_equal(getattr(after, name), value), name
    if isinstance(before, Message):
        return  # no one message has everything; together they do
    for f in fields(before):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if f.init and f.name not in NOT_KEPT.get(type(before), ()) and default is not MISSING:
            told = getattr(before, f.name)
            assert not np.array_equal(told, default), f"give {f.name} another value above"


def test_messages_are_covered_together() -> None:
    for f in fields(Message):
        assert len({getattr(m, f.name) for m in QUERY.messages}) > 1, f.name


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda s: s.pop("query"), "it has no 'query'"),
        (lambda s: s["query"].pop("caller"), "it has no 'caller'"),
        (lambda s: s.update(format=99), "it is of format 99"),
        (lambda s: s["query"].update(messages=None), "not iterable"),
        (lambda s: s["query"].update(strange=1) or s["query"]["limits"].update(x=1), "'x'"),
    ],
)
def test_what_cannot_be_read_is_told_of_and_hides_no_other_run(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], why: str
) -> None:
    folder = Folder(tmp_path)
    with opened(folder) as runs:
        good, bad = start(runs), start(runs)
        state = dict(runs.store.get(bad).decision)
        damage(state)
        runs.store._db.execute(
            "UPDATE runs SET decision = ? WHERE run_id = ?", [json.dumps(state), bad]
        )
        runs.store._db.commit()
        told = {v.row.run_id: run_object(v) for v in runs.views()}
        assert told[good]["question"] == "begin"
        assert why in told[bad]["problem"]
        assert f"conclave runs cancel {bad}" in told[bad]["problem"]
        with pytest.raises(DataError, match="cannot be read"):
            asyncio.run(runs.go_on(bad))
        views, problems = asyncio.run(runs.go_on_with_all())
        assert [v.row.run_id for v in views] == [good]
        assert list(problems) == [bad]
    with Ledger(folder.config.ledger_path) as ledger, RunList(ledger, folder.config) as looked_at:
        assert looked_at.cancel(bad).state == "cancelled"


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_row_that_is_no_json_is_told_of(tmp_path: Path, text: str) -> None:
    with opened(Folder(tmp_path)) as runs:
        run_id = start(runs)
        runs.store._db.execute("UPDATE runs SET decision = ?", [text])
        runs.store._db.commit()
        [told] = [run_object(v) for v in runs.views()]
        assert (told["run_id"], told["state"], told["question"]) == (run_id, "stopped", None)
        assert "cannot be read" in told["problem"]


class Watched(Conclave):
    """Remembers by which states runs were followed."""

    followed_by: list[str | None]

    def run_of(
        self, decision: Decision, recall: Recall | None = None, *, keywords_first: bool = True
    ) -> Run:
        self.followed_by.append(decision.fitted and decision.fitted.state_id)
        return super().run_of(decision, recall, keywords_first=keywords_first)


def watched(ledger: Ledger, fitted: Fitted) -> Watched:
    experts: dict[str, Expert] = pools.experts()
    conclave = Watched(
        experts,
        ledger,
        embedder=HashingEmbedder(),
        fitted=fitted,
        policies={"conclave": PolicySettings(fallback_price_usd=1e-3)},
        host_usd_per_s=0.0,
    )
    conclave.followed_by = []
    return conclave


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_run_is_followed_by_the_state_that_it_was_decided_by(
    tmp_path: Path, fitted: Fitted, is_kept: bool
) -> None:
    config = Config(data_dir=tmp_path)
    newer = replace(fitted, report={**fitted.report, "n_questions": -1})
    assert newer.state_id != fitted.state_id
    history = FitHistory(tmp_path)
    if is_kept:
        history.add(fitted)
    history.use(history.add(newer))
    [asked] = [q for q in pools.questions() if q.split == "test"][:1]
    with Ledger(config.ledger_path) as ledger:
        with Runs(watched(ledger, fitted), config) as runs:
            run_id = runs.start(asked.query(1e-3), "conclave")
        later = watched(ledger, newer)
        with Runs(later, config) as runs:
            assert asyncio.run(runs.go_on(run_id)).state == "done"
    assert later.followed_by == [fitted.state_id if is_kept else None]
    assert isinstance(later.experts["sums"], FakeExpert)
