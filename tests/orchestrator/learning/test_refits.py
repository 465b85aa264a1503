"""States that are kept, put to use by one rename, judged before; and when a refit is due."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.recording.record import record_outcomes
from experts.errors import UnknownName, UserError
from experts.expert import Pool
from experts.values import Arm
from orchestrator import aggregator_fitting
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.learning import refit as refits
from orchestrator.learning.history import FitHistory
from orchestrator.learning.refit import MIN_HELD_OUT, judge, refit
from orchestrator.learning.watch import Watch, fitted_position
from orchestrator.ledger import Ledger
from routers.online import Shifts
from skills.embedders import HashingEmbedder
from tests import pools
from tests.typed import typed


class Clock:
    """Seconds that pass when told."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def load(history: FitHistory) -> Fitted:
    return Fitted.load(
        history.current_dir, Pool.of(pools.experts().values()), HashingEmbedder().name
    )


def numbered(fitted: Fitted, n: int) -> Fitted:
    return replace(fitted, report={**fitted.report, "n_questions": n})


def test_states_are_kept_and_restored(fitted: Fitted, tmp_path: Path) -> None:
    clock = Clock()
    history = FitHistory(tmp_path, clock=clock)
    assert history.current_id is None
    ids = []
    for n in (1, 2):
        clock.now += 60
        ids.append(history.add(numbered(fitted, n)))
    assert history.current_id is None  # kept, not in use
    history.use(ids[1])
    assert load(history).report["n_questions"] == 2
    history.use(ids[0])
    assert load(history).report["n_questions"] == 1
    assert [(f.fit_id, f.is_current) for f in history.fits()] == [(ids[0], True), (ids[1], False)]
    with pytest.raises(UnknownName, match=f"Did you mean '{ids[0][:-1]}"):
        history.use(ids[0][:-1] + "x")


def test_the_oldest_that_nobody_uses_are_dropped(fitted: Fitted, tmp_path: Path) -> None:
    clock = Clock()
    history = FitHistory(tmp_path, keep=3, clock=clock)
    ids = []
    for n in range(6):
        clock.now += 60
        ids.append(history.add(numbered(fitted, n)))
        if n == 1:
            history.use(ids[1])
    assert [f.fit_id for f in history.fits()] == [ids[1], ids[4], ids[5]]


@pytest.mark.parametrize("step", ["rename", "replace"])
def test_a_crash_in_the_middle_leaves_the_old_state(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    history = FitHistory(tmp_path)
    history.use(first := history.add(numbered(fitted, 1)))

    class Killed(BaseException):
        pass

    whole = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if step == "rename" or Path(target).name == "current":
            raise Killed
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, killed)
        with pytest.raises(Killed):
            history.use(history.add(numbered(fitted, 2)))
    assert history.current_id == first
    assert load(history).report["n_questions"] == 1
    history.use(history.add(numbered(fitted, 2)))
    assert load(history).report["n_questions"] == 2


def test_a_line_that_a_crash_cut_off_is_left_out_of_the_log(tmp_path: Path) -> None:
    history = FitHistory(tmp_path, clock=Clock())
    history.note(outcome="worse", position=3)
    with (tmp_path / "fits" / "log.jsonl").open("a") as file:
        file.write('{"at": 1, "outc')
    assert [entry["outcome"] for entry in history.log()] == ["worse"]


def test_shifts_of_use_are_part_of_the_state(fitted: Fitted, tmp_path: Path) -> None:
    shape = fitted.router.profiles_.trials.shape[0], fitted.router.profiles_.trials.shape[1] + 1
    moved = replace(
        fitted,
        shifts=Shifts(logits=np.full(shape, -1.0), n=np.ones(shape), prior_n=np.ones(shape)),
    )
    moved.save(tmp_path)
    pool = Pool.of(pools.experts().values())
    again = Fitted.load(tmp_path, pool, HashingEmbedder().name)
    assert again.state_id == moved.state_id != fitted.state_id

    def p(state: Fitted) -> np.ndarray:
        texts = ["How much is 1 plus 2 plus 3?"]
        return state.score(texts, np.array([28]), HashingEmbedder().embed).p_correct

    assert (p(again) < p(fitted)).all()


# Judging.


def expected(p_by_fit: dict[int, float], n: int) -> Any:
    """Scores are 1 for three of four questions; each state believes one number of all."""

    def tell(fitted: Fitted, rows: Sequence[Any]) -> Any:
        p = p_by_fit[fitted.report["n_questions"]]
        return {f"s{i}": (f"q{i}", [p], float(i % 4 > 0)) for i in range(n)}

    return tell


def test_what_is_worse_is_told_from_luck(fitted: Fitted) -> None:
    new, old = numbered(fitted, 1), numbered(fitted, 2)
    worse = judge(new, old, [], expected({1: 0.1, 2: 0.75}, 60))
    assert worse
    assert worse.is_worse
    better = judge(new, old, [], expected({1: 0.75, 2: 0.1}, 60))
    assert better
    assert not better.is_worse
    same = judge(new, old, [], expected({1: 0.75, 2: 0.75}, 60))
    assert same
    assert not same.is_worse
    assert judge(new, old, [], expected({1: 0.1, 2: 0.75}, MIN_HELD_OUT - 1)) is None


class Refitting:
    """A pool of scripted experts, its ledger and what was fitted, for ``refit``."""

    def __init__(self, folder: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = Config(data_dir=folder)
        self.history = FitHistory(folder, clock=Clock())
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.made: list[frozenset[str]] = []
        self.error: float | None = None
        monkeypatch.setattr(refits, "make_experts", lambda config: pools.experts())
        monkeypatch.setattr(refits, "make_embedder", lambda name: HashingEmbedder())
        monkeypatch.setattr(refits, "load_fitted", lambda *a: fitted)

        def fit(config: Config, ledger: Ledger, pool: Pool, **how: Any) -> Fitted:
            self.made.append(how.get("without", frozenset()))
            report = {**fitted.report, **ledger.position()}
            made = replace(fitted, report=report)
            if self.error is None:
                return made
            shape = made.router.profiles_.trials.shape
            logits = np.full((shape[0], shape[1] + 1), self.error)
            return replace(
                made,
                shifts=Shifts(
                    logits=logits, n=np.ones(logits.shape), prior_n=np.ones(logits.shape)
                ),
            )

        monkeypatch.setattr(refits, "fit_with_use", fit)

    def record(self, n: int) -> None:
        asked = [q for q in pools.questions(n) if q.split != "test"]
        asyncio.run(record_outcomes(asked, pools.experts(asked), self.ledger))

    def run(self) -> refits.Refit:
        return refit(self.config, self.ledger, self.history)


@pytest.fixture
def refitting(tmp_path: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> Refitting:
    return Refitting(tmp_path, fitted, monkeypatch)


def test_a_refit_that_is_no_worse_is_put_to_use(refitting: Refitting) -> None:
    refitting.record(300)
    done = refitting.run()
    assert done.outcome == "in use"
    assert refitting.history.current_id == done.fit_id
    held_out, nothing = refitting.made
    assert len(held_out) >= MIN_HELD_OUT
    assert nothing == frozenset()
    assert refitting.history.log()[-1]["judgement"]["n"] == len(held_out)


def test_a_refit_that_is_worse_is_not_put_to_use_and_the_log_says_so(refitting: Refitting) -> None:
    refitting.record(300)
    refitting.error = -3.0
    done = refitting.run()
    assert done.outcome == "worse"
    assert refitting.history.current_id is None
    [entry] = refitting.history.log()
    assert entry["outcome"] == "worse"
    assert "squared error" in entry["reason"]


def test_with_too_few_newer_questions_what_is_in_use_stays(refitting: Refitting) -> None:
    refitting.record(20)
    assert refitting.run().outcome == "too few"
    assert refitting.made == []


def test_a_state_that_is_restored_during_a_refit_stays(
    refitting: Refitting, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    refitting.record(300)
    restored = refitting.history.add(numbered(fitted, 7))
    judged = refits.judge

    def restores(*of: Any) -> Any:
        refitting.history.use(restored)
        return judged(*of)

    monkeypatch.setattr(refits, "judge", restores)
    assert refitting.run().outcome == "overtaken"
    assert refitting.history.current_id == restored


def test_another_aggregator_leaves_what_was_learned_and_what_was_put_to_use(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring takes minutes; another state may be in use when it is done."""
    monkeypatch.setattr(aggregator_fitting, "make_experts", lambda config: pools.experts())
    monkeypatch.setattr(aggregator_fitting, "make_embedder", lambda name: HashingEmbedder())
    history = FitHistory(tmp_path, clock=Clock())
    history.use(history.add(numbered(fitted, 1)))
    best = aggregator_fitting.Measured(
        arm=Arm("sums"), n=15, n_right=9, n_failed=0, error=None, cost_usd=0.0, n_chains=0
    )
    found = aggregator_fitting.AggregatorFit(
        measured=(best,), likeliest=None, n_tasks=15, without_outcomes=(), left_out=()
    )
    refitted = history.add(numbered(fitted, 2))
    history.use(refitted)  # while it was measured
    fit_id = aggregator_fitting.use_aggregator(Config(data_dir=tmp_path), history, found, seed=0)
    assert history.current_id == fit_id != refitted
    now = load(history)
    assert (now.aggregator, now.report["n_questions"]) == (Arm("sums"), 2)
    assert now.state_id == numbered(fitted, 2).state_id


def test_a_fit_waits_for_nobody_and_says_so(data_dir: Path) -> None:
    with FitHistory(data_dir).alone():
        refused = typed("fit")
    assert refused.returncode == 2
    assert "Another process is fitting" in refused.stderr


def test_two_refits_do_not_run_at_once(refitting: Refitting) -> None:
    with (
        refitting.history.alone(),
        pytest.raises(UserError, match="Another process"),
    ):
        refitting.run()


# When one is due.


class Process:
    """Of a refit that ends when told."""

    code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -15

    def wait(self) -> int | None:
        return self.code


def test_a_refit_is_due_after_so_many_outcomes_and_one_runs_at_a_time(
    tmp_path: Path, ledger: Ledger
) -> None:
    history = FitHistory(tmp_path, clock=Clock())
    started: list[Process] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(Process())
        return started[-1]  # type: ignore[return-value]

    watch = Watch(
        ledger=ledger, history=history, every_n=30, start=start,
        fitted_at=lambda: fitted_position(history, ledger),
    )  # fmt: skip
    assert not watch.look()
    asked = pools.questions(30)
    asyncio.run(record_outcomes(asked[:10], pools.experts(), ledger))
    assert watch.look()
    assert not watch.look()  # it runs
    started[0].code = 0
    assert not watch.look()  # it was tried, and nothing is new
    history.note(outcome="worse", position=30)
    asyncio.run(record_outcomes(asked[10:20], pools.experts(), ledger))
    assert watch.look()
    watch.stop()
    assert started[1].code == -15


def test_a_server_takes_over_what_is_put_to_use(
    fitted: Fitted, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator import conclave as module

    config = Config(data_dir=data_dir, embedder="hashing-1024")
    monkeypatch.setattr(module, "make_experts", lambda config: pools.experts())
    history = FitHistory(data_dir)
    history.use(first := history.add(numbered(fitted, 1)))
    system = module.Conclave.from_config(config)
    with system.ledger:
        assert system.require_fitted().report["n_questions"] == 1
        history.use(history.add(numbered(fitted, 2)))
        system.learn()
        assert system.require_fitted().report["n_questions"] == 2
        (history.current_dir / "router.npz").write_bytes(b"damaged")
        history.use(first)
        system.learn()
        assert system.require_fitted().report["n_questions"] == 1


def test_the_command_lists_and_restores(fitted: Fitted, data_dir: Path) -> None:
    history = FitHistory(data_dir)
    ids = [history.add(numbered(fitted, n)) for n in (1, 2)]
    history.use(ids[1])
    told = json.loads(typed("fit", "list", "--json").stdout)
    assert {f["id"]: f["in_use"] for f in told["fits"]} == {ids[0]: False, ids[1]: True}
    assert json.loads(typed("fit", "restore", ids[0], "--json").stdout)["in_use"] == ids[0]
    assert history.current_id == ids[0]
    assert "restored" in typed("fit", "list").stdout
    refused = typed("fit", "restore", "nothing")
    assert refused.returncode == 2
    assert "Unknown fit 'nothing'" in refused.stderr
    assert "refit_every_n" in typed("fit", "--watch").stderr
