"""The experiment on real outcomes, where there are some: ``CONCLAVE_DATA`` names a folder with one
folder a data set, each as in docs/eval.md. Ten minutes; skipped elsewhere.

Test queries are never looked at: they are for figures that are reported, once. What is judged here
are the val queries, by what was learned of train.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from eval.metrics.reliability import ece
from eval.outcomes.matrix import write_matrix
from eval.outcomes.pools import POOLS, pool_of
from eval.outcomes.readers import read_outcomes
from eval.routing.embeddings import embedded
from eval.routing.points import Sides, blind_and_test, routed, sides_of
from routers.estimators import DEFAULT_ESTIMATOR, ESTIMATORS
from skills.embedders import make_embedder
from tests.typed import typed

ROOT = os.environ.get("CONCLAVE_DATA")
SETS = {pool: pool.rsplit("-", maxsplit=1)[0] for pool in POOLS}
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not ROOT, reason="CONCLAVE_DATA names no folder with recorded outcomes"),
]
ROUTERS = sorted(set(ESTIMATORS) - {"best-single", "random", DEFAULT_ESTIMATOR})
"""The default is made of four of the others."""
QUICK, SHIPPED = "hashing-512", "minilm+hashing-512"
"""Thousands of prompts through an encoder take minutes: what ships only where it matters."""
KEYS = {
    "data", "pool", "seed", "n_models", "n_dev", "n_test", "policies", "best_single",
    "equal_accuracy", "max_accuracy", "against", "curve",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train and val of each pool, val in the place of test."""
    written = {}
    for pool, name in SETS.items():
        matrix = read_outcomes(Path(str(ROOT)) / name, None, allow_pickle=False)
        matrix = pool_of(matrix[np.flatnonzero([q.split != "test" for q in matrix.queries])], pool)
        queries = tuple(
            replace(q, split="test" if q.split == "val" else "train") for q in matrix.queries
        )
        written[pool] = tmp_path_factory.mktemp(pool)
        write_matrix(replace(matrix, queries=queries), written[pool])
    return written


@cache
def sides(folder: Path, embedder: str = QUICK) -> Sides:
    matrix = read_outcomes(folder, None, allow_pickle=False)
    prompts = [q.prompt for q in matrix.queries]
    return sides_of(matrix, embedded(prompts, make_embedder(embedder), folder / "embeddings"))


@pytest.mark.parametrize("pool", POOLS)
def test_the_command_keeps_its_promises(pool: str, folders: dict[str, Path]) -> None:
    run = typed(
        "eval", "routing", "--data", str(folders[pool]), "--pool", pool, "--embedder", QUICK,
        "--routers", "knn", "--json",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert set(told) >= KEYS
    by_name = {p["name"]: p for p in told["policies"]}
    assert {"best-single", "oracle", "knn", "composition"} <= set(by_name)
    assert told["max_accuracy"]["accuracy"] <= by_name["oracle"]["accuracy"]


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_believed_of_each_model_comes_true(pool: str, folders: dict[str, Path]) -> None:
    """Of every model on every query: the chosen one's alone are too few to tell .03 from luck."""
    ready = sides(folders[pool], SHIPPED)
    dev, test = ready.dev, ready.test
    fitted = ESTIMATORS[DEFAULT_ESTIMATOR]().fit(ready.features[dev], ready.outcomes[dev])
    p = fitted.predict(ready.features[test])
    assert ece(p.ravel(), ready.test_matrix.score.ravel()) <= 0.03


def test_ten_routers_are_replayed_within_a_minute_and_a_gigabyte(folders: dict[str, Path]) -> None:
    folder = folders["zeroeval-28"]
    assert len(ROUTERS) == 10
    sides(folder)  # embeds, which is no part of a replay
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        seconds, peak_bytes = alone.submit(replayed, folder).result()
    assert seconds < 60
    assert peak_bytes < 1e9


def replayed(folder: Path) -> tuple[float, int]:
    """Seconds and peak memory of all routers: fitted, predicted blindly, and every setting played.

    Seconds of processor: the clock on the wall also tells what else the machine does.
    """
    ready = sides(folder)
    started = time.process_time()
    for name in ROUTERS:
        routed(name, *blind_and_test(ESTIMATORS[name], ready), ready)
    seconds = time.process_time() - started
    # Not ru_maxrss: it starts from what the parent held.
    [peak] = [x for x in Path("/proc/self/status").read_text().splitlines() if x[:6] == "VmHWM:"]
    return seconds, int(peak.split()[1]) * 1024
