"""Questions from elsewhere: every format says what is wrong with it, and where."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from eval.questions import Question
from eval.questions.sources import Columns, read_source
from experts.errors import ConfigError, DataError


def needs(library: str, extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(library) is None, reason=f"the extra {extra} is not installed"
    )


def written(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_a_table_has_the_columns_that_it_has() -> None:
    text = (
        "question,answer,skill,options,split,unused\n"
        "Symbol of gold?,Au,symbol,,test,x\n"
        "Capital of France?,Paris,,Lyon | Paris,validation,y\n"
        '"Two, or three?",B,,"[""two"", ""three""]",,z\n'
    )
    gold, paris, three = read_source(written("q.csv", text))
    assert (gold.grader, gold.skill, gold.split) == ("exact", "symbol", "test")
    assert (paris.grader, paris.answer, paris.split) == ("choice", "B) Paris", "val")
    assert paris.prompt == "Capital of France?\nA) Lyon\nB) Paris"
    assert (three.answer, three.split) == ("B) three", None)


def test_columns_can_be_named() -> None:
    path = written("q.tsv", "q\ta\nWhat is 2 + 2?\t4\n")
    columns = Columns(question="q", answer="a")
    [found] = read_source(path, columns=columns, default_grader="numeric")
    assert (found.question, found.answer, found.grader) == ("What is 2 + 2?", "4", "numeric")


def test_a_grader_is_for_questions_that_name_none() -> None:
    path = written(
        "q.jsonl",
        '{"question": "a", "answer": "1"}\n{"question": "b", "answer": "1", "grader": "regex"}\n',
    )
    assert [q.grader for q in read_source(path, default_grader="numeric")] == ["numeric", "regex"]
    assert len(read_source(path, limit=1)) == 1


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "q.csv",
            "question,anwser\na,b\n",
            "row 1: there is no column 'answer'. Did you mean 'anw",
        ),
        ("q.csv", "question,answer\na,\n", "row 1: answer: .* should have at least 1"),
        ("q.csv", "question,answer,options\na,x,y|z\n", "'x' is not one of the options"),
        ("q.csv", 'question,answer,options\na,x,"[1"\n', "is no JSON list"),
        ("q.csv", "question,answer,grader\na,x,exatc\n", "Did you mean 'exact'"),
        ("q.csv", "question,answer\n", "holds no questions"),
        ("q.csv", 'question,answer\n"a,b\n', "cannot be read"),
    ],
)
def test_a_broken_table_is_told_where(name: str, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_source(written(name, text))


def test_options_are_part_of_the_question() -> None:
    one = Question(question="Which?", answer="a", options=("a", "b"))
    two = Question(question="Which?", answer="a", options=("b", "a"))
    assert one.query_id != two.query_id
    assert one.score("The answer is (A).") == two.score("B") == 1


@needs("datasets", "datasets")
@pytest.mark.filterwarnings("default")
def test_a_data_set_of_the_hub_or_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text('text,choices,label\nCapital?,"[""Lyon"", ""Paris""]",1\n')
    (folder / "test.csv").write_text('text,choices,label\nOther?,"[""a"", ""b""]",0\n')
    columns = Columns(question="text", answer="label", options="choices")
    both = read_source(f"hf:{folder}", columns=columns)
    assert [(q.answer, q.split) for q in both] == [("B) Paris", "train"), ("A) a", "test")]
    [one] = read_source(f"hf:{folder}::test", columns=columns)
    assert one.split == "test"
    with pytest.raises(DataError, match=r"hf:.* cannot be loaded"):
        read_source(f"hf:{folder}/nowhere")


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import choice, f1, match

@task
def sums():
    sample = Sample(input="1 + 1?", target=["2", "two"])
    return Task(dataset=MemoryDataset([sample]), scorer=match())

@task
def options():
    sample = Sample(input="Capital?", choices=["Lyon", "Paris"], target="B")
    return Task(dataset=MemoryDataset([sample]), scorer=choice())

@task
def strange():
    return Task(dataset=MemoryDataset([Sample(input="?", target="1")]), scorer=f1())
"""


@needs("inspect_ai", "inspect")
@pytest.mark.filterwarnings("default")
def test_a_task_of_inspect() -> None:
    path = written("tasks.py", TASK)
    [sums] = read_source(f"{path}@sums")
    assert (sums.right_answers, sums.grader) == (("2", "two"), "exact")
    [options] = read_source(f"{path}@options")
    assert (options.answer, options.grader) == ("B) Paris", "choice")
    with pytest.raises(ConfigError, match=r"No grader stands for .*f1"):
        read_source(f"{path}@strange")
    assert read_source(f"{path}@strange", default_grader="numeric")[0].grader == "numeric"
    with pytest.raises(DataError, match="holds 3 tasks"):
        read_source(path)
    with pytest.raises(DataError, match="cannot be loaded"):
        read_source(written("broken.py", "from inspect_ai import task\n1 / 0\n@task\ndef t(): ..."))


@pytest.mark.parametrize(
    ("source", "library"), [("hf:some/set", "datasets"), ("inspect:some_task", "inspect_ai")]
)
def test_an_extra_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, source: str, library: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    if library == "inspect_ai":
        monkeypatch.setitem(__import__("sys").modules, "inspect_ai._eval.loader", None)
    with pytest.raises(ConfigError, match="pip install 'conclave-coe"):
        read_source(source)
