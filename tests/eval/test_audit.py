"""``conclave eval audit``, through its command: what is wrong is found, what is right is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from eval.audit.controls import controls
from eval.audit.duplicates import near_pairs
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix, write_matrix
from experts.errors import DataError
from routers.estimators import ESTIMATORS
from routers.outcomes import Features, Outcomes
from skills.embedders import HashingEmbedder
from tests.eval.commands import run_eval, told
from tests.eval.recorded import data_set, matrix, written

QUICK = ("--quick", "--json")


def found_in(
    changed: OutcomeMatrix, tmp_path: Path, *arguments: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the finding of each check."""
    write_matrix(changed, tmp_path / "data")
    run = run_eval("audit", "--data", tmp_path / "data", *(arguments or QUICK))
    return run.exit_code, {f["check"]: f for f in told(run)["findings"]}


def asking(whole: OutcomeMatrix, change: Callable[[int, MatrixQuery], MatrixQuery]) -> Any:
    return replace(whole, queries=tuple(change(i, q) for i, q in enumerate(whole.queries)))


def test_clean_data_passes(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", 300)
    run = run_eval("audit", "--data", data, "--embedder", "hashing-64")
    assert run.exit_code == 0
    found = told(run)
    assert found["ok"]
    assert {f["severity"] for f in found["findings"]} == {"fine"}
    assert "Figures of this data can be used" in run.stdout


def test_a_prompt_in_two_splits_is_severe_until_allowed(tmp_path: Path) -> None:
    whole = matrix(100)
    test = next(i for i, q in enumerate(whole.queries) if q.split == "test")
    train = next(i for i, q in enumerate(whole.queries) if q.split == "train")
    copied = whole.queries[test].prompt.upper() + " "  # letter case and spacing do not count
    changed = asking(whole, lambda i, q: replace(q, prompt=copied) if i == train else q)
    code, found = found_in(changed, tmp_path)
    assert code == 1
    assert found["duplicates-across-splits"]["severity"] == "severe"
    assert whole.queries[test].query_id in found["duplicates-across-splits"]["examples"][0]
    for allowed in ("duplicates-across-splits", "all"):
        assert found_in(changed, tmp_path, *QUICK, "--allow", allowed)[0] == 0
    assert found_in(changed, tmp_path, *QUICK, "--allow", "coverage")[0] == 1


def test_repeats_and_torn_answers_are_found(tmp_path: Path) -> None:
    whole = matrix(100)
    first = next(q for q in whole.queries if q.split == "train")

    def repeated(i: int, q: MatrixQuery) -> MatrixQuery:
        return replace(q, prompt=first.prompt) if q.split == "train" and i < 20 else q

    _, found = found_in(asking(whole, repeated), tmp_path)
    assert found["duplicates-within-split"]["severity"] == "warning"
    assert found["two-answers"]["n"] == 1


LONG = (
    "A farmer has {} sheep and {} goats, sells half of the sheep at the market on Monday and then "
    "buys seven more goats from a neighbour; how many animals does the farmer have in the end?"
)


def test_near_duplicates_are_found_across_splits(tmp_path: Path) -> None:
    whole = matrix(100)
    test = [i for i, q in enumerate(whole.queries) if q.split == "test"][:2]
    train = [i for i, q in enumerate(whole.queries) if q.split == "train"][:2]
    texts = {
        test[0]: LONG.format(10, 4), train[0]: LONG.format(10, 4) + " Answer with a number.",
        test[1]: LONG.upper() + " Explain!", train[1]: LONG.lower().replace(";", ","),
    }  # fmt: skip

    def with_text(same_answer: bool) -> OutcomeMatrix:
        return asking(
            whole,
            lambda i, q: (
                replace(q, prompt=texts[i], answer="11" if same_answer else str(i))
                if i in texts
                else q
            ),
        )

    code, found = found_in(with_text(True), tmp_path)
    assert code == 1
    assert found["near-duplicates"]["severity"] == "severe"
    assert found["near-duplicates"]["n"] >= 2
    _, found = found_in(with_text(False), tmp_path)
    assert found["near-duplicates"]["severity"] == "warning"  # a template, other answers
    _, found = found_in(with_text(True), tmp_path, *QUICK, "--near", "0.99")
    assert found["near-duplicates"]["severity"] == "fine"


def test_near_pairs_are_those_of_the_exact_similarity() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(50)]
    prompts = [" ".join(rng.choice(words, 60)) for _ in range(40)]
    for i in range(20):  # variants: some words changed at the end
        cut = prompts[i].split()
        prompts.append(" ".join([*cut[: 60 - i], *(f"x{k}" for k in range(i))]))
    side = np.repeat([0, 1], [40, 20])

    def jaccard(a: str, b: str) -> float:
        sets = [{tuple(t.split()[k : k + 5]) for k in range(len(t.split()) - 4)} for t in (a, b)]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    expected = [
        (i, j) for i in range(40) for j in range(40, 60) if jaccard(prompts[i], prompts[j]) >= 0.8
    ]
    assert len(expected) >= 5
    assert near_pairs(prompts, side, threshold=0.8) == expected
    assert near_pairs(["", "..."], np.array([0, 1]), threshold=0.8) == []


def test_questions_shared_with_another_data_set_are_counted(tmp_path: Path) -> None:
    others = matrix(60, seed=7)
    known = matrix(60).queries[:5]
    stem = "What do the two brothers in the old tale find at the end of the road?\nA. Gold"

    def with_options(data: OutcomeMatrix, options: str) -> OutcomeMatrix:
        return asking(data, lambda i, q: replace(q, prompt=stem + options) if i == 9 else q)

    changed = asking(others, lambda i, q: replace(known[i], query_id=f"o{i}") if i < 5 else q)
    write_matrix(with_options(matrix(60), "\nB. Their father's house"), tmp_path / "this")
    write_matrix(
        with_options(changed, "\nB. A well\nC. Nothing at all, as so often"), tmp_path / "other"
    )
    run = run_eval("audit", "--data", tmp_path / "this", "--other", tmp_path / "other", *QUICK)
    found = {f["check"]: f for f in told(run)["findings"]}
    assert found["shared-with-other"]["n"] == 6  # one with other options
    assert found["ids-with-other-texts"]["severity"] == "severe"  # q5 means something else there


def test_answers_in_prompts_are_told_from_chance(tmp_path: Path) -> None:
    whole = matrix(100)
    quoted = asking(whole, lambda i, q: replace(q, prompt=f"{q.prompt} ({q.answer} or 3)"))
    code, found = found_in(quoted, tmp_path)
    assert code == 0
    assert found["answer-in-prompt"]["severity"] == "warning"
    assert "sums 100%" in found["answer-in-prompt"]["what"]
    given = asking(whole, lambda i, q: replace(q, prompt=f"{q.prompt}\nAnswer: {q.answer}"))
    code, found = found_in(given, tmp_path)
    assert code == 1
    assert found["answer-given-away"]["n"] == 100
    # Options that every question lists, and worked examples, say nothing.
    letters = asking(
        whole,
        lambda i, q: replace(
            q, answer="ABCD"[i % 4], prompt=f"Q: 1? Answer: B. {q.prompt} Options: A, B, C, D"
        ),
    )
    found = found_in(letters, tmp_path)[1]
    assert found["answer-in-prompt"]["severity"] == "fine"
    assert "answer-given-away" not in found


def test_scores_that_disagree_with_the_answers_are_found(tmp_path: Path) -> None:
    whole = matrix(100)
    flipped = np.where(np.arange(100)[:, None] < 10, 1 - whole.score, whole.score)
    code, found = found_in(replace(whole, score=flipped), tmp_path)
    assert code == 1
    assert found["score-disagrees"]["severity"] == "severe"
    assert found["score-lenient"]["n"] > 0
    silent = np.full(whole.pred.shape, None, object)
    _, found = found_in(replace(whole, pred=silent), tmp_path)
    assert found["score-disagrees"]["severity"] == "note"
    assert found["no-answers"]["n"] == 4


def test_splits_that_are_not_alike_are_found(tmp_path: Path) -> None:
    whole = matrix(400)
    test = np.array([q.split == "test" for q in whole.queries])
    harder = np.where(test[:, None] & (np.arange(400)[:, None] % 3 > 0), 0.0, whole.score)
    _, found = found_in(replace(whole, score=harder), tmp_path)
    assert found["splits-differ"]["severity"] == "warning"
    assert "test" in found["splits-differ"]["what"]
    other_mix = asking(whole, lambda i, q: replace(q, task="sums") if q.split == "test" else q)
    _, found = found_in(other_mix, tmp_path)
    assert found["tasks-by-split"]["severity"] == "warning"
    new = asking(whole, lambda i, q: replace(q, task="new") if q.split == "test" else q)
    assert found_in(new, tmp_path)[1]["unseen-tasks"]["n"] == 1


@pytest.mark.parametrize(
    ("split", "severity"), [("test", "severe"), ("train", "note"), (None, "note")]
)
def test_an_empty_side_is_said(tmp_path: Path, split: str | None, severity: str) -> None:
    one = asking(matrix(60), lambda i, q: replace(q, split=split))
    assert found_in(one, tmp_path)[1]["splits"]["severity"] == severity


def test_holes_are_found_and_whether_they_are_by_luck(tmp_path: Path) -> None:
    whole = matrix(800)
    score, cost = whole.score.copy(), whole.cost_usd.copy()
    hard = np.flatnonzero(score[:, :3].sum(axis=1) == 0)[:35]
    score[hard, 3] = cost[hard, 3] = np.nan  # 4 %: still in the pool
    score[200:, 0] = cost[200:, 0] = np.nan
    cost[:5, 1] = np.nan
    cost[:, 2] = 0
    code, found = found_in(replace(whole, score=score, cost_usd=cost), tmp_path)
    assert code == 1
    assert "tiny 25%" in found["coverage"]["what"]
    assert "large" in found["missing-not-at-random"]["what"]
    assert "sums-expert 1%" in found["unknown-prices"]["what"]
    assert found["free-models"]["severity"] == "warning"
    pool = tmp_path / "pool.json"
    pool.write_text('["words-expert", "large"]')
    _, found = found_in(
        replace(whole, score=score, cost_usd=cost), tmp_path, *QUICK, "--pool", str(pool)
    )
    assert "unknown-prices" not in found  # only what plays is looked at


def test_columns_that_say_nothing_are_found(tmp_path: Path) -> None:
    whole = matrix(60)
    score, pred = whole.score.copy(), whole.pred.copy()
    score[:, 0], score[:, 1] = 0, 1
    pred[:, 0] = "42"
    score[:, 3], pred[:, 3] = score[:, 2], pred[:, 2]
    _, found = found_in(replace(whole, score=score, pred=pred), tmp_path)
    assert "tiny" in found["never-right"]["what"]
    assert "sums-expert" in found["always-right"]["what"]
    assert "'42'" in found["constant-answer"]["what"]
    assert "words-expert = large" in found["same-column"]["what"]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_class_is_severe(tmp_path: Path, score: float) -> None:
    whole = matrix(60)
    code, found = found_in(replace(whole, score=np.full(whole.score.shape, score)), tmp_path)
    assert code == 1
    assert f"every score is {score:g}" in found["one-class"]["what"]


def test_a_pool_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    whole = matrix(60)
    score = whole.score.copy()
    score[::2, :2] = score[1::2, 2:] = np.nan
    code, found = found_in(replace(whole, score=score), tmp_path)
    assert code == 1
    assert "No model answered 95 %" in found["pool"]["what"]


def test_ids_that_occur_twice_are_refused(tmp_path: Path) -> None:
    asked = [{"query_id": "q", "prompt": p} for p in ("one text", "another text")]
    data = written(tmp_path / "d", asked, [])
    with pytest.raises(DataError, match="the query 'q' occurs twice"):
        told(run_eval("audit", "--data", data))


def embedded(pool: OutcomeMatrix) -> np.ndarray:
    return HashingEmbedder(64).embed([q.prompt for q in pool.queries])


class Remembers:
    """A broken router: what it saw in other folds, it knows for ever."""

    seen: dict[bytes, np.ndarray] = {}  # noqa: RUF012 - this is the bug

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        for row, scores in zip(features.embeddings, outcomes.scores, strict=True):
            self.seen[row.tobytes()] = scores
        self.rates_ = outcomes.scores.mean(axis=0)
        return self

    def predict(self, features: Features) -> np.ndarray:
        return np.array([self.seen.get(row.tobytes(), self.rates_) for row in features.embeddings])


def test_shuffled_labels_catch_a_router_that_sees_what_it_predicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = matrix(300)
    found = [f for f in controls(pool, embedded(pool)) if f.check == "shuffled-labels"]
    assert [f.severity for f in found] == ["fine", "fine"]
    monkeypatch.setitem(ESTIMATORS, "knn", Remembers)  # type: ignore[arg-type]
    [broken, _] = [f for f in controls(pool, embedded(pool)) if f.check == "shuffled-labels"]
    assert broken.severity == "severe"


def test_a_router_that_does_not_carry_over_is_warned_of() -> None:
    """Three tasks that look alike in pairs, and in each another expert is the wrong one."""
    pool = matrix(600)
    rng = np.random.default_rng(0)
    task = np.array(["a", "b", "c"], object)[np.arange(600) % 3]
    pool = asking(pool, lambda i, q: replace(q, task=task[i]))
    # One dimension, in which b lies between a and c: what is right for both sides fails there.
    vectors = np.eye(8)[np.zeros(600, int)] + rng.normal(0, 0.1, (600, 8))
    vectors[:, 1] += np.select([task == "a", task == "c"], [-1.0, 1.0])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    p = np.full(pool.score.shape, 0.2)
    p[:, 3] = 0.7
    p[task != "b", 1] = 0.75
    p[task == "b", 1] = 0.05
    scored = replace(pool, score=(rng.random(p.shape) < p).astype(float))
    found = [f for f in controls(scored, vectors) if f.check == "leave-one-task-out"]
    assert [f.severity for f in found] == ["fine", "fine"]  # the best single one fails alike
    p[task == "b", 1], p[:, 1] = 0.05, np.where(task == "b", 0.05, np.where(task == "a", 0.95, 0.1))
    p[task == "c", 2] = 0.95
    scored = replace(pool, score=(rng.random(p.shape) < p).astype(float))
    found = [f for f in controls(scored, vectors) if f.check == "leave-one-task-out"]
    assert "warning" in {f.severity for f in found}
    assert "b -" in found[0].what


def test_controls_say_what_they_could_not_do() -> None:
    pool = matrix(300)
    few = controls(pool[np.arange(10)], embedded(pool)[:10])
    assert [f.check for f in few] == ["controls"]
    one_task = pool[np.array([q.task == "sums" for q in pool.queries])]
    left = [f for f in controls(one_task, embedded(one_task)) if f.check == "leave-one-task-out"]
    assert {f.severity for f in left} == {"note"}


def test_people_get_a_table_with_hostile_names_inert(tmp_path: Path) -> None:
    whole = matrix(60)
    changed = replace(whole, models=("[red]tiny[/red] :train:", *whole.models[1:]))
    cost = whole.cost_usd.copy()
    cost[:, 0] = np.nan
    write_matrix(replace(changed, cost_usd=cost), tmp_path / "data")
    run = run_eval("audit", "--data", tmp_path / "data", "--quick")
    assert run.exit_code == 1
    assert "[red]tiny[/red] :train:" in run.stdout
    assert "1 severe" in run.stdout
    assert "--allow unknown-prices" in run.stdout
