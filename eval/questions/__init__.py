"""Question sets: files of questions with reference answers, and the shipped ones.

A file is JSONL, one object a line: ``question`` and ``answer``; optionally ``skill``, ``split``
(train, val, test), ``grader``, ``id``, and ``also_right``, other answers that are as right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from eval.graders import grader
from experts.errors import ConclaveError, DataError
from experts.lab.questions import SKILLS, LabQuestion, draw_question
from experts.lab.questions.skill import Split
from experts.values import Arm, Call, Message, Query, Sampling, encodable

GREEDY = Sampling()


Text = Annotated[str, AfterValidator(encodable), Field(min_length=1)]


class Question(BaseModel):
    """A question with its reference answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Text
    answer: Text
    also_right: tuple[Text, ...] = ()
    """Other answers that are as right."""
    skill: Text | None = None
    split: Split | None = None
    grader: str = "exact"
    id: Text | None = None

    @property
    def query_id(self) -> str:
        """Given, or made of the question's text: asking the same again is the same query."""
        return self.id or f"q-{hashlib.blake2b(self.question.encode(), digest_size=8).hexdigest()}"

    @property
    def right_answers(self) -> tuple[str, ...]:
        return (self.answer, *self.also_right)

    def score(self, answer: str) -> float:
        """In [0, 1]: the best that the grader gives against any of the right answers."""
        grade = grader(self.grader)
        return max(grade(answer, right) for right in self.right_answers)

    @property
    def messages(self) -> tuple[Message, ...]:
        return (Message(role="user", content=self.question),)

    def query(self, fallback_price_usd: float) -> Query:
        """The question as it is put to the whole system."""
        return Query(
            query_id=self.query_id,
            messages=self.messages,
            fallback_price_usd=fallback_price_usd,
        )

    def call(self, arm: Arm, sampling: Sampling = GREEDY, *, sample: int = 0) -> Call:
        """The question as it is put to one arm, to record what comes of it."""
        return Call(
            query_id=self.query_id,
            arm=arm,
            messages=self.messages,
            sampling=sampling,
            sample=sample,
            purpose="record",
        )


def read_questions(path: Path) -> list[Question]:
    """All questions of a JSONL file.

    Raises DataError that names the line, what is wrong with it, and what a line should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return parse_questions(lines, str(path))


def parse_questions(lines: Iterable[str], name: str) -> list[Question]:
    """Questions of JSON lines; ``name`` is what errors call the source."""
    questions: list[Question] = []
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = Question.model_validate(json.loads(line))
            grader(question.grader)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {i}: not JSON ({error}).") from None
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "line"
            raise DataError(
                f"{name}, line {i}: {place}: {problem['msg']}. A line reads "
                '{"question": "...", "answer": "...", "skill": "..."}.'
            ) from None
        except ConclaveError as error:
            raise DataError(f"{name}, line {i}: {error}") from None
        questions.append(question)
    if not questions:
        raise DataError(f"{name} holds no questions.")
    return questions


def handwritten(split: Split) -> list[Question]:
    """Questions written by hand, which no template made: ``val`` to look at, ``test`` to report."""
    text = files("eval.questions").joinpath("handwritten.jsonl").read_text(encoding="utf-8")
    questions = parse_questions(text.splitlines(), "handwritten.jsonl")
    return [q for q in questions if q.split == split]


def lab_questions(
    n: int, split: Split, *, held_out_wording: bool, seed: int, skills: Sequence[str] | None = None
) -> list[Question]:
    """``n`` generated questions of each lab skill, none of them twice."""
    rng = Random(f"{seed}/{split}/{held_out_wording}")
    drawn: list[Question] = []
    for skill in SKILLS:
        if skills is not None and skill.name not in skills:
            continue
        texts: dict[str, LabQuestion] = {}
        while len(texts) < n:
            question = draw_question(skill, rng, split, held_out_wording=held_out_wording)
            texts[question.text] = question
        drawn += [as_question(q, split) for q in texts.values()]
    return drawn


def as_question(question: LabQuestion, split: Split) -> Question:
    """A generated question as one of a set."""
    return Question(
        question=question.text,
        answer=question.answer,
        skill=question.skill,
        split=split,
        grader="exact_case" if question.case_matters else "exact",
    )
