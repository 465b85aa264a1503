"""A tiny data set of recorded outcomes, made up but with known truth, for tests and documentation.

Two tasks (``sums``, votable numbers; ``words``), four models: ``tiny`` is nearly free and mostly
wrong, ``sums-expert`` and ``words-expert`` know their task, ``large`` knows both and costs most.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from eval.outcomes.matrix import MatrixQuery, MatrixRow, OutcomeMatrix, matrix_of, write_matrix
from eval.outcomes.splits import split_of

TRUTH = {
    "tiny": {"sums": 0.35, "words": 0.25},
    "sums-expert": {"sums": 0.85, "words": 0.15},
    "words-expert": {"sums": 0.15, "words": 0.85},
    "large": {"sums": 0.9, "words": 0.9},
}
"""P(right) of each model on each task."""
COST_USD = {"tiny": 1e-5, "sums-expert": 2e-4, "words-expert": 3e-4, "large": 4e-3}
_WORDS = (
    "planet", "river", "candle", "orange", "window", "garden", "silver", "pencil", "bridge",
)  # fmt: skip
_ASKED = ("Spell backwards", "Reverse the letters of", "Write from end to start", "Turn around")


def queries(n: int, seed: int = 0) -> list[MatrixQuery]:
    """n questions, half of each task, no two alike."""
    rng = np.random.default_rng(seed)
    made, seen = [], set()
    while len(made) < n:
        if len(made) % 2:
            pair = " ".join(rng.choice(_WORDS, 2, replace=False)) + f" {rng.integers(100, 10_000)}"
            prompt = f"{rng.choice(_ASKED)} these: {pair}"
            task, answer = "words", pair[::-1]
        else:
            a, b = (int(x) for x in rng.integers(100, 10_000, 2))
            prompt = f"{rng.choice(['What is', 'Compute', 'Add up:'])} {a} + {b}"
            task, answer = "sums", str(a + b)
        if prompt not in seen:
            seen.add(prompt)
            made.append((task, prompt, answer))
    return [
        MatrixQuery(query_id=f"q{i}", task=t, prompt=p, answer=a, split=split_of(p))
        for i, (t, p, a) in enumerate(made)
    ]


def matrix(n: int = 400, *, n_runs: int = 1, seed: int = 0) -> OutcomeMatrix:
    """Outcomes with independent errors; wrong answers are many, right ones are one."""
    rng = np.random.default_rng(seed + 1)
    asked = queries(n, seed)
    rows = []
    for query in asked:
        for model, truth in TRUTH.items():
            for run in range(n_runs):
                right = rng.random() < truth[query.task]
                wrong = str(rng.integers(10_000, 99_999)) if query.task == "sums" else "nothing"
                rows.append(
                    MatrixRow(
                        query_id=query.query_id,
                        model=model if run == 0 else f"{model}#{run + 1}",
                        score=float(right),
                        pred=query.answer if right else wrong + str(rng.integers(1000)),
                        input_tokens=len(query.prompt) / 4,
                        output_tokens=float(rng.integers(5, 50)),
                        cost_usd=COST_USD[model] * float(rng.uniform(0.8, 1.2)),
                    )
                )
    return matrix_of(asked, rows, source="synthetic")


def data_set(folder: Path, n: int = 400, *, n_runs: int = 1, seed: int = 0) -> Path:
    """The same as a folder of Conclave's format."""
    write_matrix(matrix(n, n_runs=n_runs, seed=seed), folder)
    return folder


def written(
    folder: Path, asked: list[dict[str, Any]], outcomes: list[dict[str, Any]], **defaults: Any
) -> Path:
    """A folder from plain rows, which may say what no matrix would: for bad input."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps({"task": "t", **q}) + "\n" for q in asked)
    columns = ("query_id", "model", "score", "pred", "cost_usd")
    with (folder / "outcomes.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows({**defaults, **o} for o in outcomes)
    return folder
