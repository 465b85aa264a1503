"""``conclave eval cost-of-pass``, through its command, on outcomes whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.cost_of_pass.account import accounts_of
from eval.cost_of_pass.few_runs import (
    chosen_by_group,
    jackknife_bias,
    over_all_orders,
    until_successes,
)
from eval.cost_of_pass.pool_frontier import frontier_of
from eval.json_ready import json_ready
from eval.outcomes.matrix import MatrixQuery, MatrixRow, matrix_of, write_matrix
from eval.outcomes.runs import Arm, arms_of, with_vote
from eval.statistics import Resamples, percentile_interval
from experts.errors import DataError, UnknownName
from tests.eval.commands import run_eval, told
from tests.eval.recorded import COST_USD, data_set, matrix, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), 400)


def arm(name: str, score: list[list[float]], cost: list[list[float]]) -> Arm:
    return Arm(name=name, score=np.array(score, float), cost_usd=np.array(cost, float))


def test_the_account_of_two_arms_by_hand() -> None:
    # Four problems, one run: 2 of 4 right at 1 $ each; 3 of 4 right at 3 $ each.
    cheap = arm("cheap", [[1], [1], [0], [0]], [[1.0]] * 4)
    dear = arm("dear", [[1], [0], [1], [1]], [[3.0]] * 4)
    a, b = accounts_of([cheap, dear], human_usd=np.full(4, 10.0), failure_prices_usd=[4.0, 100.0])
    assert (a.accuracy, a.pooled_usd) == (0.5, 2.0)
    assert (b.accuracy, b.pooled_usd) == (0.75, 4.0)
    # Cost + (1 - accuracy) V.
    assert a.objective_usd == {4.0: 3.0, 100.0: 51.0}
    assert b.objective_usd == {4.0: 4.0, 100.0: 28.0}
    assert (a.per_problem.mean_ratio_usd, a.per_problem.unsolved_share) == (np.inf, 0.5)
    assert a.per_problem.mean_where_solved_usd == 1.0
    assert a.per_problem.with_human_usd == (1 + 1 + 10 + 10) / 4
    assert a.per_problem.tries_then_human_usd == (1 + 1 + 11 + 11) / 4
    assert (a.against.reference, a.against.accuracy_difference) == ("dear", -0.25)
    assert (a.against.cost_ratio, a.against.pooled_ratio) == pytest.approx((1 / 3, 0.5))
    assert np.isnan(a.accuracy_at_equal_cost)  # nobody is as cheap
    assert a.cost_at_equal_accuracy_usd_per_1k == 3000
    assert np.isinf(b.cost_at_equal_accuracy_usd_per_1k)
    assert b.accuracy_at_equal_cost == 0.5
    assert a.on_hull
    assert b.on_hull


def test_the_frontier_of_two_arms_by_hand() -> None:
    cheap = arm("cheap", [[1], [1], [0], [0]], [[1.0]] * 4)
    dear = arm("dear", [[1], [0], [1], [0]], [[3.0]] * 4)
    found = frontier_of(
        [cheap, dear], np.array(["t"] * 4, object), np.full(4, 10.0), techniques=["dear"]
    )
    assert found.claimed.value == (1 + 1 + 3 + 10) / 4
    essential = {s.name: s.claimed.value for s in found.essential_arms}
    assert essential["dear"] == pytest.approx((22 - 15) / 22)  # 1 + 1 + 10 + 10 without it
    assert essential["cheap"] == pytest.approx((26 - 15) / 26)  # 3 + 10 + 3 + 10
    assert found.technique_gain
    assert found.technique_gain.claimed.value == pytest.approx((22 - 15) / 22)
    assert found.halves_paid is None


def test_choosing_for_a_group_pays_what_the_other_half_says() -> None:
    # A group of two problems: each half is one of them, and the arm that is right there is chosen.
    right = np.array([[1.0, 0.0], [0.0, 1.0]])
    cost = np.full((2, 2), 1.0)
    claimed, paid = chosen_by_group(cost, right, np.zeros(2, int), np.full(2, 10.0))
    assert claimed.tolist() == [1.0, 1.0]
    assert paid.tolist() == [11.0, 11.0]  # one wrong try, then a person
    lone = chosen_by_group(cost, right, np.array([0, 1]), np.full(2, 10.0))
    assert np.isfinite(lone[1]).all()  # a group's empty half takes the choice over all


def test_all_orders_are_the_mean_of_running_until_successes() -> None:
    rng = np.random.default_rng(0)
    right = np.array([0, 1, 0, 1, 1, 0])
    cost = rng.uniform(1, 3, 6)
    for r in (1, 2, 3):
        drawn = [
            until_successes(cost[order], right[order], r)
            for order in (rng.permutation(6) for _ in range(4000))
        ]
        assert over_all_orders(cost, right) == pytest.approx(np.mean(drawn), rel=0.02)
    assert over_all_orders(np.full(4, 2.0), np.zeros(4)) == 2 + 8  # finite, where nothing is solved


def test_the_jackknife_finds_the_bias_of_a_ratio() -> None:
    rng = np.random.default_rng(1)
    right = (rng.random((4000, 40)) < 0.4).astype(float)
    ratio = 40 / right.sum(axis=1)
    bias = np.array([jackknife_bias(np.ones(40), r) for r in right])
    assert ratio.mean() - 2.5 == pytest.approx(bias.mean(), abs=0.02)
    assert np.isnan(jackknife_bias(np.ones(3), np.array([0, 0, 1.0])))


def test_resamples_are_paired_and_give_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(2).normal(5, 2, 900)
    draws = Resamples(900)
    low, high = percentile_interval(draws.means(values))
    half = 1.96 * values.std() / 30
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert draws.means(values + 1) == pytest.approx(draws.means(values) + 1)
    with pytest.raises(ValueError, match="no questions"):
        Resamples(0)


def test_the_command_shows_the_ratio_and_what_it_hides(folder: Path) -> None:
    run = run_eval(
        "cost-of-pass", "--data", folder, "--human-usd", 0.5, "--family", "expert=experts"
    )
    found = told(run)
    arms = {a["name"]: a for a in found["arms"]}
    assert set(arms) == set(COST_USD)
    assert min(arms, key=lambda n: arms[n]["pooled_usd"]) == "tiny"  # crowned, and mostly wrong
    assert max(arms, key=lambda n: arms[n]["accuracy"]) == "large"
    assert arms["tiny"]["objective_usd"]["1.0"] > arms["large"]["objective_usd"]["1.0"]
    for a in arms.values():
        assert a["pooled_ci"][0] <= a["pooled_usd"] <= a["pooled_ci"][1]
        assert a["against"]["reference"] == "large"
    assert {s["name"] for s in found["frontier"]["essential_families"]} == {"experts", "other"}
    assert found["frontier"]["by_task_paid"]["value"] > found["frontier"]["claimed"]["value"]
    for part in ("Pooled cost-of-pass", "What the ratio hides", "Against large", "Essential"):
        assert part in run.stdout
    assert "crowns tiny" in run.stdout


def test_json_is_the_only_line_and_strict(folder: Path) -> None:
    run = run_eval("cost-of-pass", "--data", folder, "--json")
    assert run.stdout.count("\n") == 1
    json.loads(run.stdout, parse_constant=pytest.fail)  # no Infinity, no NaN
    assert told(run)["frontier"] is None  # no price of a person, no frontier
    assert json_ready({"x": float("nan"), "y": np.float64(2)}) == {"x": None, "y": 2.0}


def test_several_runs_are_chosen_on_half_and_paid_on_the_other(tmp_path: Path) -> None:
    data = data_set(tmp_path / "runs", 60, n_runs=6)
    found = told(run_eval("cost-of-pass", "--data", data, "--human-usd", 0.5, "--json"))
    assert len(found["arms"]) == 4  # name, name#2, ... are runs of one arm
    assert {a["per_problem"]["n_runs"] for a in found["arms"]} == {6}
    frontier = found["frontier"]
    assert frontier["halves_claimed"]["value"] < frontier["halves_paid"]["value"]


def test_people_cost_what_each_task_says(folder: Path) -> None:
    run = run_eval(
        "cost-of-pass", "--data", folder, "--human-usd", "sums=0.5", "--human-usd", 2, "--json"
    )
    assert 0.5 < told(run)["human_usd"] < 2


def test_releases_are_tracked_over_time(folder: Path, tmp_path: Path) -> None:
    days = tmp_path / "days.json"
    days.write_text(json.dumps({"tiny": "2024-01-01", "large": "2025-02-01", "else": "2020-01-01"}))
    found = told(
        run_eval("cost-of-pass", "--data", folder, "--human-usd", 1, "--release", days, "--json")
    )
    first, last = found["frontier"]["releases"]
    assert (first["day"], first["arms"]) == ("2024-01-01", ["tiny"])
    assert 1 > first["relative_to_human"]["value"] > last["relative_to_human"]["value"] > 0
    assert first["gain"]["value"] == pytest.approx(1 - first["relative_to_human"]["value"])


def test_a_vote_is_an_arm_that_pays_for_all_that_it_asks(folder: Path) -> None:
    listed = "tiny,sums-expert,large"
    found = told(
        run_eval(
            "cost-of-pass", "--data", folder, "--vote", listed, "--human-usd", 1, "--json"
        )
    )  # fmt: skip
    arms = {a["name"]: a for a in found["arms"]}
    vote = arms["vote(tiny+sums-expert+large)"]
    summed = sum(arms[n]["cost_usd_per_1k"] for n in listed.split(","))
    assert vote["cost_usd_per_1k"] == pytest.approx(summed)
    assert found["frontier"]["techniques"] == ["vote(tiny+sums-expert+large)"]
    assert found["frontier"]["technique_gain"]["claimed"]["value"] >= 0


def test_votes_go_to_the_most_frequent_answer_and_ties_to_the_first() -> None:
    asked = [MatrixQuery(query_id=str(i), task="t", prompt=f"p{i}") for i in range(3)]
    said = [("7", "8", "8.0"), ("1", "2", "3"), (None, None, None)]
    scores = [(0, 1, 1), (1, 0, 0), (0, 0, 0)]
    rows = [
        MatrixRow(query_id=str(i), model=m, score=s, pred=p, cost_usd=1.0)
        for i, (answers, right) in enumerate(zip(said, scores, strict=True))
        for m, p, s in zip("abc", answers, right, strict=True)
    ]
    voted = with_vote(matrix_of(asked, rows, source="here"), ["a", "b", "c"])
    assert voted.models[-1] == "vote(a+b+c)"
    assert voted.score[:, -1].tolist() == [1, 1, 0]
    assert voted.pred[:, -1].tolist() == ["8", "1", None]
    assert voted.cost_usd[:, -1].tolist() == [3, 3, 3]


BAD = [
    (["--human-usd", "nothing"], DataError, "no price above 0"),
    (["--human-usd", "0"], DataError, "no price above 0"),
    (["--human-usd", "sum=1"], DataError, "Did you mean 'sums'"),
    (["--human-usd", "sums=1"], DataError, "No price of a person for words"),
    (["--family", "large"], DataError, "not REGEX=NAME"),
    (["--family", "gpt=big"], DataError, "No arm matches 'gpt'"),
    (["--technique", "("], DataError, "no regular expression"),
    (["--vote", "large"], DataError, "two models or more"),
    (["--vote", "large,tini"], DataError, "Did you mean 'tiny'"),
    (["--against", "lrge"], DataError, "Did you mean 'large'"),
    (["--split", "tst"], UnknownName, "Unknown split 'tst'"),
    (["--release", "nowhere.json"], DataError, "must be a JSON object of days"),
]


@pytest.mark.parametrize(("arguments", "error", "says"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_what_cannot_be_understood_is_refused(
    folder: Path, arguments: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        told(run_eval("cost-of-pass", "--data", folder, *arguments, "--json"))


def test_test_queries_are_looked_at_only_when_asked_for(folder: Path, tmp_path: Path) -> None:
    n = {
        split: told(run_eval("cost-of-pass", "--data", folder, "--split", split, "--json"))[
            "n_problems"
        ]
        for split in ("dev", "test", "all")
    }
    assert n["dev"] + n["test"] == n["all"] == 400
    whole = matrix(60)
    only_test = whole[np.array([q.split == "test" for q in whole.queries])]
    write_matrix(only_test, tmp_path / "test")
    with pytest.raises(DataError, match="All queries are of the test split"):
        told(run_eval("cost-of-pass", "--data", tmp_path / "test"))


# Bad data, through the command.

QUERIES = [{"query_id": f"q{i}", "prompt": f"p{i}", "answer": "1"} for i in range(6)]


def outcomes(model: str, scores: list[float], cost: object = 0.01) -> list[dict[str, object]]:
    return [
        {"query_id": f"q{i}", "model": model, "score": s, "pred": "1", "cost_usd": cost}
        for i, s in enumerate(scores)
    ]


def test_an_unknown_price_is_an_error_that_names_the_model(tmp_path: Path) -> None:
    data = written(
        tmp_path / "d", QUERIES, outcomes("known", [1] * 6) + outcomes("mystery", [1] * 6, "")
    )
    with pytest.raises(DataError, match=r"Unknown costs of mystery\. .* not a price of 0"):
        told(run_eval("cost-of-pass", "--data", data))


def test_a_model_without_coverage_stays_out_unless_it_is_named(tmp_path: Path) -> None:
    data = written(tmp_path / "d", QUERIES, outcomes("whole", [1] * 6) + outcomes("part", [1, 0]))
    found = told(run_eval("cost-of-pass", "--data", data, "--json"))
    assert [a["name"] for a in found["arms"]] == ["whole"]
    pool = tmp_path / "pool.json"
    pool.write_text('["whole", "part"]')
    found = told(run_eval("cost-of-pass", "--data", data, "--pool", pool, "--json"))
    assert found["n_problems"] == 2
    pool.write_text('["whole", "prt"]')
    with pytest.raises(DataError, match=r"model 'prt'\. Did you mean 'part'"):
        told(run_eval("cost-of-pass", "--data", data, "--pool", pool))


def test_nothing_in_common_is_said_with_the_coverage(tmp_path: Path) -> None:
    second = [{**o, "query_id": f"q{i + 3}"} for i, o in enumerate(outcomes("b", [1, 1, 1]))]
    data = written(tmp_path / "d", QUERIES, outcomes("a", [1, 1, 1]) + second)
    pool = tmp_path / "pool.json"
    pool.write_text('["a", "b"]')
    with pytest.raises(DataError, match=r"No question was answered by all 2 models \(a 50%, b 50%"):
        told(run_eval("cost-of-pass", "--data", data, "--pool", pool))
    with pytest.raises(DataError, match="No model answered 95 %"):
        told(run_eval("cost-of-pass", "--data", data))


def test_an_expert_that_is_never_right_costs_infinitely_much(tmp_path: Path) -> None:
    data = written(
        tmp_path / "d", QUERIES, outcomes("never", [0] * 6) + outcomes("some", [1, 0] * 3)
    )
    run = run_eval("cost-of-pass", "--data", data, "--human-usd", 1)
    arms = {a["name"]: a for a in told(run)["arms"]}
    assert arms["never"]["pooled_usd"] is None
    assert arms["never"]["per_problem"]["tries_then_human_usd"] == pytest.approx(1.01)
    assert "none" in run.stdout


@pytest.mark.parametrize("score", [0, 1])
def test_outcomes_of_one_class_are_accounted_for(tmp_path: Path, score: int) -> None:
    data = written(tmp_path / "d", QUERIES, outcomes("a", [score] * 6) + outcomes("b", [score] * 6))
    found = told(run_eval("cost-of-pass", "--data", data, "--human-usd", 1, "--json"))
    assert {a["accuracy"] for a in found["arms"]} == {float(score)}


def test_graded_scores_count_as_right_above_one_half(tmp_path: Path) -> None:
    data = written(tmp_path / "d", QUERIES, outcomes("graded", [0.4, 0.6, 0.5, 1, 0, 0.9]))
    [a] = told(run_eval("cost-of-pass", "--data", data, "--human-usd", 1, "--json"))["arms"]
    assert a["accuracy"] == pytest.approx(3.4 / 6)
    assert a["per_problem"]["unsolved_share"] == 0.5


def test_a_split_without_queries_and_a_file_that_ends_too_early_are_said(tmp_path: Path) -> None:
    data = written(
        tmp_path / "d", [{**q, "split": "train"} for q in QUERIES], outcomes("a", [1] * 6)
    )
    with pytest.raises(DataError, match="The split 'val' is empty; the queries are of train"):
        told(run_eval("cost-of-pass", "--data", data, "--split", "val"))
    cut = data_set(tmp_path / "cut", 40) / "outcomes.csv.gz"
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(DataError, match="a gzipped file is broken"):
        told(run_eval("cost-of-pass", "--data", cut.parent))


def test_arms_need_known_scores() -> None:
    whole = matrix(20)
    whole.score[0, 1] = np.nan
    with pytest.raises(DataError, match="Unknown scores of sums-expert"):
        arms_of(whole)
