"""Question sets: the shipped ones are what they claim, and files are read with care."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.questions import handwritten, lab_questions, read_questions
from experts.errors import DataError
from experts.lab.questions import SKILLS
from skills.taxonomy import Taxonomy


def test_handwritten_questions_cover_all_categories() -> None:
    taxonomy = Taxonomy.load()
    asked = handwritten("test")
    assert len(asked) >= 20
    assert {taxonomy.category_of[str(q.skill)] for q in asked} == set(taxonomy.categories)
    assert not {q.question for q in asked} & {q.question for q in handwritten("val")}


def test_generated_questions_are_as_many_as_asked_and_none_twice() -> None:
    asked = lab_questions(3, "test", held_out_wording=True, seed=0)
    assert len(asked) == len({q.question for q in asked}) == 3 * len(SKILLS)
    assert asked == lab_questions(3, "test", held_out_wording=True, seed=0)


def test_the_same_question_has_the_same_id() -> None:
    one, two = (lab_questions(1, "val", held_out_wording=False, seed=5)[0] for _ in range(2))
    assert one.query_id == two.query_id


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no questions"),
        ("{", "line 1: not JSON"),
        ('{"question": "", "answer": "x"}', "line 1: question"),
        ('{"question": "x", "answer": "y", "skil": "z"}', "line 1: skil: Extra inputs"),
        ('{"question": "x", "answer": "y", "grader": "exat"}', "Did you mean 'exact'"),
        ('{"question": "x", "answer": "y", "split": "dev"}', "line 1: split"),
        ('{"question": "x", "answer": "y", "skill": ""}', "line 1: skill"),
        (r'{"question": "x", "answer": "y", "id": "\ud800"}', "lone surrogate"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_questions(path)
