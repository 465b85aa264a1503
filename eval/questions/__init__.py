"""Question sets: files of questions with reference answers, and the shipped ones.

A file is JSONL, one object a line: ``question`` and ``answer``; optionally ``skill``, ``split``
(train, val, test), ``grader``, ``id``, ``options`` to choose from, and ``also_right``, other
answers that are as right. Other kinds of sources are in ``sources``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from eval.graders import grader, needs_judge
from eval.outcomes.readers.answers import with_choices
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
    """``choice`` where there are options and nothing is said."""
    options: tuple[Text, ...] = Field(default=(), max_length=26)
    """Put below the question, lettered. The answer is one of them, its letter, or its number from
    0 on; it is kept as letter and text."""
    id: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _choosing(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or not fields.get("options"):
            return fields
        options = [str(o) for o in fields["options"]]
        answer = lettered(fields.get("answer"), options)
        return {"grader": "choice", **fields, "options": options, "answer": answer}

    @property
    def prompt(self) -> str:
        """What is asked: the question, with its options if it has any."""
        if not self.options:
            return self.question
        return with_choices(self.question, list(self.options), ")")

    @property
    def query_id(self) -> str:
        """Given, or made of the prompt: asking the same again is the same query."""
        return self.id or f"q-{hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()}"

    @property
    def right_answers(self) -> tuple[str, ...]:
        return (self.answer, *self.also_right)

    def score(self, answer: str) -> float:
        """In [0, 1]: the best that the grader gives against any of the right answers."""
        grade = grader(self.grader)
        return max(grade(answer, right) for right in self.right_answers)

    @property
    def messages(self) -> tuple[Message, ...]:
        return (Message(role="user", content=self.prompt),)

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


def lettered(answer: object, options: Sequence[str]) -> str:
    """An answer among options, as letter and text. Raises ValueError for one that is none.

    >>> lettered("Paris", ["Lyon", "Paris"]), lettered("b", ["Lyon", "Paris"])
    ('B) Paris', 'B) Paris')
    >>> lettered(0, ["Lyon", "Paris"])
    'A) Lyon'
    """
    told = str(answer).strip()
    places = [i for i, option in enumerate(options) if option.strip() == told]
    if not places and len(told) == 1 and told.isalpha():
        places = [ord(told.upper()) - ord("A")]
    elif not places and (match := re.match(r"([A-Z])[).] (.+)", told, re.S)):
        places = [i for i, option in enumerate(options) if option.strip() == match[2].strip()]
    elif not places and told.isdecimal():
        places = [int(told)]
    if len(places) != 1 or not 0 <= places[0] < len(options):
        raise ValueError(f"the answer {told!r} is not one of the options {list(options)}")
    return f"{chr(ord('A') + places[0])}) {options[places[0]]}"


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
        where = f"{name}, line {i}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error}).") from None
        form = 'A line reads {"question": "...", "answer": "...", "skill": "..."}.'
        questions.append(question_of(fields, where, form))
    if not questions:
        raise DataError(f"{name} holds no questions.")
    return questions


def question_of(fields: Any, where: str, form: str) -> Question:
    """A question of fields from outside; ``where`` and ``form`` are for the error.

    Raises DataError for what is no question, and for an unknown grader.
    """
    try:
        question = Question.model_validate(fields)
        if not needs_judge(question.grader):
            grader(question.grader)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "line"
        raise DataError(f"{where}: {place}: {problem['msg']}. {form}") from None
    except ConclaveError as error:
        raise DataError(f"{where}: {error}") from None
    return question


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
