"""Outcome matrices: what is read is what was written, and what is wrong is named."""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.outcomes.matrix import (
    NUMBERS,
    MatrixQuery,
    MatrixRow,
    OutcomeMatrix,
    matrix_of,
    read_matrix,
    write_matrix,
)
from eval.outcomes.pools import POOLS, pool_of
from experts.errors import DataError, UnknownName

QUERIES = (
    MatrixQuery(query_id="q1", task="sums", prompt="1 + 1?", answer="2", split="train"),
    MatrixQuery(query_id="q2", task="sums", prompt="2 + 2?", answer="4", split="val"),
    MatrixQuery(query_id="q3", task="names", prompt="Who?", split="test"),
)


def row(
    query_id: str = "q1", model: str = "a", score: float | None = 1.0, **more: Any
) -> MatrixRow:
    return MatrixRow(query_id=query_id, model=model, score=score, **more)


def matrix(*rows: MatrixRow, **more: Any) -> OutcomeMatrix:
    return matrix_of(QUERIES, rows, source="here", **more)


def complete() -> OutcomeMatrix:
    return matrix(
        *(row(q.query_id, m, s, cost_usd=0.1)
          for m, s in (("small", 0.0), ("large", 1.0)) for q in QUERIES)
    )  # fmt: skip


def folder(at: Path, outcomes: str, queries: str | None = None) -> Path:
    """The two files as somebody might write them by hand."""
    lines = [
        json.dumps({name: getattr(q, name) for name in MatrixQuery.__slots__}) for q in QUERIES
    ]
    (at / "queries.jsonl").write_text("\n".join(lines) if queries is None else queries)
    (at / "outcomes.csv").write_text(outcomes)
    return at


# Round trip.

names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
)  # fmt: skip
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
numbers = st.none() | st.floats(0, 1e6, allow_nan=False)


@st.composite
def matrices(draw: st.DrawFn) -> OutcomeMatrix:
    ids = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    models = draw(st.lists(names.filter(str.strip), min_size=1, max_size=3, unique=True))
    queries = [
        MatrixQuery(
            query_id=i,
            task=draw(texts),
            prompt=draw(texts),
            answer=draw(st.none() | texts),
            split=draw(st.sampled_from([None, "train", "val", "test"])),
        )
        for i in ids
    ]
    rows = [
        MatrixRow(
            query_id=i,
            model=m,
            score=draw(st.floats(0, 1)),  # a model without any outcome leaves no trace in a file
            pred=draw(st.none() | texts.filter(bool)),
            input_tokens=draw(numbers),
            output_tokens=draw(numbers),
            cost_usd=draw(numbers),
        )
        for m in models
        for i in ids
    ]
    return matrix_of(queries, rows, source="drawn")


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(drawn: OutcomeMatrix) -> None:
    with tempfile.TemporaryDirectory() as place:
        write_matrix(drawn, Path(place))
        read = read_matrix(Path(place))
    assert read.queries == drawn.queries
    assert sorted(read.models) == sorted(drawn.models)
    read = read.of_models(drawn.models)
    assert read.pred.tolist() == drawn.pred.tolist()
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(read, name), getattr(drawn, name), rtol=1e-9)


def test_empty_cells_are_unknown_and_stay_so(tmp_path: Path) -> None:
    place = folder(tmp_path, "query_id,model,score,cost_usd\nq1,a,1,\nq2,a,0.5,0\nq3,b,,0.25\n")
    read = read_matrix(place)
    assert read.models == ("a", "b")
    cost = read.cost_usd
    assert np.isnan(cost[0, 0])  # unknown is not free
    assert cost[1, 0] == 0  # free is free
    assert (np.isnan(read.score[2, 1]), cost[2, 1]) == (True, 0.25)
    assert np.isnan(read.input_tokens).all()
    assert read.pred.tolist() == [[None, None]] * 3
    write_matrix(read, tmp_path / "again")
    again = read_matrix(tmp_path / "again")
    np.testing.assert_array_equal(again.cost_usd, cost)


def test_plain_and_gzipped_files_are_the_same(tmp_path: Path) -> None:
    plain = folder(tmp_path, "query_id,model,score\nq1,a,1\n")
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    for name in ("queries.jsonl", "outcomes.csv"):
        with gzip.open(zipped / f"{name}.gz", "wb") as out:
            out.write((plain / name).read_bytes())
    assert read_matrix(plain).queries == read_matrix(zipped).queries
    np.testing.assert_array_equal(read_matrix(plain).score, read_matrix(zipped).score)


# What is wrong is named.


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ("model,score\na,1\n", r"outcomes\.csv: the column 'query_id' is missing"),
        ("query_id,score\nq1,1\n", r"the column 'model' is missing.*query_id,model,score,pred"),
        ("query_id,model\nq1,a\n", r"the column 'score' is missing"),
        ("", r"the column 'model' is missing"),
        ("query_id,model,score\nq1,a,1\nq1,a,0\n", r"two outcomes of 'a' for the query 'q1'"),
        ("query_id,model,score\nq9,a,1\n", r"unknown query 'q9'"),
        ("query_id,model,score\nq1,a,1.5\n", r"'a' on 'q1': score 1\.5 is outside \[0, 1\]"),
        ("query_id,model,score\nq1,a,-0.1\n", r"score -0\.1 is outside \[0, 1\]"),
        ("query_id,model,score\nq1,a,nan\n", r"score nan is outside \[0, 1\]"),
        ("query_id,model,score\nq1,a,right\n", r"line 2: score is 'right', not a number"),
        ("query_id,model,score,cost_usd\nq1,a,1,-1\n", r"cost_usd is -1\. An unknown value is an "
         r"empty cell, never a negative"),
        ("query_id,model,score,output_tokens\nq1,a,1,-5\n", r"output_tokens is -5"),
        ("query_id,model,score,cost_usd\nq1,a,1,$2\n", r"line 2: cost_usd is '\$2', not a number"),
    ],
)  # fmt: skip
def test_a_bad_outcomes_file_is_refused(tmp_path: Path, outcomes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_matrix(folder(tmp_path, outcomes))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"queries\.jsonl, line 2"),
        ('{"query_id": "q", "task": "t"}', r"line 2: KeyError\('prompt'\)\. A line reads"),
        ("[1, 2]", r"line 2"),
        ('{"query_id": "q", "task": "t", "prompt": "p", "split": "dev"}',
         r"line 2: split 'dev' is none of train, val, test"),
        ('{"query_id": "q1", "task": "t", "prompt": "p"}', r"the query 'q1' occurs twice"),
    ],
)  # fmt: skip
def test_a_bad_queries_file_is_refused(tmp_path: Path, line: str, message: str) -> None:
    first = '{"query_id": "q1", "task": "t", "prompt": "p"}'
    place = folder(tmp_path, "query_id,model,score\nq1,a,1\n", queries=f"{first}\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_matrix(place)


def test_half_a_folder_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "query_id,model,score\n")
    (tmp_path / "outcomes.csv").unlink()
    with pytest.raises(DataError, match=r"has no outcomes\.csv or outcomes\.csv\.gz; both files"):
        read_matrix(tmp_path)


def test_an_empty_split_is_refused_and_those_there_are_named() -> None:
    some = complete()[np.array([0, 1])]
    assert [q.query_id for q in some.split("val").queries] == ["q2"]
    with pytest.raises(DataError, match=r"'test' is empty; the queries are of train, val"):
        some.split("test")


# Models and coverage.


def test_a_missing_model_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"the model 'larg'\. Did you mean 'large'\? Known: small"):
        complete().of_models(["small", "larg"])


def test_models_can_be_chosen_and_ordered() -> None:
    chosen = complete().of_models(["large", "small"])
    assert chosen.models == ("large", "small")
    assert chosen.score.tolist() == [[1, 0]] * 3
    given_order = matrix(row(model="b"), row(model="a"), models=["a"])
    assert given_order.models == ("a",)


def test_partial_coverage_is_told_and_can_be_cut_away() -> None:
    partial = matrix(row("q1", "a"), row("q2", "a"), row("q3", "a"), row("q2", "b"))
    assert partial.coverage().tolist() == [1, pytest.approx(1 / 3)]
    assert [q.query_id for q in partial.complete().queries] == ["q2"]
    with pytest.raises(DataError, match=r"No question was answered by all 2 models \(a 67%, b 33%"):
        matrix(row("q1", "a"), row("q2", "a"), row("q3", "b")).complete()


def test_a_model_that_is_never_right_and_one_that_always_is_are_models() -> None:
    pool = pool_of(complete(), None)
    assert pool.models == ("large", "small")
    assert pool.score.mean(axis=0).tolist() == [1, 0]


def test_pools_by_name_by_file_and_by_coverage(tmp_path: Path) -> None:
    partial = matrix(*(row(q.query_id, "a") for q in QUERIES), row("q2", "b"))
    assert pool_of(partial, None).models == ("a",)
    names_file = tmp_path / "pool.json"
    names_file.write_text('["b", "a"]')
    pool = pool_of(partial, str(names_file))
    assert (pool.models, len(pool)) == (("b", "a"), 1)
    names_file.write_text('{"a": 1}')
    with pytest.raises(DataError, match="must be a JSON list of model names"):
        pool_of(partial, str(names_file))
    names_file.write_text("[")
    with pytest.raises(DataError, match="is not a JSON list"):
        pool_of(partial, str(names_file))
    with pytest.raises(UnknownName, match="Did you mean 'mmlu_pro-8'"):
        pool_of(partial, "mmlu_pro-9")
    for name in POOLS:
        if name != "zeroeval-28":
            with pytest.raises(DataError, match="No outcomes of the model"):
                pool_of(partial, name)
    with pytest.raises(DataError, match="No model answered 95 %"):
        pool_of(matrix(row("q1", "a")), None)


@given(st.data())
def test_rows_are_taken_together(data: st.DataObject) -> None:
    whole = replace(complete(), input_tokens=np.arange(6.0).reshape(3, 2))
    rows = np.array(data.draw(st.lists(st.integers(0, 2), max_size=5)), int)
    some = whole[rows]
    assert [q.query_id for q in some.queries] == [whole.queries[i].query_id for i in rows]
    np.testing.assert_array_equal(some.input_tokens, whole.input_tokens[rows])
    assert some.pred.shape == some.score.shape == (len(rows), 2)
    mask = np.array([True, False, True])
    assert whole[mask].queries == whole[np.array([0, 2])].queries
