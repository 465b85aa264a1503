"""``conclave eval routing`` through its door, and the page that documents it."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner, Result

from eval.outcomes.matrix import OutcomeMatrix, write_matrix
from eval.outcomes.pools import POOLS
from eval.outcomes.readers import READERS
from experts.errors import ConfigError, DataError, UnknownName, UserError
from orchestrator.cli.command import app
from routers.estimators import ESTIMATORS
from tests.eval.synthetic import SPECIALISTS, outcomes

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs" / "eval.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCS, re.S)
QUICK = ["--embedder", "hashing-64", "--routers", "knn"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set on disk; its cheapest model is never right."""
    folder = tmp_path_factory.mktemp("data")
    write_matrix(outcomes(SPECIALISTS, n=96), folder)
    return folder


def run(*options: object) -> Result:
    with threadpool_limits(1):
        result = CliRunner().invoke(app, ["eval", "routing", *map(str, options)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def written(matrix: OutcomeMatrix, folder: Path) -> Path:
    write_matrix(matrix, folder)
    return folder


def test_a_table_the_answers_and_json_in_the_last_line(data: Path) -> None:
    result = run("--data", data, *QUICK)
    assert result.exit_code == 0
    told = json.loads(result.stdout.splitlines()[-1])
    for name in ("best-single", "oracle", "knn", "composition"):
        assert name in {p["name"] for p in told["policies"]}
        assert name in result.stdout
    assert "As good as the best single model on train and val: " in result.stdout
    assert "At any price, the most accurate on train and val: " in result.stdout
    assert "Few queries: 72 to choose on, 24 to judge on." in result.stdout
    [warning] = told["warnings"]
    assert warning.startswith("Few queries")
    assert (told["n_models"], told["n_dev"], told["n_test"], told["seed"]) == (6, 72, 24, 0)
    assert "report" not in told
    assert "embedding 96 prompts" in result.stderr


def test_json_and_a_report(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    result = run("--data", data, *QUICK, "--json", "--report", target)
    assert result.stderr == ""
    [line] = result.stdout.splitlines()

    def no_such_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    told = json.loads(line, parse_constant=no_such_number)
    assert told["report"] == str(target)
    cheapest = next(p for p in told["policies"] if p["name"] == "cheapest")
    assert cheapest["cost_of_pass_usd"] is None  # never right: infinitely much
    text = target.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert data.name in text
    assert str(data.parent) not in text  # where it lies is nobody's business
    for model in SPECIALISTS:
        assert model in text


def test_the_path_of_the_report_is_told(data: Path, tmp_path: Path) -> None:
    result = run("--data", data, *QUICK, "--report", tmp_path / "r.html")
    assert f"The report is in {tmp_path / 'r.html'}." in result.stdout
    assert json.loads(result.stdout.splitlines()[-1])["report"]


def test_what_is_wrong_is_said_before_the_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        run("--data", tmp_path / "not-even-looked-at", "--report", tmp_path / "no" / "r.html")
    with pytest.raises(DataError, match="is a folder"):
        run("--data", data, "--report", tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'knn'"):
        run("--data", data, "--routers", "knnn")
    with pytest.raises(UserError, match="best-single is a baseline, which is always shown"):
        run("--data", data, "--routers", "best-single")
    with pytest.raises(ConfigError, match=r"There is no .*nowhere\.yaml"):
        run("--data", data, "--config", tmp_path / "nowhere.yaml")
    with pytest.raises(DataError, match=r"/proc/r\.html cannot be written"):
        run("--data", data, "--report", "/proc/r.html")
    assert run("--data", data, "--seed", -1).exit_code == 2
    with pytest.raises(DataError, match="does not exist"):
        run("--data", tmp_path / "nowhere")
    with pytest.raises(DataError, match="Unknown format 'conclav'"):
        run("--data", data, "--format", "conclav")
    with pytest.raises(UnknownName, match="Unknown pool"):
        run("--data", data, "--pool", "my-pool")


def test_unknown_prices_are_refused_by_model(tmp_path: Path) -> None:
    matrix = outcomes(SPECIALISTS, n=40)
    matrix.cost_usd[0, matrix.models.index("solver")] = float("nan")
    with pytest.raises(DataError, match=r"Unknown costs of solver\."):
        run("--data", written(matrix, tmp_path / "data"), *QUICK)


def test_a_pool_that_leaves_the_unpriced_model_out_can_be_judged(tmp_path: Path) -> None:
    matrix = outcomes({**SPECIALISTS, "unpriced": (0.9, 0.9)}, n=64)
    matrix.cost_usd[:, -1] = float("nan")
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps(list(SPECIALISTS)))
    result = run("--data", written(matrix, tmp_path / "data"), *QUICK, "--pool", pool, "--json")
    assert json.loads(result.stdout)["n_models"] == 6


def test_an_empty_side_is_refused(tmp_path: Path) -> None:
    matrix = outcomes(SPECIALISTS, n=40)
    train = matrix.split("train")
    with pytest.raises(DataError, match="one side is empty"):
        run("--data", written(train, tmp_path / "data"), *QUICK)


# The page.


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    [code] = [text for language, text in BLOCKS if language == "python"]
    [commands] = [text for language, text in BLOCKS if language == "sh"]
    exec(compile(code, "docs/eval.md", "exec"), {"__name__": "docs"})
    with (tmp_path / "mine" / "outcomes.csv").open(newline="") as rows:
        assert len({r["model"] for r in csv.DictReader(rows)}) == 6
    for command in commands.splitlines():
        words = shlex.split(command)
        assert words[:3] == ["conclave", "eval", "routing"]
        told = json.loads(run(*words[3:]).stdout.splitlines()[-1])
        assert told["equal_accuracy"]["cost_ratio"] < 1
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_page_names_what_there_is() -> None:
    for format_ in READERS:
        assert f"| `{format_}` |" in DOCS
    for pool in POOLS:
        assert f"`{pool}`" in DOCS
    for option in re.findall(r"`(--[a-z-]+)", DOCS):
        assert option in {
            "--data", "--pool", "--routers", "--format", "--allow-pickle", "--embedder", "--seed",
            "--report", "--json", "--unpriced", "--config",
        }  # fmt: skip
    for name in ("knn", "ridge"):
        assert name in ESTIMATORS


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCS):
        assert target.startswith("http") or (ROOT / "docs" / target).exists(), target


# Without prices.


@pytest.fixture(scope="module")
def free_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data set, its costs unknown."""
    matrix = outcomes(SPECIALISTS, n=96)
    matrix.cost_usd[:] = float("nan")
    return written(matrix, tmp_path_factory.mktemp("free-data"))


def dollars(told: object) -> list[object]:
    """Every figure that is in dollars, or follows from dollars, wherever it stands."""
    if isinstance(told, list):
        return [figure for one in told for figure in dollars(one)]
    if not isinstance(told, dict):
        return []
    found = []
    for name, value in told.items():
        if name.startswith(("cost_", "objective_usd")):
            parts = value.values() if isinstance(value, dict) else value
            found += list(parts) if isinstance(value, list | dict) else [value]
        else:
            found += dollars(value)
    return found


def test_without_prices_accuracy_is_judged_and_no_dollar_is_told(free_data: Path) -> None:
    result = run("--data", free_data, *QUICK, "--unpriced")
    assert result.exit_code == 0
    told = json.loads(result.stdout.splitlines()[-1])
    names = {p["name"] for p in told["policies"]}
    assert names == {"best-single", "best-per-task", "oracle", "random", "knn"}
    accuracies = {p["name"]: p["accuracy"] for p in told["policies"]}
    assert accuracies["oracle"] >= accuracies["knn"] > accuracies["best-single"] > 0.5
    assert told["max_accuracy"]["policy"] == "knn"
    unknown = dollars(told)
    assert len(unknown) > 5 * 7
    assert set(unknown) == {None}
    assert told["curve"] == []
    assert "field" not in told
    assert "composition" not in result.stdout
    assert "As good as the best single model" not in result.stdout
    [line] = [x for x in result.stdout.splitlines() if x.startswith("At any price")]
    assert "cost" not in line


def test_unpriced_looks_at_no_price(data: Path, free_data: Path) -> None:
    known, unknown = (
        json.loads(run("--data", d, *QUICK, "--unpriced", "--json").stdout)
        for d in (data, free_data)
    )
    for told in (known, unknown):
        del told["data"], told["decision_usd"]  # measured: never twice the same
    assert known == unknown


def test_without_prices_the_option_is_named(free_data: Path) -> None:
    with pytest.raises(DataError, match=r"\(--unpriced\)"):
        run("--data", free_data, *QUICK)


def test_a_report_without_prices_is_refused_before_the_work(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    with pytest.raises(UserError, match="leave out --report, or --unpriced"):
        run("--data", tmp_path / "not-even-looked-at", "--unpriced", "--report", target)
    assert not target.exists()


def test_the_figures_of_the_field_are_in_the_last_line(tmp_path: Path) -> None:
    matrix = outcomes({"good": (0.9, 0.7), "fair": (0.6, 0.7)}, n=64)
    result = run("--data", written(matrix, tmp_path / "data"), *QUICK, "--json")
    field = json.loads(result.stdout)["field"]
    policies = {p["policy"]: p for p in field["policies"]}
    assert {"best-single", "oracle", "knn", "composition"} <= set(policies)
    assert field["best_single"] == "good"
    for policy in policies.values():
        assert 0 <= policy["accuracy"] <= 1
        assert policy["cost_usd_per_1k"] > 0
    assert policies["oracle"]["regret"] == 0


def test_the_configuration_is_heeded(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "dear.yaml"
    config.write_text(f"host_usd_per_s: 1000\ndata_dir: {tmp_path / 'kept'}\n")
    result = run("--data", data, *QUICK, "--json", "--unpriced", "--config", config)
    assert json.loads(result.stdout)["decision_usd"] > 0.001  # by default, millionths at most
    assert list((tmp_path / "kept" / "embeddings").glob("*.npy"))
